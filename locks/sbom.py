"""Writes the bill of materials of a lock file: CycloneDX 1.6, JSON, the same bytes for the same lock.

    python locks/sbom.py                      locks/device.cdx.json, of what a device installs
    python locks/sbom.py dev --out FILE       of another lock
    python locks/sbom.py --learn              adds licences of what is installed here to locks/licences.json
    python locks/sbom.py --check              exit code 1 when locks/device.cdx.json is not that of the lock

Needs `cyclonedx-python-lib[json-validation]` (extra `dev`), no network: versions, markers and hashes are those
of the lock, licences those of licences.json, which come from the metadata of installed packages.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).resolve().parent
LICENCES = HERE / "licences.json"
_SHORT = 100


@dataclass(frozen=True)
class Locked:
    """A package of a lock: its name, version, the marker under which it is installed, and the hashes of its files."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]


def locked(text: str) -> Iterator[Locked]:
    """Read a lock file."""
    from packaging.requirements import Requirement

    for line in text.replace("\\\n", " ").splitlines():
        stated, *hashes = line.split(" --hash=")
        if not stated.strip() or stated.startswith("#"):
            continue
        requirement = Requirement(stated.strip())
        (pinned,) = requirement.specifier
        yield Locked(
            normal(requirement.name),
            pinned.version,
            str(requirement.marker or ""),
            tuple(sorted(each.strip().removeprefix("sha256:") for each in hashes)),
        )


def normal(name: str) -> str:
    """A package's name as PEP 503 writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licence_of(found: metadata.PackageMetadata) -> str:
    """What a package's metadata say of its licence; empty when they do not, or only by a long text."""
    stated = found.get("License-Expression") or ""
    classified = [
        each.rpartition(" :: ")[2]
        for each in found.get_all("Classifier") or []
        if each.startswith("License :: ") and each != "License :: OSI Approved"
    ]
    free = (found.get("License") or "").strip()
    return str(stated or (free if 0 < len(free) <= _SHORT and "\n" not in free else "") or " AND ".join(classified))


def learn() -> int:
    """Add the licences of the packages that are installed here; returns how many are new."""
    known: dict[str, str] = json.loads(LICENCES.read_text()) if LICENCES.exists() else {}
    before = dict(known)
    wanted = {each.name for name in ("device", "dev", "train") for each in locked(_read(name))}
    for found in metadata.distributions():
        name = normal(found.metadata["Name"])
        licence = licence_of(found.metadata)
        if name in wanted and licence:
            known[name] = licence
    LICENCES.write_text(json.dumps(dict(sorted(known.items())), indent=1, ensure_ascii=False) + "\n")
    return len(known.keys() - before.keys())


def document(lock: str) -> str:
    """The bill of materials of a lock, as JSON."""
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentScope, ComponentType
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL

    text = _read(lock)
    licences: dict[str, str] = json.loads(LICENCES.read_text())
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    direct = {normal(re.split(r"[\[<>=!~; ]", each, maxsplit=1)[0]) for each in project["dependencies"]}
    root = Component(
        name=project["name"],
        version=project.get("version") or _version(),
        type=ComponentType.APPLICATION,
        bom_ref=project["name"],
        licenses=[LicenseFactory().make_from_string("Apache-2.0")],
    )
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_OID, f"{project['name']} {lock} {text}"))
    bom.metadata.component = root
    for each in locked(text):
        purl = PackageURL("pypi", None, each.name, each.version)
        component = Component(
            name=each.name,
            version=each.version,
            type=ComponentType.LIBRARY,
            bom_ref=str(purl),
            purl=purl,
            scope=ComponentScope.OPTIONAL if each.marker else ComponentScope.REQUIRED,
            licenses=[LicenseFactory().make_from_string(licences[each.name])] if each.name in licences else [],
            external_references=[
                ExternalReference(
                    type=ExternalReferenceType.DISTRIBUTION,
                    url=XsUri(str(purl)),
                    comment="the files that the lock allows",
                    hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in each.hashes],
                )
            ],
            properties=[Property(name="leukoscope:marker", value=each.marker)] if each.marker else [],
        )
        bom.components.add(component)
        bom.register_dependency(root, [component] if each.name in direct else [])
    made: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    # When, and by which version of the library, it was written says nothing of what is in it.
    for noise in ("timestamp", "tools"):
        made["metadata"].pop(noise, None)
    return json.dumps(made, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def faults(text: str) -> str:
    """What the schema of CycloneDX says against a document; empty when nothing."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    found = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    return "" if found is None else str(found)


def _read(lock: str) -> str:
    return (HERE / f"{lock}.txt").read_text(encoding="utf-8")


def _version() -> str:
    text = (HERE.parent / "edge" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'__version__ = "([^"]+)"', text)
    assert found is not None  # noqa: S101 - the package's own file
    return found.group(1)


def main() -> int:
    """Write, check or learn."""
    parser = argparse.ArgumentParser(description="Bill of materials of a lock file (CycloneDX 1.6).")
    parser.add_argument("lock", nargs="?", default="device", choices=("device", "dev", "train"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--learn", action="store_true")
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    if given.learn:
        sys.stdout.write(f"{learn()} new licences\n")
    out = given.out or HERE / f"{given.lock}.cdx.json"
    made = document(given.lock)
    if problem := faults(made):
        sys.stderr.write(f"not valid: {problem}\n")
        return 1
    if given.check:
        current = out.exists() and out.read_text(encoding="utf-8") == made
        sys.stderr.write("" if current else f"{out} is not that of the lock; run: python locks/sbom.py\n")
        return 0 if current else 1
    out.write_text(made, encoding="utf-8")
    components = json.loads(made)["components"]
    without = [each["name"] for each in components if not each.get("licenses")]
    sys.stdout.write(f"{out}: {len(components)} packages, without a known licence: {', '.join(without) or 'none'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The bill of materials: what the lock says, in a form that others can read, and the same each time."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("cyclonedx", reason="cyclonedx-python-lib is not installed")
pytest.importorskip("packaging")

LOCKS = Path(__file__).resolve().parents[2] / "locks"


@pytest.fixture(scope="module")
def sbom() -> ModuleType:
    specification = importlib.util.spec_from_file_location("sbom", LOCKS / "sbom.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["sbom"] = module  # dataclasses look there
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def made(sbom: ModuleType) -> str:
    return str(sbom.document("device"))


def test_it_is_valid_and_a_validator_would_notice(sbom: ModuleType, made: str) -> None:
    assert sbom.faults(made) == ""
    wrong = json.loads(made)
    wrong["components"][0]["licences"] = "spelt as the British do"
    assert sbom.faults(json.dumps(wrong))


def test_it_is_that_of_the_lock_and_the_same_each_time(sbom: ModuleType, made: str) -> None:
    assert sbom.document("device") == made
    kept = (LOCKS / "device.cdx.json").read_text(encoding="utf-8")
    assert kept == made, "the lock has changed: run `python locks/sbom.py`"
    assert not re.search(r'"timestamp"|20\d\d-\d\d-\d\dT', made)


def test_it_holds_every_package_with_its_hashes_and_licence(sbom: ModuleType, made: str) -> None:
    lock = (LOCKS / "device.txt").read_text(encoding="utf-8")
    stated = re.findall(r"^([a-z0-9.-]+)==([^ ]+)", lock, re.M)
    document = json.loads(made)
    assert sorted((each["name"], each["version"]) for each in document["components"]) == sorted(stated)
    hashes = [each["content"] for part in document["components"] for each in part["externalReferences"][0]["hashes"]]
    assert sorted(hashes) == sorted(re.findall(r"sha256:([0-9a-f]{64})", lock)) and len(hashes) > 500
    licences = {each["name"]: each.get("licenses") for each in document["components"]}
    assert licences["msgspec"] == [{"license": {"acknowledgement": "declared", "id": "BSD-3-Clause"}}] or "BSD" in str(
        licences["msgspec"]
    )
    # Without one are only those that no installation of the tests has: other systems, older Pythons.
    assert {name for name, licence in licences.items() if not licence} <= {"colorama", "exceptiongroup", "tomli"}
    (root,) = [each for each in document["dependencies"] if each["ref"] == "leukoscope"]
    assert any(each.startswith("pkg:pypi/numpy@") for each in root["dependsOn"])


@pytest.mark.parametrize("name", ["dev", "train"])
def test_the_other_locks_are_read_whole(sbom: ModuleType, name: str) -> None:
    lock = (LOCKS / f"{name}.txt").read_text(encoding="utf-8")
    found = list(sbom.locked(lock))
    assert len(found) == lock.count("==") - len(re.findall(r"[a-z_]+ == '", lock)) > 100
    assert all(each.hashes and each.version for each in found)

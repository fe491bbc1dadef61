"""The archive of a bundle, and the schema of its manifest."""

from __future__ import annotations

import errno
import json
import os
import re
import tarfile
from pathlib import Path

import bundles
import pytest

from edge.bundle import archive, find, manifest, schema, verify
from edge.core.errors import BundleError, StoreError

ROOT = Path(__file__).resolve().parents[2]


def test_the_shipped_bundle_goes_through_an_archive_and_comes_out_the_same(tmp_path: Path) -> None:
    folder = find.default()
    made = archive.write(folder, tmp_path / "made.tar")
    assert made == archive.read(tmp_path / "made.tar") == archive.unpack(tmp_path / "made.tar", tmp_path / "out")
    assert made.sha256 == bundles.sha256((tmp_path / "made.tar").read_bytes())
    assert made.size == (tmp_path / "made.tar").stat().st_size
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(archive.members(made.manifest))
    for path in (tmp_path / "out").iterdir():
        assert path.read_bytes() == (folder / path.name).read_bytes()
    verify.require_files(made.manifest, tmp_path / "out")


def test_the_same_bundle_gives_the_same_bytes_whoever_and_whenever(tmp_path: Path) -> None:
    first, second = bundles.build(tmp_path / "first"), bundles.build(tmp_path / "second")
    for number, path in enumerate(sorted(second.iterdir(), reverse=True)):
        path.chmod(0o600)
        os.utime(path, (number, number))
    (second / "notes.txt").write_text("stays behind")
    archive.write(first, tmp_path / "first.tar")
    archive.write(second, tmp_path / "second.tar")
    assert (tmp_path / "first.tar").read_bytes() == (tmp_path / "second.tar").read_bytes()


def test_any_tar_program_opens_it(tmp_path: Path) -> None:
    archive.write(bundles.build(tmp_path / "bundle"), tmp_path / "made.tar")
    with tarfile.open(tmp_path / "made.tar") as opened:
        names = opened.getnames()
        assert names[0] == "manifest.json" and names[1:] == sorted(names[1:])
        assert {(member.mode, member.mtime, member.uid, member.gid) for member in opened} == {(0o644, 0, 0, 0)}


def test_a_bundle_that_is_not_whole_is_not_archived(tmp_path: Path) -> None:
    folder = bundles.build(tmp_path / "bundle")
    (folder / "model_card.md").write_text("another")
    with pytest.raises(BundleError):
        archive.write(folder, tmp_path / "made.tar")
    assert not (tmp_path / "made.tar").exists()


def test_unpacking_needs_a_new_folder(tmp_path: Path) -> None:
    archive.write(bundles.build(tmp_path / "bundle"), tmp_path / "made.tar")
    (tmp_path / "there").mkdir()
    with pytest.raises(StoreError):
        archive.unpack(tmp_path / "made.tar", tmp_path / "there")
    assert not list((tmp_path / "there").iterdir())


def test_a_full_disk_leaves_no_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = bundles.build(tmp_path / "bundle")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(StoreError) as caught:
        archive.write(folder, tmp_path / "made.tar")
    assert caught.value.code == "disk-full"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_the_schema_in_the_docs_is_current() -> None:
    kept = ROOT / "docs" / "manifest.schema.json"
    assert kept.read_text() == schema.text(), "run: leuko model schema --out docs/manifest.schema.json"


def test_the_schema_describes_the_shipped_manifest() -> None:
    """Walks the schema by hand, as far as it goes: keys, required keys, patterns and numbers."""
    document = json.loads(schema.text())
    value = json.loads((find.default() / "manifest.json").read_bytes())
    assert check(value, document, document) == []
    assert check({**value, "extra": 1}, document, document)
    assert check({**value, "name": "../x"}, document, document)
    assert check({**value, "golden": {**value["golden"], "tolerance": 0}}, document, document)


def check(value: object, rule: dict, whole: dict, where: str = "$") -> list[str]:
    """A small validator for what the schema uses."""
    if "$ref" in rule:
        return check(value, whole["$defs"][rule["$ref"].rpartition("/")[2]], whole, where)
    if "anyOf" in rule:
        tried = [check(value, each, whole, where) for each in rule["anyOf"]]
        return [] if [] in tried else tried[0]
    faults = []
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "null": type(None)}
    kinds["boolean"] = bool
    if "enum" in rule and value not in rule["enum"]:
        faults.append(f"{where}: {value!r} not among {rule['enum']}")
    if "type" in rule and not isinstance(value, kinds[rule["type"]]):
        return [f"{where}: not {rule['type']}"]
    if isinstance(value, str) and not re.search(rule.get("pattern", ""), value):
        faults.append(f"{where}: {value[:40]!r}")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        bounds = [value >= rule.get("minimum", value), value <= rule.get("maximum", value)]
        bounds += [value > rule.get("exclusiveMinimum", value - 1), value < rule.get("exclusiveMaximum", value + 1)]
        faults += [] if all(bounds) else [f"{where}: {value}"]
    if isinstance(value, dict):
        known = rule.get("properties", {})
        faults += [f"{where}: {key} missing" for key in rule.get("required", ()) if key not in value]
        for key, inner in value.items():
            below = known.get(key, rule.get("additionalProperties", True))
            if below is False:
                faults.append(f"{where}: {key} unknown")
            elif isinstance(below, dict):
                faults += check(inner, below, whole, f"{where}.{key}")
    if isinstance(value, list):
        for number, inner in enumerate(value):
            below = rule.get("items", {})
            faults += check(inner, below if isinstance(below, dict) else {}, whole, f"{where}[{number}]")
    return faults


def test_the_new_keys_are_optional_and_kept(tmp_path: Path) -> None:
    folder = bundles.build(tmp_path / "bundle")
    assert manifest.load(folder).device_classes == () and manifest.load(folder).envelope is None
    envelope = {
        "modifications": "retraining on more sites",
        "protocol": "the protocol of the model card",
        "impact": "calls may change near the threshold",
        "recall_drop": 0.02,
        "balanced_accuracy_drop": 0.01,
    }
    bundles.rewrite(folder, lambda values: values.update(device_classes=["raspberry-pi-5"], envelope=envelope))
    found = manifest.load(folder)
    assert found.device_classes == ("raspberry-pi-5",)
    assert found.envelope is not None and found.envelope.recall_drop == 0.02 and not found.envelope.preprocessing
    assert manifest.parse(manifest.dump(found)) == found

"""Bundles made to harm: each is refused with an error of ours, quickly, and touches nothing outside its folder."""

from __future__ import annotations

import io
import json
import os
import random
import resource
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bundles
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.bundle import files, golden, manifest, verify
from edge.core.errors import BundleError, LeukoError
from edge.inference import negotiate

pytest.importorskip("ai_edge_litert")

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return bundles.build(tmp_path / "bundle")


def refused(folder: Path) -> BundleError:
    with pytest.raises(BundleError) as caught:
        manifest.load(folder)
    assert caught.value.cure
    return caught.value


NAMES = [
    "../secret",
    "..",
    ".",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "..\\a",
    "",
    " ",
    "-rf",
    ".hidden",
    "a\0b",
    "a\n",
    "name\u202egpj",
    "C:evil",
    "~root",
    "a" * 101,
    "\u0430.npz",
    "manifest.json",
    "MANIFEST.JSON",
]


@pytest.mark.parametrize("name", NAMES, ids=repr)
@pytest.mark.parametrize("place", ["variant", "golden", "model_card"])
def test_a_file_name_is_a_plain_name(folder: Path, name: str, place: str) -> None:
    def change(values: dict[str, Any]) -> None:
        (values["variants"][0] if place == "variant" else values[place])["file"] = name

    bundles.rewrite(folder, change)
    assert refused(folder).code == "manifest-invalid"


CHANGES: dict[str, Change] = {
    "unknown key": lambda m: m.update(extra=1),
    "unknown key inside": lambda m: m["preprocessing"].update(gamma=1),
    "key missing": lambda m: m.pop("calibration"),
    "future schema": lambda m: m.update(schema_version=2),
    "schema as text": lambda m: m.update(schema_version="1"),
    "schema as a boolean": lambda m: m.update(schema_version=True),
    "no variants": lambda m: m.update(variants=[]),
    "too many variants": lambda m: m.update(variants=m["variants"] * 17),
    "a variant twice": lambda m: m["variants"].append({**m["variants"][0], "file": "b.tflite"}),
    "a file in two places": lambda m: m["golden"].update(file=m["variants"][0]["file"]),
    "a file in two places by case": lambda m: m["golden"].update(file=m["variants"][0]["file"].upper()),
    "unknown runtime": lambda m: m["variants"][0].update(runtime="os:system"),
    "unknown precision": lambda m: m["variants"][0].update(precision="int4"),
    "no size": lambda m: m["variants"][0].update(size=0),
    "negative size": lambda m: m["variants"][0].update(size=-1),
    "huge size": lambda m: m["variants"][0].update(size=1 << 62),
    "size beyond 64 bits": lambda m: m["variants"][0].update(size=1 << 80),
    "short hash": lambda m: m["variants"][0].update(sha256="00"),
    "upper-case hash": lambda m: m["variants"][0].update(sha256="A" * 64),
    "labels swapped": lambda m: m.update(labels=[*m["labels"][1::-1], *m["labels"][2:]]),
    "five labels": lambda m: m["labels"].pop(),
    "seven labels": lambda m: m["labels"].append("blast"),
    "name with a path": lambda m: m.update(name="../wbc"),
    "name with a line break": lambda m: m.update(name="wbc\n"),
    "name empty": lambda m: m.update(name=""),
    "version free text": lambda m: m.update(version="latest"),
    "version with markup": lambda m: m.update(version="1.0.0-<b>"),
    "crop size 0": lambda m: m["preprocessing"].update(size=0),
    "crop size huge": lambda m: m["preprocessing"].update(size=100_000),
    "margin 0": lambda m: m["preprocessing"].update(margin=0),
    "scale 0": lambda m: m["preprocessing"].update(scale=0),
    "interpolation other": lambda m: m["preprocessing"].update(interpolation="nearest"),
    "temperature 0": lambda m: m["calibration"].update(temperature=0),
    "temperature negative": lambda m: m["calibration"].update(temperature=-1),
    "threshold above 1": lambda m: m["calibration"].update(abstention_threshold=1.01),
    "tolerance 0": lambda m: m["golden"].update(tolerance=0),
    "tolerance so wide that all passes": lambda m: m["golden"].update(tolerance=1e9),
    "figure above 1": lambda m: m["figures"][0].update(macro_f1=1.2),
    "recall outside its interval": lambda m: m["figures"][0]["recall"]["neutrophil"].update(value=0.9),
    "recall of an unknown class": lambda m: m["figures"][0]["recall"].update(
        blast=m["figures"][0]["recall"]["neutrophil"]
    ),
    "terminal escape": lambda m: m.update(limits="\x1b]0;owned\x07\x1b[2J"),
    "writing direction": lambda m: m.update(intended_use="use \u202eesoppus"),
    "carriage return": lambda m: m["data"][0].update(licence="GPL\rCC0"),
    "lone surrogate": lambda m: m.update(limits="\ud800"),
    "endless text": lambda m: m.update(limits="x" * 20_001),
    "date free text": lambda m: m.update(created="yesterday"),
    "commit not a hash": lambda m: m.update(training_commit="HEAD; rm -rf ~"),
    "null where a text belongs": lambda m: m.update(name=None),
    "a list for an object": lambda m: m.update(preprocessing=[]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_a_manifest_that_says_what_it_may_not_is_refused(folder: Path, change: Change) -> None:
    bundles.rewrite(folder, change)
    assert refused(folder).code == "manifest-invalid"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"{}}",
        b"\xff\xfe{\0}\0",
        b"\xef\xbb\xbf{}",
        b'{"name": "\xff"}',
        b'{"calibration": {"temperature": NaN}}',
        b'{"calibration": {"temperature": 1e999}}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"figures": ' + b"[" * 100_000,
        b"PK\x03\x04",
    ],
    ids=lambda text: repr(text[:24]),
)
def test_what_is_no_manifest_is_refused(folder: Path, text: bytes) -> None:
    (folder / "manifest.json").write_bytes(text)
    assert refused(folder).code == "manifest-invalid"


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
@pytest.mark.parametrize("key", ["scale", "offset", "margin"])
def test_numbers_that_are_none_are_refused(folder: Path, key: str, value: str) -> None:
    values = bundles.document(folder)
    values["preprocessing"][key] = "@"
    (folder / "manifest.json").write_text(json.dumps(values).replace('"@"', value))
    assert refused(folder).code == "manifest-invalid"


def test_a_manifest_larger_than_any_is_not_read(folder: Path) -> None:
    with (folder / "manifest.json").open("r+b") as stream:
        stream.truncate(manifest.MAX_MANIFEST_BYTES + 1)
    assert refused(folder).code == "bundle-file-too-large"


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(0, 2**32))
def test_a_manifest_damaged_anywhere_is_read_right_or_refused(folder: Path, seed: int) -> None:
    luck = random.Random(seed)
    good = (folder / "manifest.json").read_bytes()
    bad = bytearray(good)
    for _ in range(luck.randint(1, 4)):
        place = luck.randrange(len(bad))
        bad[place : place + luck.choice([0, 1, 1, 1, 30])] = luck.randbytes(luck.choice([0, 1, 1, 4]))
    try:
        found = manifest.parse(bytes(bad))
    except BundleError as error:
        assert error.code == "manifest-invalid"
    else:
        assert manifest.parse(manifest.dump(found)) == found
        assert (found.sha256 == manifest.parse(good).sha256) == (bytes(bad) == good)


# Files that are not files.


@pytest.mark.parametrize("name", ["manifest.json", "network-int8.tflite", "golden.npz"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "zero device", "loop", "dangling", "socket name"])
def test_what_is_no_regular_file_neither_hangs_nor_feeds(folder: Path, name: str, kind: str) -> None:
    path = folder / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "zero device":
        path.symlink_to("/dev/zero")
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "dangling":
        path.symlink_to(folder / "absent")
    else:
        import socket

        here = Path.cwd()
        os.chdir(folder)
        try:
            with socket.socket(socket.AF_UNIX) as end:
                end.bind(name)
        finally:
            os.chdir(here)
    with pytest.raises(BundleError):
        verify.require_files(manifest.load(folder), folder)


def test_a_sparse_giant_in_place_of_a_network_is_not_hashed(folder: Path) -> None:
    with (folder / "network-int8.tflite").open("r+b") as stream:
        stream.truncate(1 << 40)
    (check,) = (check for check in verify.check_files(manifest.load(folder), folder) if not check.ok)
    assert "at most" in check.fault


def test_no_descriptor_is_left_open(folder: Path) -> None:
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    (folder / "model_card.md").unlink()
    (folder / "model_card.md").mkdir()
    before = count()
    for _ in range(50):
        verify.check_files(manifest.load(folder), folder)
    assert count() == before


# Golden vectors made to harm. The attacker states their hash, so only reading them can tell.


def npy(header: str, body: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    text = header.encode("latin1") + b"\n"
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text + body


def array(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def archive(members: list[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in members:
            made.writestr(name, data)
    return buffer.getvalue()


INPUTS = array(np.zeros((2, 16, 16, 3), np.uint8))
LOGITS = array(np.eye(2, 6, dtype=np.float32))
PICKLE = b"cos\nsystem\n(S'touch OWNED'\ntR."

GOLDEN: dict[str, bytes] = {
    "empty": b"",
    "text": b"hello",
    "a bare array": INPUTS,
    "a bare pickle": PICKLE,
    "no members": archive([]),
    "one member": archive([("inputs.npy", INPUTS)]),
    "a member too many": archive([("inputs.npy", INPUTS), ("logits.npy", LOGITS), ("run.py", b"1")]),
    "a member twice": archive([("inputs.npy", INPUTS), ("logits.npy", LOGITS), ("inputs.npy", INPUTS)]),
    "a path for a name": archive([("../inputs.npy", INPUTS), ("logits.npy", LOGITS)]),
    "a pickle inside": archive([("inputs.npy", PICKLE), ("logits.npy", LOGITS)]),
    "objects": archive(
        [
            ("inputs.npy", npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", PICKLE)),
            ("logits.npy", LOGITS),
        ]
    ),
    "terabytes claimed": archive(
        [
            ("inputs.npy", npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000000, 3), }")),
            ("logits.npy", LOGITS),
        ]
    ),
    "overflowing shape": archive(
        [
            ("inputs.npy", npy("{'descr': '|u1', 'fortran_order': False, 'shape': (4294967296, 4294967296, 4), }")),
            ("logits.npy", LOGITS),
        ]
    ),
    "negative shape": archive(
        [
            ("inputs.npy", npy("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 16, 16, 3), }")),
            ("logits.npy", LOGITS),
        ]
    ),
    "code for a header": archive(
        [("inputs.npy", npy("__import__('os').system('touch OWNED')")), ("logits.npy", LOGITS)]
    ),
    "nested header": archive([("inputs.npy", npy("(" * 9000)), ("logits.npy", LOGITS)]),
    "unfinished header": archive([("inputs.npy", npy("{'descr': ")), ("logits.npy", LOGITS)]),
    "odd dtype": archive(
        [("inputs.npy", npy("{'descr': [('', 4)], 'fortran_order': False, 'shape': (1,), }")), ("logits.npy", LOGITS)]
    ),
    "long header": archive([("inputs.npy", npy(" " * 200_000, version=(2, 0))), ("logits.npy", LOGITS)]),
    "header only": archive([("inputs.npy", INPUTS[:40]), ("logits.npy", LOGITS)]),
    "array cut short": archive([("inputs.npy", INPUTS[:-1]), ("logits.npy", LOGITS)]),
    "no vectors": archive(
        [("inputs.npy", array(np.zeros((0, 16, 16, 3), np.uint8))), ("logits.npy", array(np.zeros((0, 6), np.float32)))]
    ),
    "another size": archive([("inputs.npy", array(np.zeros((2, 17, 16, 3), np.uint8))), ("logits.npy", LOGITS)]),
    "another type": archive([("inputs.npy", array(np.zeros((2, 16, 16, 3)))), ("logits.npy", LOGITS)]),
    "more logits than inputs": archive([("inputs.npy", INPUTS), ("logits.npy", array(np.zeros((3, 6), np.float32)))]),
    "logits that are no numbers": archive(
        [("inputs.npy", INPUTS), ("logits.npy", array(np.full((2, 6), np.nan, np.float32)))]
    ),
    "a compressed bomb": archive([("inputs.npy", bytes(300 << 20)), ("logits.npy", LOGITS)]),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("data", GOLDEN.values(), ids=list(GOLDEN))
def test_golden_vectors_made_to_harm_are_refused(folder: Path, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    bundles.replace_golden(folder, data)
    stated = manifest.load(folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BundleError) as caught:
        golden.load(stated, folder)
    assert caught.value.code == "golden-damaged"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
    assert not (folder / "OWNED").exists()


def test_an_archive_that_lies_about_its_sizes_is_refused(folder: Path) -> None:
    data = bytearray(archive([("inputs.npy", bytes(20 << 20)), ("logits.npy", LOGITS)]))
    place = data.index(b"PK\x01\x02")
    data[place + 24 : place + 28] = struct.pack("<I", 100)
    bundles.replace_golden(folder, bytes(data))
    with pytest.raises(BundleError):
        golden.load(manifest.load(folder), folder)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(0, 2**32))
def test_golden_vectors_damaged_anywhere_are_read_right_or_refused(folder: Path, seed: int) -> None:
    luck = random.Random(seed)
    stated = manifest.load(folder)
    path = folder / "golden.npz"
    good = path.read_bytes()
    bad = bytearray(good)
    for _ in range(luck.randint(1, 3)):
        place = luck.choice([luck.randrange(len(bad)), len(bad) - 1 - luck.randrange(min(len(bad), 300))])
        bad[place : place + luck.choice([1, 1, 8])] = luck.randbytes(luck.choice([1, 1, 8]))
    path.write_bytes(bad)
    try:
        vectors = golden.load(stated, folder)
        assert vectors.inputs.shape[1:] == (16, 16, 3)
    except BundleError as error:
        assert error.code == "golden-damaged"
    finally:
        path.write_bytes(good)


# A network that is stated right but is none.


@pytest.mark.parametrize(
    "data", [b"\0", b"TFL3" * 100, b"\x1c\0\0\0TFL3" + bytes(100), b"\xff" * 5000], ids=lambda d: str(len(d))
)
def test_a_network_that_is_none_ends_in_an_error_of_ours(folder: Path, data: bytes) -> None:
    (folder / "network-int8.tflite").write_bytes(data)
    bundles.rewrite(folder, lambda m: m["variants"][0].update(sha256=bundles.sha256(data), size=len(data)))
    stated = manifest.load(folder)
    verify.require_files(stated, folder)
    with pytest.raises(LeukoError) as caught, negotiate.choose(stated, folder).open(folder):
        pass
    assert caught.value.code == "model-unreadable"


def test_reading_stops_at_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(11))
    assert files.read(path, 11) == bytes(11)
    with pytest.raises(BundleError):
        files.read(path, 10)

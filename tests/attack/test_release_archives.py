"""What stands in a repository's folder, and in archives that are properly signed.

Each is refused with an error of ours, and the device's disk is as it was, byte for byte.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bundles
import pytest
from releases import Device, Lab

pytest.importorskip("tuf")
pytest.importorskip("ai_edge_litert")

from edge.bundle import archive


@pytest.mark.parametrize("name", ["../../../escaped.tar", "/escaped.tar", "a/../../escaped.tar", "..%2fescaped.tar"])
def test_path_traversal_by_a_target_s_name(lab: Lab, device: Device, name: str) -> None:
    lab.release_bytes(b"x" * 600, "1.2.0", name)
    with device.refusing("release-unreachable", "release-incomplete", "archive-invalid"):
        device.install(lab.repo)


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "device"])
def test_what_is_no_file_in_the_repository(lab: Lab, device: Device, kind: str) -> None:
    (path,) = (lab.repo / "targets").glob("*small-1.1.0.tar")
    kept = path.rename(path.with_suffix(".kept"))
    if kind == "link":
        path.symlink_to(kept)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with device.refusing("release-incomplete", "release-unreachable"):
        device.install(lab.repo)


def entry(name: str, **values: Any) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.mode = 0o644
    for key, value in values.items():
        setattr(made, key, value)
    return made


def rebuilt(
    lab: Lab, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], object], form: int = tarfile.USTAR_FORMAT
) -> bytes:
    """The archive of a bundle with its entries changed."""
    folder = lab.bundle("1.2.0")
    archive.write(folder, lab.folder / "made.tar")
    with tarfile.open(lab.folder / "made.tar") as opened:
        entries = [(member, opened.extractfile(member).read()) for member in opened.getmembers()]  # type: ignore[union-attr]
    change(entries)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as made:
        for member, data in entries:
            made.addfile(member, io.BytesIO(data) if member.isreg() else None)
    return buffer.getvalue()


Entries = list[tuple[tarfile.TarInfo, bytes]]


def _rename(place: int, name: str) -> Callable[[Entries], object]:
    return lambda entries: setattr(entries[place][0], "name", name)


def _swap(place: int, **values: Any) -> Callable[[Entries], object]:
    return lambda entries: entries.__setitem__(place, (entry(entries[place][0].name, size=0, **values), b""))


HOSTILE: dict[str, Callable[[Entries], object]] = {
    "path traversal": _rename(1, "../../escaped"),
    "absolute path": _rename(1, "/tmp/escaped"),
    "path inside": _rename(1, "./golden.npz"),
    "symbolic link": _swap(1, type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "hard link": _swap(1, type=tarfile.LNKTYPE, linkname="manifest.json"),
    "device": _swap(1, type=tarfile.CHRTYPE, devmajor=1, devminor=5),
    "pipe": _swap(1, type=tarfile.FIFOTYPE),
    "folder": lambda entries: entries.insert(0, (entry("x/", type=tarfile.DIRTYPE), b"")),
    "one file more": lambda entries: entries.append((entry("extra.bin", size=3), b"abc")),
    "a file twice": lambda entries: entries.append(entries[1]),
    "manifest twice": lambda entries: entries.insert(1, entries[0]),
    "manifest last": lambda entries: entries.append(entries.pop(0)),
    "a file missing": lambda entries: entries.pop(2),
    "other order": lambda entries: entries.insert(1, entries.pop(2)),
    "executable": lambda entries: setattr(entries[1][0], "mode", 0o4755),
    "owned by someone": lambda entries: setattr(entries[1][0], "uid", 1000),
    "long name in an extended header": _rename(1, "a" * 300),
    "content changed": lambda entries: entries.__setitem__(1, (entries[1][0], b"x" * entries[1][0].size)),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=list(HOSTILE))
def test_a_signed_archive_with_something_in_it(lab: Lab, device: Device, change: Any, tmp_path: Path) -> None:
    form = tarfile.GNU_FORMAT if change is HOSTILE["long name in an extended header"] else tarfile.USTAR_FORMAT
    lab.release_bytes(rebuilt(lab, change, form), "1.2.0")
    with device.refusing("archive-invalid"):
        device.install(lab.repo)
    assert not list(tmp_path.rglob("*escaped*")) and not Path("/tmp/escaped").exists()


def test_extended_headers_are_refused(lab: Lab, device: Device) -> None:
    def change(entries: Entries) -> None:
        entries[1][0].pax_headers = {"path": "../../escaped"}

    lab.release_bytes(rebuilt(lab, change, tarfile.PAX_FORMAT), "1.2.0")
    with device.refusing("archive-invalid"):
        device.install(lab.repo)


def _made(lab: Lab) -> bytes:
    archive.write(lab.bundle("1.2.0"), lab.folder / "made.tar")
    return (lab.folder / "made.tar").read_bytes()


def _zip_bomb(_: Lab) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        for number in range(8):
            made.writestr(f"{number}.npy", bytes(32 << 20))
    return buffer.getvalue()


def _huge_claim(lab: Lab) -> bytes:
    header = entry("manifest.json", size=8**11 - 1).tobuf(tarfile.USTAR_FORMAT)
    return header + _made(lab)[512:]


def _binary_size(lab: Lab) -> bytes:
    header = entry("manifest.json", size=1 << 62).tobuf(tarfile.GNU_FORMAT)
    return header + _made(lab)[512:]


SHAPES: dict[str, Callable[[Lab], bytes]] = {
    "zip bomb": _zip_bomb,
    "compressed": lambda lab: gzip.compress(_made(lab)),
    "compressed zeros": lambda _: gzip.compress(bytes(64 << 20)),
    "truncated in a header": lambda lab: _made(lab)[:700],
    "truncated in a file": lambda lab: _made(lab)[:-5000],
    "truncated at its end": lambda lab: _made(lab)[:-1],
    "without its end": lambda lab: _made(lab)[:-1024],
    "something after its end": lambda lab: _made(lab) + b"\0",
    "two archives": lambda lab: _made(lab) * 2,
    "something between files": lambda lab: _made(lab).replace(b"\0" * 512, b"\0" * 511 + b"x", 1),
    "a size of eight gigabytes": _huge_claim,
    "a size in binary": _binary_size,
    "one byte": lambda _: b"x",
    "zeros": lambda _: bytes(10_240),
    "text": lambda _: b"#!/bin/sh\nrm -rf /\n" * 100,
}


@pytest.mark.parametrize("make", SHAPES.values(), ids=list(SHAPES))
def test_signed_bytes_that_are_no_archive(lab: Lab, device: Device, make: Callable[[Lab], bytes]) -> None:
    lab.release_bytes(make(lab), "1.2.0")
    with device.refusing("archive-invalid", "manifest-invalid"):
        device.install(lab.repo)


MANIFESTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "unknown key": lambda m: m.update(execute="rm"),
    "unknown key inside": lambda m: m["golden"].update(url="http://example.org"),
    "absurd size": lambda m: m["variants"][0].update(size=1 << 62),
    "size of another file": lambda m: m["variants"][0].update(size=m["variants"][0]["size"] + 1),
    "negative size": lambda m: m["variants"][0].update(size=-5),
    "path for a name": lambda m: m["golden"].update(file="../golden.npz"),
    "another schema": lambda m: m.update(schema_version=2),
    "device class with a path": lambda m: m.update(device_classes=["../x"]),
    "forty device classes": lambda m: m.update(device_classes=[f"d{number}" for number in range(40)]),
    "envelope without its texts": lambda m: m.update(envelope={"recall_drop": 0.1}),
    "envelope beyond 1": lambda m: m.update(
        envelope={
            **dict.fromkeys(("modifications", "protocol", "impact"), "x"),
            "recall_drop": 2,
            "balanced_accuracy_drop": 0,
        }
    ),
}


@pytest.mark.parametrize("change", MANIFESTS.values(), ids=list(MANIFESTS))
def test_a_signed_archive_with_a_hostile_manifest(lab: Lab, device: Device, change: Any) -> None:
    def damage(entries: Entries) -> None:
        values = json.loads(entries[0][1])
        change(values)
        data = json.dumps(values).encode()
        entries[0] = (entry("manifest.json", size=len(data)), data)

    lab.release_bytes(rebuilt(lab, damage), "1.2.0")
    with device.refusing("manifest-invalid", "archive-invalid"):
        device.install(lab.repo)


def test_a_signed_bomb_in_the_golden_vectors(lab: Lab, device: Device) -> None:
    folder = lab.bundle("1.2.0")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        for name in ("inputs.npy", "logits.npy"):
            made.writestr(name, bytes(160 << 20))
    bundles.replace_golden(folder, buffer.getvalue())
    lab.release("1.2.0")

    def trial(unpacked: Path) -> None:
        from edge.bundle import golden, manifest

        golden.load(manifest.load(unpacked), unpacked)

    with device.refusing("golden-damaged"):
        device.install(lab.repo, trial=trial)


def test_a_signed_network_that_does_not_reproduce_its_vectors(lab: Lab, device: Device) -> None:
    from edge.inference import trial

    folder = lab.bundle("1.2.0")
    with zipfile.ZipFile(folder / "golden.npz") as found:
        members = {name: found.read(name) for name in found.namelist()}
    buffer = io.BytesIO()
    body = bytearray(members["logits.npy"])
    body[-24:] = body[-48:-24]
    with zipfile.ZipFile(buffer, "w") as made:
        made.writestr("inputs.npy", members["inputs.npy"])
        made.writestr("logits.npy", bytes(body))
    bundles.replace_golden(folder, buffer.getvalue())
    lab.release("1.2.0")
    with device.refusing("trial-failed"):
        device.install(lab.repo, trial=trial.prove)

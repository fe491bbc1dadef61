"""Damaged manifests, archives, slot states and roots, for Hypothesis: each is read right or refused with our error.

Used with few examples by tests/property/test_bundle_fuzz.py, with as many as one likes by tests/bench/fuzz_bundle.py.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import bundles
from hypothesis import strategies as st

from edge.bundle import archive, manifest, state, trust
from edge.core.errors import BundleError

_numbers = st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from([0, -1, 1 << 31, 1 << 63, 1e308])
_texts = st.text(max_size=30) | st.sampled_from(
    ["../x", "/etc/passwd", "a\0b", "\u202e", "x" * 30_000, "int8", "a", "b"]
)
_leaves = st.none() | st.booleans() | _numbers | _texts
_values = st.recursive(
    _leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4), max_leaves=8
)
_edits = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "insert", "zero", "move", "double"]),
        st.integers(0, 1 << 20),
        st.integers(1, 1500),
        st.binary(max_size=24),
    ),
    min_size=1,
    max_size=4,
)


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to everything in a JSON document."""
    found = [at] if at else []
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inner:
        found += _places(below, (*at, key))
    return found


@st.composite
def json_documents(draw: st.DrawFn, good: bytes) -> bytes:
    """A sound document in which values are replaced, removed or added, or whose bytes are damaged."""
    if draw(st.integers(0, 3)) == 0:
        return damaged(good, draw(_edits))
    document = json.loads(good)
    for _ in range(draw(st.integers(1, 3))):
        places = _places(document)
        if not places:
            break
        *above, last = draw(st.sampled_from(places))
        parent = document
        for key in above:
            parent = parent[key]
        what = draw(st.sampled_from(["replace", "remove", "add"]))
        if what == "remove":
            del parent[last]
        elif what == "add" and isinstance(parent, dict):
            parent[draw(_texts)] = draw(_values)
        else:
            parent[last] = draw(_values)
    return json.dumps(document, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")


def damaged(good: bytes, edits: list[tuple[str, int, int, bytes]]) -> bytes:
    """Bytes with pieces flipped, cut, inserted, zeroed, moved or doubled, often at the borders of blocks."""
    data = bytearray(good)
    for kind, where, length, new in edits:
        start = where % (len(data) + 1)
        start -= start % 512 if length % 3 == 0 else 0
        end = start + (512 if length % 3 == 0 else length)
        piece = bytes(data[start:end])
        if kind == "flip" and start < len(data):
            data[start] ^= 1 << length % 8
        elif kind == "cut":
            del data[start:end]
        elif kind == "insert":
            data[start:start] = new
        elif kind == "zero":
            data[start:end] = bytes(len(piece))
        elif kind == "move":
            del data[start:end]
            data[length % (len(data) + 1) : length % (len(data) + 1)] = piece
        elif kind == "double":
            data[start:start] = piece
    return bytes(data)


@cache
def _home() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    archive.write(bundles.build(folder / "bundle"), folder / "good.tar")
    return folder


def clean() -> None:
    """Remove what was made to be damaged."""
    import shutil

    if _home.cache_info().currsize:
        shutil.rmtree(_home())
        _home.cache_clear()


def manifests() -> st.SearchStrategy[bytes]:
    return json_documents((_home() / "bundle" / "manifest.json").read_bytes())


def read_manifest(data: bytes) -> bool:
    try:
        found = manifest.parse(data)
    except BundleError as error:
        assert error.code == "manifest-invalid" and error.cure
        return False
    assert manifest.parse(manifest.dump(found)) == found
    return True


_HEADER_FIELDS = [(0, 100), (100, 24), (124, 12), (136, 12), (148, 8), (156, 1), (157, 100), (345, 155)]
"""Offset and length of name, owner, size, time, checksum, type, link and prefix (POSIX ustar)."""


@st.composite
def archives(draw: st.DrawFn) -> bytes:
    good = (_home() / "good.tar").read_bytes()
    if draw(st.integers(0, 2)) == 0:
        # Headers, where it matters most.
        field = draw(st.sampled_from(_HEADER_FIELDS))
        header = draw(st.sampled_from(_headers(good)))
        start, length = header + field[0], field[1]
        new = draw(st.binary(max_size=length)).ljust(draw(st.sampled_from([0, length])), b"\0")
        good = good[:start] + new + good[start + len(new) :]
        if draw(st.booleans()):
            good = _summed(good, header)
        return good
    return damaged(good, draw(_edits))


def _headers(good: bytes) -> list[int]:
    found, place = [], 0
    while any(good[place : place + 512]):
        found.append(place)
        size = int(good[place + 124 : place + 135], 8)
        place += 512 + -(-size // 512) * 512
    return found


def _summed(data: bytes, header: int) -> bytes:
    """With the header's checksum put right."""
    block = data[header : header + 512]
    total = sum(block[:148]) + 8 * 32 + sum(block[156:])
    return data[: header + 148] + f"{total:06o}\0 ".encode() + data[header + 156 :]


def read_archive(data: bytes) -> bool:
    """An archive that is accepted is, byte for byte, the one that its bundle would be archived as."""
    path = _home() / "bad.tar"
    path.write_bytes(data)
    try:
        found = archive.read(path)
    except BundleError as error:
        assert error.code in {"archive-invalid", "manifest-invalid"} and error.cure, error.code
        return False
    assert found.sha256 == bundles.sha256(data)
    assert data == (_home() / "good.tar").read_bytes()
    return True


@cache
def _good_state() -> bytes:
    path = _home() / "state.json"
    record = state.SlotRecord(
        bundle="small@1.0.0", manifest_sha256="0" * 64, archive_sha256="1" * 64, source="stick", installed="2026"
    )
    found = state.State(a=record, b=record, active="a", previous="b", probation=3).having("installed", "small@1.0.0")
    state.save(path, found)
    return path.read_bytes()


def states() -> st.SearchStrategy[bytes]:
    return json_documents(_good_state())


def read_state(data: bytes) -> bool:
    path = _home() / "bad-state.json"
    path.write_bytes(data)
    try:
        found = state.load(path)
    except BundleError as error:
        assert error.code == "slots-damaged" and error.cure
        return False
    assert found.active is None or found.record(found.active) is not None
    return True


@cache
def _good_root() -> bytes:
    from releases import Lab

    lab = Lab.start(_home() / "lab")
    lab.release("1.0.0")
    return lab.root_file().read_bytes()


def roots() -> st.SearchStrategy[bytes]:
    return json_documents(_good_root())


def read_root(data: bytes) -> bool:
    """A root that is accepted says what the good one says: whatever is signed cannot be changed."""
    try:
        found = trust.describe(data, "a root")
    except BundleError as error:
        assert error.code == "root-invalid" and error.cure
        return False
    assert (found.keys, found.version) == (trust.describe(_good_root(), "").keys, 1)
    return True


TARGETS: dict[str, tuple[Callable[[], st.SearchStrategy[bytes]], Callable[[bytes], bool]]] = {
    "manifest": (manifests, read_manifest),
    "archive": (archives, read_archive),
    "state": (states, read_state),
    "root": (roots, read_root),
}

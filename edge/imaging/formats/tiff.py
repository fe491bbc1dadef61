"""TIFF: its directory, read within bounds; which pages it has, and one page as a file of its own.

EXIF is a TIFF directory too, so the orientation of every format is read here. Layout: TIFF 6.0; BigTIFF extension.
A directory may name up to 65,535 tags that each point at the whole file: a decoder that reads them all spends
gigabytes. Here a tag is only looked at when it is needed, and its length is checked first.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Final

from edge.core.errors import InputError
from edge.imaging.formats.container import Container, check_size, damaged, truncated, unsupported

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIP_OFFSETS, ORIENTATION, SAMPLES, STRIP_LENGTHS, PLANES = 273, 274, 277, 279, 284
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_LENGTHS = 322, 323, 324, 325
SUBFILE_TYPE, ROWS_PER_STRIP = 254, 278

_KEPT: Final = frozenset(
    {WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, STRIP_OFFSETS, SAMPLES, STRIP_LENGTHS, PLANES}
    | {TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_LENGTHS}
    | {266, ROWS_PER_STRIP, 292, 293, 317, 320, 338, 339, 347, 529, 530, 532, 50674}
)
"""The tags that a decoder needs: the above, fill order, rows per strip, fax options, predictor, palette, extra
samples, sample format, JPEG tables, the YCbCr description and the LERC parameters."""

_COMPRESSIONS: Final = frozenset({1, 5, 6, 7, 8, 32773, 32946, 34925, 50000, 50001})
"""None, LZW, JPEG, deflate, PackBits, LZMA, Zstandard and WebP. Not among them: fax codes, whose damage the decoder
passes over in silence, and JPEG 2000 (33003, 33005), which whole-slide scanners write."""

_DEPTHS: Final = frozenset({1, 2, 4, 8, 12, 16, 32, 64})

_TYPE_SIZES: Final = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_INTEGER_CODES: Final = {1: "B", 3: "H", 4: "I", 16: "Q"}
_LARGEST_COUNT: Final = 1 << 18
_LARGEST_TILE: Final = 1 << 25
_LARGEST_PAGES: Final = 1000
_LARGEST_ENTRIES: Final = 4096


@dataclass(frozen=True, slots=True)
class Layout:
    """How this file writes numbers: `order` is "<" or ">"; a BigTIFF has 64-bit offsets."""

    order: str
    big: bool

    @property
    def entry_length(self) -> int:
        """Bytes of one directory entry."""
        return 20 if self.big else 12

    @property
    def inline_length(self) -> int:
        """Bytes of a value that is written inside its entry."""
        return 8 if self.big else 4


@dataclass(frozen=True, slots=True)
class Page:
    """One full-size page. `entries` are its raw directory entries by tag, `fault` says why it must not be decoded."""

    layout: Layout
    entries: dict[int, bytes]
    width: int
    height: int
    depth: int
    compression: int
    orientation: int
    white_is_zero: bool
    incomplete: bool
    fault: str


def inspect(data: bytes, max_pixels: int) -> Container:
    """Check a TIFF or BigTIFF file; raises as `edge.imaging.formats.inspection.inspect`."""
    found = pages(data)
    if not found:
        raise damaged("the TIFF holds no picture")
    page = found[0]
    check_size(page.width, page.height, max_pixels)
    if len(found) > 1:
        raise InputError(
            "several-pages",
            "The TIFF file holds several pictures, and only one can be read from a file.",
            "Export each picture as a file of its own.",
        )
    if page.fault:
        raise damaged(page.fault)
    if page.depth not in _DEPTHS:
        raise unsupported(f"{page.depth} bits per sample")
    if page.compression not in _COMPRESSIONS:
        raise unsupported(f"TIFF compression number {page.compression}")
    if page.incomplete:
        raise truncated()
    data = single_page(data, page)
    return Container("TIFF", page.width, page.height, page.depth, data, page.orientation, page.white_is_zero)


def exif_orientation(exif: bytes) -> int:
    """Read the EXIF orientation (1-8) of a TIFF-formatted EXIF block; 1 when it is absent or makes no sense."""
    try:
        layout, first = _header(exif)
        entries, _ = _directory(exif, layout, first)
        return _orientation(exif, layout, entries)
    except (struct.error, ValueError):
        return 1


def pages(data: bytes) -> list[Page]:
    """List the full-size pages of a TIFF file; thumbnails and pyramid levels that are marked as such are left out.

    Stops at the second page: more than one is all that a caller wants to know.
    Raises `struct.error` when the file ends inside a directory.
    """
    found: list[Page] = []
    try:
        layout, offset = _header(data)
    except ValueError:
        return found
    seen: set[int] = set()
    while offset and offset not in seen and len(seen) < _LARGEST_PAGES and len(found) < 2:
        seen.add(offset)
        try:
            entries, offset = _directory(data, layout, offset)
        except (struct.error, ValueError):
            if not found:
                raise struct.error("the directory lies outside the file") from None
            break
        reduced = bool(_number(data, layout, entries, SUBFILE_TYPE, 0) & 0b101)
        if not reduced and WIDTH in entries:
            found.append(_page(data, layout, entries))
    return found


def single_page(data: bytes, page: Page) -> bytes:
    """Make a TIFF file that holds this page alone, with only the tags that a decoder needs."""
    layout = page.layout
    kept = [entry for tag, entry in sorted(page.entries.items()) if tag in _KEPT]
    padding = bytes(-len(data) % 8)
    start = len(data) + len(padding)
    if layout.big:
        head = data[:8] + struct.pack(layout.order + "Q", start) + data[16:]
        return b"".join((head, padding, struct.pack(layout.order + "Q", len(kept)), *kept, bytes(8)))
    head = data[:4] + struct.pack(layout.order + "I", start) + data[8:]
    return b"".join((head, padding, struct.pack(layout.order + "H", len(kept)), *kept, bytes(4)))


def _header(data: bytes) -> tuple[Layout, int]:
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise ValueError("no byte order")
    version = struct.unpack_from(order + "H", data, 2)[0]
    if version == 42:
        return Layout(order, big=False), struct.unpack_from(order + "I", data, 4)[0]
    if version == 43:
        return Layout(order, big=True), struct.unpack_from(order + "Q", data, 8)[0]
    raise ValueError("no TIFF version")


def _directory(data: bytes, layout: Layout, offset: int) -> tuple[dict[int, bytes], int]:
    count_code, offset_code = ("Q", "Q") if layout.big else ("H", "I")
    if offset > len(data):
        raise ValueError("directory outside the file")
    count = struct.unpack_from(layout.order + count_code, data, offset)[0]
    if count > _LARGEST_ENTRIES:
        raise ValueError("too many tags")
    start = offset + struct.calcsize(count_code)
    end = start + count * layout.entry_length
    entries: dict[int, bytes] = {}
    for position in range(start, end, layout.entry_length):
        tag = struct.unpack_from(layout.order + "H", data, position)[0]
        entries.setdefault(tag, data[position : position + layout.entry_length])
    if end > len(data):
        raise ValueError("directory outside the file")
    following = struct.unpack_from(layout.order + offset_code, data, end)[0] if end + 4 <= len(data) else 0
    return entries, following


def _shape(layout: Layout, entry: bytes) -> tuple[int, int]:
    kind, count = struct.unpack_from(layout.order + ("HQ" if layout.big else "HI"), entry, 2)
    return kind, count


def _numbers(data: bytes, layout: Layout, entries: dict[int, bytes], tag: int) -> tuple[int, ...]:
    if tag not in entries:
        return ()
    kind, count = _shape(layout, entries[tag])
    code = _INTEGER_CODES.get(kind)
    if code is None or count > _LARGEST_COUNT:
        return ()
    entry = entries[tag]
    at = len(entry) - layout.inline_length
    if count * _TYPE_SIZES[kind] <= layout.inline_length:
        return struct.unpack_from(f"{layout.order}{count}{code}", entry, at)
    offset = struct.unpack_from(layout.order + ("Q" if layout.big else "I"), entry, at)[0]
    if offset > len(data):
        return ()
    try:
        return struct.unpack_from(f"{layout.order}{count}{code}", data, offset)
    except struct.error:
        return ()


def _number(data: bytes, layout: Layout, entries: dict[int, bytes], tag: int, default: int) -> int:
    return next(iter(_numbers(data, layout, entries, tag)), default)


def _orientation(data: bytes, layout: Layout, entries: dict[int, bytes]) -> int:
    value = _number(data, layout, entries, ORIENTATION, 1)
    return value if 1 <= value <= 8 else 1


def _page(data: bytes, layout: Layout, entries: dict[int, bytes]) -> Page:
    def number(tag: int, default: int) -> int:
        return _number(data, layout, entries, tag, default)

    return Page(
        layout=layout,
        entries=entries,
        width=number(WIDTH, 0),
        height=number(HEIGHT, 0),
        depth=number(BITS, 1),
        compression=number(COMPRESSION, 1),
        orientation=_orientation(data, layout, entries),
        white_is_zero=number(PHOTOMETRIC, 1) == 0,
        incomplete=_incomplete(data, layout, entries),
        fault=_fault(data, layout, entries),
    )


def _incomplete(data: bytes, layout: Layout, entries: dict[int, bytes]) -> bool:
    """Whether a table or a piece of the picture lies outside the file, or was never written.

    The stated length of an uncompressed piece is not believed, since some writers state it wrongly: it is reckoned.
    """
    for tag, entry in entries.items():
        kind, count = _shape(layout, entry)
        size = count * _TYPE_SIZES.get(kind, 1)
        if tag in _KEPT and size > layout.inline_length:
            at = len(entry) - layout.inline_length
            offset = struct.unpack_from(layout.order + ("Q" if layout.big else "I"), entry, at)[0]
            if offset + size > len(data):
                return True
    tiled = TILE_OFFSETS in entries
    starts = _numbers(data, layout, entries, TILE_OFFSETS if tiled else STRIP_OFFSETS)
    planes, down, across, _ = _pieces(data, layout, entries)
    if len(starts) < planes * down * across:
        return True
    lengths: Iterable[int]
    if _number(data, layout, entries, COMPRESSION, 1) == 1:
        lengths = _raw_lengths(data, layout, entries)
    else:
        lengths = _numbers(data, layout, entries, TILE_LENGTHS if tiled else STRIP_LENGTHS)
    return any(
        not start or not length or start + length > len(data) for start, length in zip(starts, lengths, strict=False)
    )


def _pieces(data: bytes, layout: Layout, entries: dict[int, bytes]) -> tuple[int, int, int, int]:
    """How the picture is cut up: planes, pieces down, pieces across, and rows in a piece."""
    width, height = (max(1, _number(data, layout, entries, tag, 1)) for tag in (WIDTH, HEIGHT))
    planes = _number(data, layout, entries, SAMPLES, 1) if _number(data, layout, entries, PLANES, 1) == 2 else 1
    if TILE_OFFSETS in entries:
        rows = max(1, _number(data, layout, entries, TILE_HEIGHT, height))
        across = -(-width // max(1, _number(data, layout, entries, TILE_WIDTH, width)))
    else:
        rows, across = max(1, min(height, _number(data, layout, entries, ROWS_PER_STRIP, height))), 1
    return planes, -(-height // rows), across, rows


def _raw_lengths(data: bytes, layout: Layout, entries: dict[int, bytes]) -> Iterator[int]:
    """Reckon the bytes of each piece of an uncompressed picture, in the order of the file."""
    planes, down, across, rows = _pieces(data, layout, entries)
    height = _number(data, layout, entries, HEIGHT, 0)
    tiled = TILE_OFFSETS in entries
    columns = _number(data, layout, entries, TILE_WIDTH if tiled else WIDTH, 0)
    samples = _number(data, layout, entries, SAMPLES, 1) // planes
    row_bytes = (columns * samples * _number(data, layout, entries, BITS, 1) + 7) // 8
    for _ in range(planes):
        for piece in range(down):
            yield from repeat((rows if tiled else min(rows, height - piece * rows)) * row_bytes, across)


def _fault(data: bytes, layout: Layout, entries: dict[int, bytes]) -> str:
    if any(_shape(layout, entry)[1] > _LARGEST_COUNT for tag, entry in entries.items() if tag in _KEPT):
        return "a table inside the TIFF is absurdly long"
    if _number(data, layout, entries, SAMPLES, 1) > 16:
        return "it claims more than 16 channels"
    tile = _number(data, layout, entries, TILE_WIDTH, 0) * _number(data, layout, entries, TILE_HEIGHT, 0)
    if tile > _LARGEST_TILE:
        return "its tiles are absurdly large"
    return ""

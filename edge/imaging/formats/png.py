"""PNG (W3C, third edition): its chunks, whether it is whole, and no more of it than a decoder needs."""

from __future__ import annotations

import struct
import zlib
from typing import Final

from edge.imaging.formats import tiff
from edge.imaging.formats.container import Container, check_size, damaged, truncated, unsupported

_LARGEST_CHUNKS: Final = 200_000
_KEPT: Final = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_INFLATED_AT_ONCE: Final = 4096
"""Bytes; deflate makes at most 1,032 times as many of them."""

_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7: Final = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""The passes of an interlaced picture: first column and row, step in columns and rows (PNG third edition, 8.1)."""


def inspect(data: bytes, max_pixels: int) -> Container:
    """Check a PNG file and every checksum that its picture depends on.

    Raises as `edge.imaging.formats.inspection.inspect`.
    """
    view = memoryview(data)
    parts: list[bytes | memoryview] = [view[:8]]
    position, orientation, chunks = 8, 1, 0
    width = height = depth = 0
    while True:
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if name == b"CgBI":
            raise unsupported("a PNG of Apple's own variant")
        if not width and name != b"IHDR":
            raise damaged("the PNG does not start with its header")
        if name == b"IHDR":
            if width or length != 13:
                raise damaged("the PNG header is wrong")
            width, height, depth = struct.unpack_from(">IIB", data, position + 8)
            check_size(width, height, max_pixels)
        if end > len(data):
            raise truncated()
        sound = zlib.crc32(view[position + 4 : end - 4]) == struct.unpack_from(">I", data, end - 4)[0]
        if name in _KEPT:
            if not sound:
                raise damaged("a checksum inside the PNG does not match")
            parts.append(view[position:end])
        elif name == b"eXIf" and sound:
            orientation = tiff.exif_orientation(data[position + 8 : end - 4])
        if name == b"IEND":
            break
        chunks += 1
        if chunks > _LARGEST_CHUNKS:
            raise damaged("the PNG is in too many pieces")
        position = end
    return Container("PNG", width, height, depth, b"".join(parts), orientation)


def is_short(data: bytes) -> bool:
    """Whether a PNG that `inspect` let through holds fewer rows than its header states.

    Its compressed stream may end in good order too early; Pillow leaves the rest of the picture zero, without a word.
    """
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    missing = 0
    for x, y, step_x, step_y in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - x) // step_x), -(-(height - y) // step_y)
        missing += rows * (1 + (columns * depth * _CHANNELS.get(colour, 1) + 7) // 8)
    inflater = zlib.decompressobj()
    view, position = memoryview(data), 8
    while missing > 0 and position < len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        start, end = position + 8, position + 8 + length
        while name == b"IDAT" and start < end and missing > 0:
            missing -= len(inflater.decompress(view[start : min(start + _INFLATED_AT_ONCE, end)]))
            start += _INFLATED_AT_ONCE
        position = end + 4
    return missing > 0

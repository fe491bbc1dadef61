"""The containers that need few words: BMP, WebP (RFC 9649), GIF89a and binary PNM."""

from __future__ import annotations

import re
import struct
from typing import Final

from edge.imaging.formats import tiff
from edge.imaging.formats.container import Container, check_size, damaged, truncated, unsupported

_PNM_GAP: Final = rb"(?:\s|#[^\r\n]*[\r\n])+"
PNM_HEADER: Final = re.compile(
    rb"P(?:(4)%(gap)s(\d{1,9})%(gap)s(\d{1,9})|([56])%(gap)s(\d{1,9})%(gap)s(\d{1,9})%(gap)s(\d{1,5}))\s"
    % {b"gap": _PNM_GAP}
)

_HEADER_LENGTH: Final = 4096


def inspect_bmp(data: bytes, max_pixels: int) -> Container:
    """Check a BMP file; raises as `edge.imaging.formats.inspection.inspect`."""
    compression = 0
    if struct.unpack_from("<I", data, 14)[0] == 12:
        width, height, _, depth = struct.unpack_from("<4H", data, 18)
    else:
        width, height, _, depth, compression = struct.unpack_from("<2i2HI", data, 18)
    check_size(width, abs(height), max_pixels)
    if compression not in (0, 3):
        raise unsupported("a compressed BMP")
    start = struct.unpack_from("<I", data, 10)[0]
    if start + (width * depth + 31) // 32 * 4 * abs(height) > len(data):
        raise truncated()
    return Container("BMP", width, abs(height), 8, data)


def inspect_webp(data: bytes, max_pixels: int) -> Container:
    """Check a WebP file; raises as `edge.imaging.formats.inspection.inspect`."""
    end = 8 + struct.unpack_from("<I", data, 4)[0]
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    elif kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<2H", data, 26))
    else:
        raise damaged("the WebP holds no picture")
    check_size(width, height, max_pixels)
    if end > len(data):
        raise truncated()
    return Container("WebP", width, height, 8, data[:end], _webp_orientation(data, end))


def _webp_orientation(data: bytes, end: int) -> int:
    position = 12
    while position + 8 <= end:
        name, length = struct.unpack_from("<4sI", data, position)
        if name == b"EXIF":
            exif = data[position + 8 : position + 8 + length]
            return tiff.exif_orientation(exif.removeprefix(b"Exif\0\0"))
        position += 8 + length + (length & 1)
    return 1


def inspect_gif(data: bytes, max_pixels: int) -> Container:
    """Check a GIF file; raises as `edge.imaging.formats.inspection.inspect`."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    check_size(width, height, max_pixels)
    position = 13 + _gif_palette_length(flags)
    parts = [data[:position]]
    while True:
        start, label = position, data[position]
        if label == 0x21:
            position = _gif_blocks_end(data, position + 2)
            if data[start + 1] == 0xF9:
                parts.append(data[start:position])
        elif label == 0x2C:
            position = _gif_blocks_end(data, position + 11 + _gif_palette_length(data[position + 9]))
            parts += [data[start:position], b";"]
            return Container("GIF", width, height, 8, b"".join(parts))
        else:
            raise damaged("the GIF holds no picture")


def _gif_palette_length(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _gif_blocks_end(data: bytes, position: int) -> int:
    while length := data[position]:
        position += length + 1
    return position + 1


def inspect_pnm(data: bytes, max_pixels: int) -> Container:
    """Check a binary PNM file; raises as `edge.imaging.formats.inspection.inspect`."""
    header = PNM_HEADER.match(data[:_HEADER_LENGTH])
    if header is None:
        raise damaged("the PNM header is wrong")
    kind, width, height, *stated = (int(group) for group in header.groups() if group is not None)
    check_size(width, height, max_pixels)
    white = stated[0] if stated else 1
    if not 1 <= white <= 65535:
        raise damaged("the PNM header is wrong")
    channels = 3 if kind == 6 else 1
    depth = 1 if kind == 4 else 8 if white <= 255 else 16
    end = header.end() + (width * channels * depth + 7) // 8 * height
    if end > len(data):
        raise truncated()
    return Container("PNM", width, height, depth, data[header.end() : end], channels=channels, white=white)

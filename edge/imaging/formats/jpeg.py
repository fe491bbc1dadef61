"""JPEG (ITU-T T.81 annex B): its segments, whether it is whole, and no more of it than a decoder needs."""

from __future__ import annotations

import re
import struct
from typing import Final

from edge.imaging.formats import tiff
from edge.imaging.formats.container import Container, check_size, damaged, truncated, unsupported

_LARGEST_SCANS: Final = 100
"""A progressive JPEG has about ten scans; thousands make a small file cost hours."""

_MARKER: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
_DECODABLE_FRAMES: Final = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_KEPT: Final = _FRAMES | {0xC4, 0xCC, 0xDA, 0xDB, 0xDD, 0xE0, 0xEE}
"""Frame headers, tables, scans, restart intervals, and the JFIF and Adobe segments, which say what the colours are."""


def inspect(data: bytes, max_pixels: int) -> Container:
    """Check a JPEG file; raises as `edge.imaging.formats.inspection.inspect`.

    Each coefficient of each component must have come to its last bit: libjpeg shows a progressive picture that ends
    after its first scans as a blurred one, without a word.
    """
    parts = [b"\xff\xd8"]
    size: tuple[int, int] | None = None
    unfinished: set[tuple[int, int]] = set()
    orientation, scans, position = 1, 0, 2
    while (marker := _MARKER.search(data, position)) is not None:
        code, end = data[marker.start() + 1], marker.end()
        if scans:
            parts.append(data[position : marker.start()])
        if code == 0xD9:
            break
        if code in (0x01, 0xD8):
            position = end
            continue
        end += struct.unpack_from(">H", data, end)[0]
        if end < marker.end() + 2:
            raise damaged("a JPEG segment has no length")
        if end > len(data):
            raise truncated()
        body = data[marker.end() + 2 : end]
        if code in _FRAMES:
            if size is not None:
                raise damaged("it holds two JPEG frames")
            size = _size(code, body)
            check_size(*size, max_pixels)
            unfinished = {(component, k) for component in body[6::3] for k in range(64)}
        elif code == 0xE1 and body.startswith(b"Exif\0\0"):
            orientation = tiff.exif_orientation(body[6:])
        elif code == 0xDA:
            scans += 1
            unfinished -= _finished(body)
        if scans > _LARGEST_SCANS:
            raise damaged(f"it has more than {_LARGEST_SCANS} scans")
        if code in _KEPT:
            parts.append(data[marker.start() : end])
        position = end
    else:
        raise truncated()
    if size is None or not scans:
        raise damaged("the JPEG holds no picture")
    if unfinished:
        raise truncated()
    parts.append(b"\xff\xd9")
    return Container("JPEG", *size, depth=8, data=b"".join(parts), orientation=orientation)


def _size(code: int, body: bytes) -> tuple[int, int]:
    precision, height, width = struct.unpack_from(">BHH", body)
    if code not in _DECODABLE_FRAMES:
        raise unsupported("a lossless or hierarchical JPEG")
    if precision != 8:
        raise unsupported(f"a {precision}-bit JPEG")
    return width, height


def _finished(scan: bytes) -> set[tuple[int, int]]:
    """Name the (component, coefficient) pairs that this scan brings to their last bit (T.81 B.2.3, G.1.1)."""
    if not scan or len(scan) < 4 + 2 * scan[0]:
        raise damaged("a JPEG scan has no header")
    components = scan[1 : 1 + 2 * scan[0] : 2]
    first, last, bits = scan[1 + 2 * scan[0] : 4 + 2 * scan[0]]
    if bits & 0x0F:
        return set()
    return {(component, k) for component in components for k in range(first, min(last, 63) + 1)}

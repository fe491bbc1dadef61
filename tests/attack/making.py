"""How the odd files of these tests are made: a drawn smear, and encoders that write what no ordinary one would."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as PillowImage

READ = "read"


@dataclass(frozen=True)
class HostileFile:
    """`expectation` is `READ` or the code of the error. `expected` is the upright BGR picture that must come out of a
    readable file, within a mean difference of `tolerance` grey levels and a largest one of `largest`."""

    path: Path
    expectation: str
    expected: np.ndarray | None = None
    tolerance: float = 0.0
    largest: int = 0


def smear(width: int = 320, height: int = 240) -> np.ndarray:
    """A drawn field, uint8[H, W, 3] BGR: pale ground, red cells, one purple nucleus left of and above the middle."""
    picture = np.full((height, width, 3), (226, 232, 238), np.uint8)
    generator = np.random.default_rng(7)
    for _ in range(30):
        centre = (int(generator.integers(0, width)), int(generator.integers(0, height)))
        cv2.circle(picture, centre, 15, (176, 168, 214), -1, cv2.LINE_AA)
        cv2.circle(picture, centre, 6, (200, 198, 226), -1, cv2.LINE_AA)
    centre = (width * 2 // 5, height * 2 // 5)
    cv2.circle(picture, centre, 27, (206, 176, 192), -1, cv2.LINE_AA)
    for x, y in ((-9, -6), (8, -8), (2, 10)):
        cv2.circle(picture, (centre[0] + x, centre[1] + y), 11, (130, 50, 96), -1, cv2.LINE_AA)
    noise = generator.normal(0, 2, picture.shape)
    return np.clip(cv2.GaussianBlur(picture, (0, 0), 1) + noise, 0, 255).astype(np.uint8)


def encoded(picture: PillowImage.Image, kind: str, **options: object) -> bytes:
    """The bytes that Pillow writes for a picture."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def rgb(picture: np.ndarray) -> PillowImage.Image:
    """A Pillow picture of a BGR array."""
    return PillowImage.fromarray(np.ascontiguousarray(picture[..., ::-1]))


def png(picture: np.ndarray) -> bytes:
    """A PNG of a BGR array."""
    return encoded(rgb(picture), "PNG")


def by_opencv(suffix: str, samples: np.ndarray) -> bytes:
    """The bytes that OpenCV writes, which keeps 16 bits in colour."""
    done, data = cv2.imencode(suffix, samples)
    assert done
    return data.tobytes()


def png_chunk(name: bytes, body: bytes) -> bytes:
    """One PNG chunk with its checksum."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_header(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    """The signature and header of a PNG."""
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


def with_chunk(data: bytes, name: bytes, body: bytes) -> bytes:
    """A PNG with one more chunk after its header."""
    return data[:33] + png_chunk(name, body) + data[33:]


def jpeg_segment(marker: int, body: bytes) -> bytes:
    """One JPEG segment."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def tiff_file(entries: Iterable[tuple[int, int, int, int]], body: bytes = b"", following: int = 0) -> bytes:
    """A little-endian TIFF of one directory: (tag, type, count, value or offset); `body` starts at byte 8."""
    rows = sorted(entries)
    directory = struct.pack("<H", len(rows)) + b"".join(struct.pack("<HHII", *row) for row in rows)
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + directory + struct.pack("<I", following)


def grey_tiff(samples: np.ndarray, photometric: int = 1, sample_format: int = 1, **more: int) -> bytes:
    """An uncompressed little-endian grey TIFF of any sample type."""
    body = np.ascontiguousarray(samples).tobytes()
    height, width = samples.shape
    entries = {
        256: width,
        257: height,
        258: samples.itemsize * 8,
        259: 1,
        262: photometric,
        273: 8,
        277: 1,
        278: height,
    }
    entries |= {279: len(body), 339: sample_format} | {int(tag[1:]): value for tag, value in more.items()}
    return tiff_file([(tag, 4, 1, value) for tag, value in entries.items()], body)


def stored_for(upright: np.ndarray, orientation: int) -> np.ndarray:
    """What a camera stores so that EXIF orientation shows `upright` (EXIF 2.32, tag 274), in Pillow's own names."""
    method = {
        1: None,
        2: PillowImage.Transpose.FLIP_LEFT_RIGHT,
        3: PillowImage.Transpose.ROTATE_180,
        4: PillowImage.Transpose.FLIP_TOP_BOTTOM,
        5: PillowImage.Transpose.TRANSPOSE,
        6: PillowImage.Transpose.ROTATE_90,
        7: PillowImage.Transpose.TRANSVERSE,
        8: PillowImage.Transpose.ROTATE_270,
    }[orientation]
    picture = rgb(upright)
    return np.asarray(picture if method is None else picture.transpose(method))[..., ::-1]


def exif(orientation: int) -> bytes:
    """An EXIF block that holds an orientation."""
    block = PillowImage.Exif()
    block[274] = orientation
    return block.tobytes()


def as_grey(picture: np.ndarray) -> np.ndarray:
    """The grey version of a picture, as BGR."""
    return cv2.cvtColor(np.asarray(rgb(picture).convert("L")), cv2.COLOR_GRAY2BGR)


class Table:
    """Collects the files of one part."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[HostileFile] = []

    def read(self, name: str, data: bytes, expected: np.ndarray, tolerance: float = 0.0, largest: int = 0) -> None:
        (self.folder / name).write_bytes(data)
        self.rows.append(HostileFile(self.folder / name, READ, expected, tolerance, largest))

    def fails(self, name: str, code: str, data: bytes) -> None:
        (self.folder / name).write_bytes(data)
        self.rows.append(HostileFile(self.folder / name, code))

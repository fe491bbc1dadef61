"""Makes a folder of odd, damaged and hostile files, and says what must come of each.

The readable ones hold a small drawn smear, so that the same table can be run through the whole program. The pictures are
drawn here and the damage is done to their bytes, so that nothing but this file is needed.
"""

from __future__ import annotations

import io
import json
import os
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as PillowImage
from PIL import PngImagePlugin
from PIL.TiffImagePlugin import ImageFileDirectory_v2

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


def make(folder: Path) -> list[HostileFile]:
    """Fill the folder, which must exist and be empty, and return the table. Everything is removed with the folder.

    Files that an ordinary user may not read are among them only when the tests do not run as root, whom nothing stops.
    """
    table: list[HostileFile] = []
    for part in (_jpegs, _pngs, _tiffs, _others, _cut_off, _damaged, _bombs, _not_pictures, _names, _no_files):
        table += part(folder)
    if os.geteuid() != 0:
        table += unreadable(folder)
    return table


def unreadable(folder: Path) -> list[HostileFile]:
    """A file and a folder that their mode forbids to read, and a file inside such a folder."""
    file, locked = folder / "locked.png", folder / "locked folder"
    file.write_bytes(png(smear()))
    file.chmod(0)
    locked.mkdir()
    (locked / "inside.png").write_bytes(png(smear()))
    locked.chmod(0)
    return [HostileFile(path, "permission-denied") for path in (file, locked, locked / "inside.png")]


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
    entries = {256: width, 257: height, 258: samples.itemsize * 8, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height}
    entries |= {279: len(body), 339: sample_format} | {int(tag[1:]): value for tag, value in more.items()}
    return tiff_file([(tag, 4, 1, value) for tag, value in entries.items()], body)


def stored_for(upright: np.ndarray, orientation: int) -> np.ndarray:
    """What a camera stores so that EXIF orientation shows `upright` (EXIF 2.32, tag 274), said with Pillow's own names."""
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


class _Table:
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


def _jpegs(folder: Path) -> list[HostileFile]:
    table, field = _Table(folder), smear()
    plain = encoded(rgb(field), "JPEG", quality=95)

    def lossy(name: str, data: bytes, expected: np.ndarray = field) -> None:
        table.read(name, data, expected, tolerance=2.5, largest=60)

    lossy("baseline.jpg", plain)
    lossy("progressive.jpg", encoded(rgb(field), "JPEG", quality=95, progressive=True))
    lossy("restart markers.jpg", encoded(rgb(field), "JPEG", quality=95, restart_marker_blocks=3))
    lossy("grey.jpg", encoded(rgb(field).convert("L"), "JPEG", quality=95), as_grey(field))
    lossy("cmyk.jpg", encoded(rgb(field).convert("CMYK"), "JPEG", quality=95))
    lossy("named like another.png", plain)
    lossy("trailing rubbish.jpg", plain + b"\0rubbish" * 500)
    lossy("many comments.jpg", plain[:2] + jpeg_segment(0xFE, b"x" * 60_000) * 100 + plain[2:])
    lossy("exif is noise.jpg", plain[:2] + jpeg_segment(0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff" + os.urandom(99)) + plain[2:])
    lossy("two pictures.jpg", encoded(rgb(field), "MPO", save_all=True, append_images=[rgb(255 - field)], quality=95))
    with_thumbnail = jpeg_segment(0xE1, b"Exif\0\0" + b"MM\0*\0\0\0\x08\0\0" + encoded(rgb(field[::8, ::8]), "JPEG"))
    lossy("thumbnail.jpg", plain[:2] + with_thumbnail + plain[2:])
    for orientation in range(1, 9):
        turned = encoded(rgb(stored_for(field, orientation)), "JPEG", quality=95, exif=exif(orientation))
        lossy(f"exif {orientation}.jpg", turned)
    lossy("exif 9 means nothing.jpg", encoded(rgb(field), "JPEG", quality=95, exif=exif(9)))
    return table.rows


def _pngs(folder: Path) -> list[HostileFile]:
    table, field = _Table(folder), smear()
    height, width = field.shape[:2]
    picture = rgb(field)
    table.read("colour.png", png(field), field)
    table.read("grey.png", encoded(picture.convert("L"), "PNG"), as_grey(field))
    bits = picture.convert("1")
    table.read("one bit.png", encoded(bits, "PNG"), as_grey(np.asarray(bits.convert("RGB"))))
    palette = picture.quantize(200)
    table.read("palette.png", encoded(palette, "PNG"), np.asarray(palette.convert("RGB"))[..., ::-1])

    alpha = np.zeros((height, width), np.uint8)
    alpha[:, width // 4 :] = 255
    alpha[:, width // 4 : width // 2] = 128
    weight = alpha[..., None] / 255
    on_white = np.round(field * weight + 255 * (1 - weight)).astype(np.uint8)
    with_alpha = picture.copy()
    with_alpha.putalpha(PillowImage.fromarray(alpha))
    table.read("alpha.png", encoded(with_alpha, "PNG"), on_white, 0.5, 1)
    grey_alpha = with_alpha.convert("LA")
    table.read("grey and alpha.png", encoded(grey_alpha, "PNG"), _grey_on_white(field, weight), 0.5, 1)
    unused = picture.copy()
    unused.putalpha(0)
    table.read("alpha never filled in.png", encoded(unused, "PNG"), field)
    keyed = palette.copy()
    seen = np.asarray(palette)
    index = int(seen[0, 0])
    expected = np.asarray(palette.convert("RGB"))[..., ::-1].copy()
    expected[seen == index] = 255
    table.read("palette with a clear colour.png", encoded(keyed, "PNG", transparency=index), expected)

    deep = field.astype(np.uint16)
    grey = np.asarray(picture.convert("L")).astype(np.uint16)
    table.read("16 bit grey.png", by_opencv(".png", grey * 257), as_grey(field), 0.5, 1)
    table.read("12 bit grey in 16.png", by_opencv(".png", grey * 16), as_grey(field), 1, 2)
    table.read("10 bit grey in 16.png", by_opencv(".png", grey * 4), as_grey(field), 1, 2)
    table.read("8 bit grey in 16.png", by_opencv(".png", grey), as_grey(field))
    table.read("16 bit colour.png", by_opencv(".png", deep * 257), field, 0.5, 1)
    table.read("12 bit colour in 16.png", by_opencv(".png", deep * 16), field, 1, 2)
    deep_alpha = np.dstack([deep * 257, alpha.astype(np.uint16) * 257])
    table.read("16 bit with alpha.png", by_opencv(".png", deep_alpha), on_white, 0.6, 2)

    table.read("animated.png", encoded(picture, "PNG", save_all=True, append_images=[rgb(255 - field)]), field)
    table.read("interlaced.png", _interlaced(field), field)
    turned = encoded(rgb(stored_for(field, 6)), "PNG", exif=exif(6))
    table.read("exif 6.png", turned, field)
    bomb = zlib.compress(bytes(300_000_000), 9)
    table.read("text bomb.png", with_chunk(png(field), b"zTXt", b"Comment\0\0" + bomb), field)
    table.read("profile bomb.png", with_chunk(png(field), b"iCCP", b"icc\0\0" + bomb), field)
    table.read("exif bomb.png", with_chunk(png(field), b"eXIf", _amplifying_directory()), field)
    broken_text = with_chunk(png(field), b"tEXt", b"Title\0smear").replace(b"smear", b"smeer")
    table.read("broken comment.png", broken_text, field)
    return table.rows


def _grey_on_white(field: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return np.round(as_grey(field) * weight + 255 * (1 - weight)).astype(np.uint8)


def _interlaced(field: np.ndarray) -> bytes:
    """A PNG in Adam7 order (PNG third edition, 8.1), with filter type 0."""
    height, width = field.shape[:2]
    lines = bytearray()
    for x, y, dx, dy in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)):
        for row in field[y::dy, x::dx, ::-1]:
            lines += b"\0" + row.tobytes()
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(bytes(lines))) + png_chunk(b"IEND", b"")


def _amplifying_directory() -> bytes:
    """A TIFF directory of 4,000 tags that each claim the same two megabytes."""
    size = 2_000_000
    entries = [(tag, 1, size, 8) for tag in range(1000, 5000)]
    return tiff_file(entries, bytes(size))


def _tiffs(folder: Path) -> list[HostileFile]:
    table, field = _Table(folder), smear()
    picture = rgb(field)
    grey = np.asarray(picture.convert("L"))
    greyed = as_grey(field)
    table.read("plain.tif", encoded(picture, "TIFF"), field)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        table.read(f"{compression}.tiff", encoded(picture, "TIFF", compression=compression), field)
    table.read("jpeg inside.tif", encoded(picture, "TIFF", compression="jpeg", quality=95), field, 2.5, 60)
    table.read("bigtiff.tif", encoded(picture, "TIFF", big_tiff=True), field)
    table.read("cmyk.tif", encoded(picture.convert("CMYK"), "TIFF"), field, 1, 2)
    table.read("one bit.tif", encoded(picture.convert("1"), "TIFF", compression="group4"), _one_bit(picture))
    turned = ImageFileDirectory_v2()
    turned[274] = 6
    table.read("turned.tif", encoded(rgb(stored_for(field, 6)), "TIFF", tiffinfo=turned), field)
    turned[274] = 3
    lzw = encoded(rgb(stored_for(field, 3)), "TIFF", tiffinfo=turned, compression="tiff_lzw")
    table.read("turned lzw.tif", lzw, field)

    table.read("16 bit grey.tif", by_opencv(".tiff", grey.astype(np.uint16) * 257), greyed, 0.5, 1)
    table.read("12 bit grey in 16.tif", by_opencv(".tiff", grey.astype(np.uint16) * 16), greyed, 1, 2)
    table.read("16 bit colour.tif", by_opencv(".tiff", field.astype(np.uint16) * 257), field, 0.5, 1)
    table.read("12 bit colour in 16.tif", by_opencv(".tiff", field.astype(np.uint16) * 16), field, 1, 2)
    table.read("white is zero.tif", grey_tiff(255 - grey, photometric=0), greyed)
    table.read("16 bit white is zero.tif", grey_tiff(65535 - grey.astype("<u2") * 257, photometric=0), greyed, 0.5, 1)
    table.read("float 0 to 1.tif", grey_tiff((grey / 255).astype("<f4"), sample_format=3), greyed, 0.5, 1)
    table.read("float 0 to 255.tif", grey_tiff(grey.astype("<f4"), sample_format=3), greyed)
    table.read("32 bit grey.tif", grey_tiff(grey.astype("<u4") * 257), greyed, 0.5, 1)
    table.read("endless pages.tif", _self_following(grey), greyed)
    table.read("tag amplification.tif", _amplifying_picture(grey), greyed)
    thumbnail = rgb(field[::4, ::4])
    reduced = ImageFileDirectory_v2()
    reduced[254] = 1
    thumbnail.encoderinfo = {"tiffinfo": reduced}
    table.read("thumbnail page.tif", encoded(picture, "TIFF", save_all=True, append_images=[thumbnail]), field)

    other = encoded(picture, "TIFF", save_all=True, append_images=[rgb(255 - field)])
    table.fails("two pages.tif", "several-pages", other)
    table.fails("float beyond.tif", "unsupported-mode", grey_tiff(grey.astype("<f4") * 1e6, sample_format=3))
    missing = grey.astype("<f4")
    missing[3, 3] = np.nan
    table.fails("float not a number.tif", "unsupported-mode", grey_tiff(missing, sample_format=3))
    table.fails("negative.tif", "unsupported-mode", grey_tiff(grey.astype("<i4") - 200, sample_format=2))
    table.fails("lab.tif", "unsupported-mode", encoded(PillowImage.merge("LAB", picture.split()), "TIFF"))
    table.fails("unknown compression.tif", "unsupported-mode", grey_tiff(grey, _259=4321))
    table.fails("33 bits.tif", "unsupported-mode", grey_tiff(grey, _258=33))
    table.fails("60,000 channels.tif", "damaged", grey_tiff(grey, _277=60_000))
    table.fails("absurd strip table.tif", "damaged", _absurd_strip_table(grey))
    table.fails("strips outside.tif", "truncated", grey_tiff(grey, _273=900_000_000))
    table.fails("directory outside.tif", "truncated", b"II*\0" + struct.pack("<I", 4_000_000_000) + bytes(100))
    table.fails("no directory.tif", "damaged", b"II*\0" + bytes(100))
    return table.rows


def _one_bit(picture: PillowImage.Image) -> np.ndarray:
    return np.asarray(picture.convert("1").convert("RGB"))


def _self_following(grey: np.ndarray) -> bytes:
    data = bytearray(grey_tiff(grey))
    data[-4:] = data[4:8]
    return bytes(data)


def _amplifying_picture(grey: np.ndarray) -> bytes:
    height, width = grey.shape
    entries = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: grey.size}
    body = grey.tobytes() + bytes(2_000_000)
    rows = [(tag, 4, 1, value) for tag, value in entries.items()]
    return tiff_file(rows + [(tag, 1, len(body), 8) for tag in range(60_000, 63_000)], body)


def _absurd_strip_table(grey: np.ndarray) -> bytes:
    height, width = grey.shape
    count = 2_000_000
    entries = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 277: 1, 278: 1}
    rows = [(tag, 4, 1, value) for tag, value in entries.items()]
    return tiff_file([*rows, (273, 4, count, 8), (279, 4, count, 8)], bytes(4 * count))


def _others(folder: Path) -> list[HostileFile]:
    table, field = _Table(folder), smear()
    picture = rgb(field)
    greyed = as_grey(field)
    grey = greyed[..., 0]
    height, width = grey.shape
    table.read("plain.bmp", encoded(picture, "BMP"), field)
    palette = picture.quantize(60)
    table.read("palette.bmp", encoded(palette, "BMP"), np.asarray(palette.convert("RGB"))[..., ::-1])
    table.read("top down.bmp", _top_down_bitmap(field), field)
    table.read("lossless.webp", encoded(picture, "WEBP", lossless=True), field)
    table.read("lossy.webp", encoded(picture, "WEBP", quality=95), field, 3, 90)
    table.read("exif 8.webp", encoded(rgb(stored_for(field, 8)), "WEBP", lossless=True, exif=exif(8)), field)
    frames = encoded(picture, "WEBP", save_all=True, append_images=[rgb(255 - field)], lossless=True)
    table.read("animated.webp", frames, field)
    half = picture.copy()
    alpha = np.full(grey.shape, 255, np.uint8)
    alpha[: height // 2] = 0
    half.putalpha(PillowImage.fromarray(alpha))
    on_white = field.copy()
    on_white[: height // 2] = 255
    table.read("alpha.webp", encoded(half, "WEBP", lossless=True), on_white)
    indexed = picture.quantize(256)
    first = np.asarray(indexed.convert("RGB"))[..., ::-1]
    table.read("still.gif", encoded(indexed, "GIF"), first)
    animated = encoded(indexed, "GIF", save_all=True, append_images=[rgb(255 - field).quantize(256)], loop=0)
    table.read("animated.gif", animated, first)
    table.read("endless comments.gif", animated[:13 + 768] + (b"\x21\xfe" + b"\xff" + b"c" * 255 + b"\0") * 3000 + animated[13 + 768 :], first)
    table.read("colour.ppm", b"P6\n# a comment\n%d %d\n255\n" % (width, height) + field[..., ::-1].tobytes(), field)
    table.read("grey.pgm", b"P5 %d %d 255\n" % (width, height) + grey.tobytes(), greyed)
    deep = (grey.astype(np.uint16) * 16).astype(">u2").tobytes()
    table.read("12 bit.pgm", b"P5 %d %d 4080\n" % (width, height) + deep, greyed)
    bits = np.asarray(picture.convert("1"))
    packed = np.packbits(~bits, axis=1).tobytes()
    table.read("bits.pbm", b"P4 %d %d\n" % (width, height) + packed, _one_bit(picture))
    table.fails("text.ppm", "unsupported-format", b"P3\n20 20\n255\n" + b"1 2 3\n" * 400)
    table.fails("white is nothing.pgm", "damaged", b"P5 20 20 0\n" + bytes(400))
    table.fails("compressed.bmp", "unsupported-mode", _run_length_bitmap())
    return table.rows


def _top_down_bitmap(field: np.ndarray) -> bytes:
    height, width = field.shape[:2]
    assert width % 4 == 0
    header = struct.pack("<IiiHHIIiiII", 40, width, -height, 1, 24, 0, 0, 2835, 2835, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + field.size, 0, 0, 54) + header + field.tobytes()


def _run_length_bitmap() -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, 64, 64, 1, 8, 1, 0, 2835, 2835, 256, 0)
    rows = (bytes([64, 7, 0, 0]) * 64) + bytes([0, 1])
    return b"BM" + struct.pack("<IHHI", 54 + 1024 + len(rows), 0, 0, 54 + 1024) + header + bytes(range(256)) * 4 + rows


def _cut_off(folder: Path) -> list[HostileFile]:
    table, field = _Table(folder), smear()
    picture = rgb(field)
    whole = {
        "jpg": encoded(picture, "JPEG", quality=95),
        "progressive.jpg": encoded(picture, "JPEG", quality=95, progressive=True),
        "png": png(field),
        "tif": encoded(picture, "TIFF"),
        "deflate.tif": encoded(picture, "TIFF", compression="tiff_adobe_deflate"),
        "bmp": encoded(picture, "BMP"),
        "webp": encoded(picture, "WEBP", quality=90),
        "gif": encoded(picture.quantize(256), "GIF"),
        "ppm": b"P6 320 240 255\n" + field[..., ::-1].tobytes(),
    }
    for suffix, data in whole.items():
        for percent in (30, 70):
            table.fails(f"cut at {percent}.{suffix}", "truncated", data[: len(data) * percent // 100])
    table.fails("without its last bytes.jpg", "truncated", whole["jpg"][:-2])
    table.fails("without its last bytes.png", "truncated", whole["png"][:-5])
    table.fails("only a header.jpg", "truncated", whole["jpg"][:100])
    table.fails("only a header.png", "truncated", whole["png"][:40])
    table.fails("only a start.jpg", "truncated", b"\xff\xd8\xff")
    table.fails("cut and closed.jpg", "truncated", whole["jpg"][: len(whole["jpg"]) // 2] + b"\xff\xd9")
    table.fails("second half never written.jpg", "truncated", _zero_tail(whole["jpg"]))
    table.fails("second half never written.png", "damaged", _zero_tail(whole["png"]))
    short = png_header(320, 240) + png_chunk(b"IDAT", zlib.compress(bytes(961 * 100))) + png_chunk(b"IEND", b"")
    table.fails("too few rows.png", "truncated", short)
    return table.rows


def _zero_tail(data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes(len(data) - len(data) // 2)


def _damaged(folder: Path) -> list[HostileFile]:
    table, field = _Table(folder), smear()
    data = bytearray(png(field))
    data[len(data) // 2] ^= 1
    table.fails("flipped bit.png", "damaged", bytes(data))
    table.fails("no header.png", "damaged", png(field)[:8] + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b""))
    table.fails("no data.png", "damaged", png_header(320, 240) + png_chunk(b"IEND", b""))
    rubbish = png_chunk(b"IDAT", b"rubbish" * 50) + png_chunk(b"IEND", b"")
    table.fails("rubbish inside.png", "damaged", png_header(320, 240) + rubbish)
    table.fails("no size.png", "damaged", png_header(0, 240) + rubbish)
    table.fails("no picture.jpg", "damaged", b"\xff\xd8\xff\xe0\x00\x04ab\xff\xd9")
    table.fails("no tables.jpg", "damaged", _bare_jpeg(320, 240))
    table.fails("12 bit.jpg", "unsupported-mode", _bare_jpeg(320, 240, precision=12))
    table.fails("lossless.jpg", "unsupported-mode", _bare_jpeg(320, 240, frame=0xC3))
    table.fails("no height.jpg", "damaged", _bare_jpeg(320, 0))
    webp = bytearray(encoded(rgb(field), "WEBP", lossless=True))
    webp[40:400] = bytes(360)
    table.fails("overwritten.webp", "damaged", bytes(webp))
    table.fails("no picture.gif", "damaged", b"GIF89a" + struct.pack("<HHBBB", 320, 240, 0, 0, 0) + b";")
    return table.rows


def _bare_jpeg(width: int, height: int, precision: int = 8, frame: int = 0xC0) -> bytes:
    components = bytes([1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0])
    start = jpeg_segment(frame, struct.pack(">BHHB", precision, height, width, 3) + components)
    scan = jpeg_segment(0xDA, bytes([3, 1, 0, 2, 0, 3, 0, 0, 63, 0]))
    return b"\xff\xd8" + start + scan + b"\x12\x34" * 200 + b"\xff\xd9"


def _bombs(folder: Path) -> list[HostileFile]:
    table, field = _Table(folder), smear()
    side = 30_000
    end = png_chunk(b"IDAT", zlib.compress(bytes(1000))) + png_chunk(b"IEND", b"")
    table.fails("30000x30000.png", "too-large", png_header(side, side) + end)
    table.fails("30000x30000.jpg", "too-large", _bare_jpeg(side, side))
    table.fails("30000x30000.tif", "too-large", grey_tiff(np.zeros((16, 16), np.uint8), _256=side, _257=side))
    table.fails("30000x30000.bmp", "too-large", b"BM" + struct.pack("<IHHIIiiHHIIiiII", 0, 0, 0, 54, 40, side, side, 1, 24, *[0] * 6))
    table.fails("30000x30000.gif", "too-large", b"GIF89a" + struct.pack("<HHBBB", side, side, 0, 0, 0) + b";")
    table.fails("30000x30000.ppm", "too-large", b"P6 30000 30000 255\n")
    extended = struct.pack("<I", 0) + (16_000).to_bytes(3, "little") * 2
    table.fails("16000x16000.webp", "too-large", b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0" + extended)
    table.fails("4000000000x4000000000.png", "damaged", png_header(4_000_000_000, 0) + end)
    table.fails("wide.png", "too-large", png_header(2_000_000_000, 2_000_000_000) + end)
    inflating = zlib.compress(bytes(400_000_000), 9)
    bomb = png_header(320, 240) + png_chunk(b"IDAT", inflating) + png_chunk(b"IEND", b"")
    table.read("inflates to 400 MB.png", bomb, np.zeros((240, 320, 3), np.uint8))
    progressive = encoded(rgb(field), "JPEG", progressive=True)
    last = progressive.rfind(b"\xff\xda")
    table.fails("1000 scans.jpg", "damaged", progressive[:-2] + progressive[last:-2] * 1000 + b"\xff\xd9")
    table.fails("tile bomb.tif", "damaged", grey_tiff(np.zeros((64, 64), np.uint8), _322=65_520, _323=32_000, _324=8, _325=64))
    for name, width, height in (("1x1", 1, 1), ("15x200", 15, 200)):
        picture = rgb(np.full((height, width, 3), 200, np.uint8))
        table.fails(f"{name}.png", "too-small", encoded(picture, "PNG"))
        table.fails(f"{name}.jpg", "too-small", encoded(picture, "JPEG"))
    return table.rows


def _not_pictures(folder: Path) -> list[HostileFile]:
    table = _Table(folder)
    table.fails("empty.jpg", "empty-file", b"")
    table.fails("zeros.jpg", "not-an-image", bytes(50_000))
    table.fails("text.jpg", "not-an-image", b"This is not a picture.\n")
    table.fails("page.jpg", "not-an-image", b"<!DOCTYPE html><html><body>404 Not Found</body></html>")
    table.fails("data.png", "not-an-image", json.dumps({"picture": None}).encode())
    table.fails("noise.tif", "not-an-image", b"\x01" + np.random.default_rng(3).bytes(5000))
    table.fails("one byte.png", "not-an-image", b"\x89")
    table.fails("stored with line ends changed.png", "not-an-image", png(smear()).replace(b"\r\n", b"\n"))
    table.fails("document.jpg", "unsupported-format", b"%PDF-1.7\n" + bytes(100))
    table.fails("phone.heic", "unsupported-format", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    table.fails("new.avif", "unsupported-format", b"\0\0\0\x18ftypavif\0\0\0\0mif1avif" + bytes(100))
    table.fails("film.jpg", "unsupported-format", b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(100))
    table.fails("film avi.jpg", "unsupported-format", b"RIFF\0\0\0\0AVI LIST" + bytes(100))
    table.fails("old.jp2", "unsupported-format", encoded(rgb(smear()), "JPEG2000"))
    table.fails("drawing.png", "unsupported-format", b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>')
    table.fails("scan.dcm", "unsupported-format", bytes(128) + b"DICM" + bytes(100))
    table.fails("icon.png", "unsupported-format", encoded(rgb(smear(64, 64)), "ICO"))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.png", png(smear()))
    table.fails("archive.jpg", "unsupported-format", archive.getvalue())
    return table.rows


def _names(folder: Path) -> list[HostileFile]:
    table, field = _Table(folder), smear()
    data = png(field)
    undecodable = os.fsdecode(b"camera \xff\xfe card.png")
    for name in (
        "a name  with spaces .png",
        "नमूना ตัวอย่าง образец 样本.png",
        "cafe\u0301.png",
        "line\nbreak.png",
        "\x1b[31mred\u202egnp.png",
        "quote ' \" $(touch x) ;&.png",
        "-o.png",
        "slide[1]*?.png",
        "x" * 240 + ".png",
        "UPPER.PNG",
        "no ending",
        undecodable,
    ):
        table.read(name, data, field)
    return table.rows


def _no_files(folder: Path) -> list[HostileFile]:
    def at(name: str, code: str, create: Callable[[Path], object]) -> HostileFile:
        path = folder / name
        create(path)
        return HostileFile(path, code)

    good, data = folder / "link target.png", png(smear())
    good.write_bytes(data)
    link = folder / "good link.png"
    link.symlink_to(good.name)
    through = good / "inside.png"
    return [
        HostileFile(good, READ, smear()),
        HostileFile(link, READ, smear()),
        at("broken link.png", "broken-link", lambda path: path.symlink_to("nowhere.png")),
        at("link to itself.png", "broken-link", lambda path: path.symlink_to(path.name)),
        at("pipe.png", "not-a-file", os.mkfifo),
        at("link to a pipe.png", "not-a-file", lambda path: path.symlink_to("pipe.png")),
        at("endless.png", "not-a-file", lambda path: path.symlink_to("/dev/zero")),
        at("terminal.png", "not-a-file", lambda path: path.symlink_to("/dev/tty")),
        at("socket.png", "not-a-file", _bind),
        at("folder.png", "empty-folder", lambda path: path.mkdir()),
        at("sparse.png", "too-large", lambda path: _sparse(path, data)),
        HostileFile(through, "not-found"),
        HostileFile(folder / "missing.png", "not-found"),
        HostileFile(folder / ("y" * 300 + ".png"), "not-found"),
    ]


def _bind(path: Path) -> None:
    # A socket's path may have 107 bytes at most, and the folder's name may be longer: it is made from inside the folder.
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(before)


def _sparse(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.truncate(600 * 1024 * 1024)

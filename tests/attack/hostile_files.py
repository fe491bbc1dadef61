"""Makes a folder of odd, damaged and hostile files, and says what must come of each.

The readable ones hold a small drawn smear, so that the same table can be run through the whole program. The pictures
are drawn, and the damage is done to their bytes, so that no third party's file is needed.
"""

from __future__ import annotations

import io
import json
import os
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from healthy_files import jpegs, others, pngs, tiffs
from making import (
    READ,
    HostileFile,
    Table,
    as_grey,
    encoded,
    grey_tiff,
    jpeg_segment,
    png,
    png_chunk,
    png_header,
    rgb,
    smear,
    tiff_file,
)


def make(folder: Path) -> list[HostileFile]:
    """Fill the folder, which must exist and be empty, and return the table. Everything is removed with the folder.

    Files that an ordinary user may not read are among them only when the tests do not run as root, whom nothing stops.
    """
    table: list[HostileFile] = []
    for part in (jpegs, pngs, tiffs, others, _cut_off, _damaged, _bombs, _not_pictures, _names, _no_files):
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


def _cut_off(folder: Path) -> list[HostileFile]:
    table, field = Table(folder), smear()
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
    half = whole["progressive.jpg"][: len(whole["progressive.jpg"]) // 2]
    table.fails("progressive, cut and closed.jpg", "truncated", half + b"\xff\xd9")
    table.fails("second half never written.jpg", "truncated", _zero_tail(whole["jpg"]))
    table.fails("second half never written.png", "damaged", _zero_tail(whole["png"]))
    short = png_header(320, 240) + png_chunk(b"IDAT", zlib.compress(bytes(961 * 100))) + png_chunk(b"IEND", b"")
    table.fails("too few rows.png", "truncated", short)
    grey = as_grey(field)[..., 0]
    table.fails("strips never written.tif", "truncated", grey_tiff(grey, _273=0))
    table.fails("too few strips.tif", "truncated", grey_tiff(grey, _278=60))
    table.fails("one byte short.tif", "truncated", _without_last_pixel(grey))
    return table.rows


def _without_last_pixel(grey: np.ndarray) -> bytes:
    """A TIFF whose directory stands before its pixels, the last of which is missing."""
    height, width = grey.shape
    entries = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 200, 277: 1, 278: height, 279: grey.size}
    directory = tiff_file([(tag, 4, 1, value) for tag, value in entries.items()])
    return directory.ljust(200, b"\0") + grey.tobytes()[:-1]


def _zero_tail(data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes(len(data) - len(data) // 2)


def _damaged(folder: Path) -> list[HostileFile]:
    table, field = Table(folder), smear()
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
    empty_scan = _bare_jpeg(320, 240).replace(
        jpeg_segment(0xDA, bytes([3, 1, 0, 2, 0, 3, 0, 0, 63, 0])), jpeg_segment(0xDA, b"")
    )
    table.fails("empty scan.jpg", "damaged", empty_scan)
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
    table, field = Table(folder), smear()
    side = 30_000
    end = png_chunk(b"IDAT", zlib.compress(bytes(1000))) + png_chunk(b"IEND", b"")
    table.fails("30000x30000.png", "too-large", png_header(side, side) + end)
    table.fails("30000x30000.jpg", "too-large", _bare_jpeg(side, side))
    table.fails("30000x30000.tif", "too-large", grey_tiff(np.zeros((16, 16), np.uint8), _256=side, _257=side))
    table.fails(
        "30000x30000.bmp",
        "too-large",
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 0, 0, 0, 54, 40, side, side, 1, 24, *[0] * 6),
    )
    table.fails("30000x30000.gif", "too-large", b"GIF89a" + struct.pack("<HHBBB", side, side, 0, 0, 0) + b";")
    table.fails("30000x30000.ppm", "too-large", b"P6 30000 30000 255\n")
    extended = struct.pack("<I", 0) + (16_000).to_bytes(3, "little") * 2
    table.fails("16000x16000.webp", "too-large", b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0" + extended)
    table.fails("4000000000x4000000000.png", "damaged", png_header(4_000_000_000, 0) + end)
    table.fails("wide.png", "too-large", png_header(2_000_000_000, 2_000_000_000) + end)
    inflating = zlib.compress(bytes(100_000_000), 9)
    bomb = png_header(320, 240) + png_chunk(b"IDAT", inflating) + png_chunk(b"IEND", b"")
    table.read("inflates to 100 MB.png", bomb, np.zeros((240, 320, 3), np.uint8))
    progressive = encoded(rgb(field), "JPEG", progressive=True)
    last = progressive.rfind(b"\xff\xda")
    thin = png_header(10_000, 10_000) + png_chunk(b"IDAT", inflating)
    table.fails("10000x10000 of nothing.png", "damaged", thin + png_chunk(b"IEND", b""))
    table.fails("1000 scans.jpg", "damaged", progressive[:-2] + progressive[last:-2] * 1000 + b"\xff\xd9")
    table.fails(
        "tile bomb.tif", "damaged", grey_tiff(np.zeros((64, 64), np.uint8), _322=65_520, _323=32_000, _324=8, _325=64)
    )
    for name, width, height in (("1x1", 1, 1), ("15x200", 15, 200)):
        picture = rgb(np.full((height, width, 3), 200, np.uint8))
        table.fails(f"{name}.png", "too-small", encoded(picture, "PNG"))
        table.fails(f"{name}.jpg", "too-small", encoded(picture, "JPEG"))
    return table.rows


def _not_pictures(folder: Path) -> list[HostileFile]:
    table = Table(folder)
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
    table.fails(
        "drawing.png", "unsupported-format", b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>'
    )
    table.fails("scan.dcm", "unsupported-format", bytes(128) + b"DICM" + bytes(100))
    table.fails("icon.png", "unsupported-format", encoded(rgb(smear(64, 64)), "ICO"))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.png", png(smear()))
    table.fails("archive.jpg", "unsupported-format", archive.getvalue())
    return table.rows


def _names(folder: Path) -> list[HostileFile]:
    table, field = Table(folder), smear()
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
    # A socket's path may have 107 bytes at most, so it is made from inside the folder.
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

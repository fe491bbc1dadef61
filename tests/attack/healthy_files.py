"""The files of the table that must be read, and the odd variants among them that are refused."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
from making import (
    HostileFile,
    Table,
    as_grey,
    by_opencv,
    encoded,
    exif,
    grey_tiff,
    jpeg_segment,
    png,
    png_chunk,
    rgb,
    smear,
    stored_for,
    tiff_file,
    with_chunk,
)
from PIL import Image as PillowImage
from PIL.TiffImagePlugin import ImageFileDirectory_v2


def jpegs(folder: Path) -> list[HostileFile]:
    table, field = Table(folder), smear()
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
    lossy(
        "exif is noise.jpg",
        plain[:2] + jpeg_segment(0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff" + os.urandom(99)) + plain[2:],
    )
    lossy("two pictures.jpg", encoded(rgb(field), "MPO", save_all=True, append_images=[rgb(255 - field)], quality=95))
    with_thumbnail = jpeg_segment(0xE1, b"Exif\0\0" + b"MM\0*\0\0\0\x08\0\0" + encoded(rgb(field[::8, ::8]), "JPEG"))
    lossy("thumbnail.jpg", plain[:2] + with_thumbnail + plain[2:])
    for orientation in range(1, 9):
        turned = encoded(rgb(stored_for(field, orientation)), "JPEG", quality=95, exif=exif(orientation))
        lossy(f"exif {orientation}.jpg", turned)
    lossy("exif 9 means nothing.jpg", encoded(rgb(field), "JPEG", quality=95, exif=exif(9)))
    return table.rows


def pngs(folder: Path) -> list[HostileFile]:
    table, field = Table(folder), smear()
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
    bomb = zlib.compress(bytes(100_000_000), 9)
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
    for x, y, dx, dy in (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ):
        for row in field[y::dy, x::dx, ::-1]:
            lines += b"\0" + row.tobytes()
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(bytes(lines))) + png_chunk(b"IEND", b"")


def _amplifying_directory() -> bytes:
    """A TIFF directory of 4,000 tags that each claim the same two megabytes."""
    size = 2_000_000
    entries = [(tag, 1, size, 8) for tag in range(1000, 5000)]
    return tiff_file(entries, bytes(size))


def tiffs(folder: Path) -> list[HostileFile]:
    table, field = Table(folder), smear()
    picture = rgb(field)
    grey = np.asarray(picture.convert("L"))
    greyed = as_grey(field)
    table.read("plain.tif", encoded(picture, "TIFF"), field)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        table.read(f"{compression}.tiff", encoded(picture, "TIFF", compression=compression), field)
    table.read("jpeg inside.tif", encoded(picture, "TIFF", compression="jpeg", quality=95), field, 2.5, 60)
    table.read("bigtiff.tif", encoded(picture, "TIFF", big_tiff=True), field)
    table.read("cmyk.tif", encoded(picture.convert("CMYK"), "TIFF"), field, 1, 2)
    table.read("one bit.tif", encoded(picture.convert("1"), "TIFF", compression="packbits"), _one_bit(picture))
    table.fails("fax.tif", "unsupported-mode", encoded(picture.convert("1"), "TIFF", compression="group4"))
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
    table.read("thumbnail page.tif", _thumbnail_first(grey), greyed)

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


def _thumbnail_first(grey: np.ndarray) -> bytes:
    """Two pages, the first of which is marked as a reduced copy of the other."""
    small = np.ascontiguousarray(grey[::4, ::4])
    pixels = small.tobytes() + grey.tobytes()

    def page(samples: np.ndarray, offset: int, subfile: int) -> list[tuple[int, int, int, int]]:
        height, width = samples.shape
        entries = {254: subfile, 256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: offset, 277: 1, 278: height}
        return [(tag, 4, 1, value) for tag, value in (entries | {279: samples.size}).items()]

    second = tiff_file(page(grey, 8 + small.size, 0))[8:]
    return tiff_file(page(small, 8, 1), pixels + second, following=8 + len(pixels))


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


def others(folder: Path) -> list[HostileFile]:
    table, field = Table(folder), smear()
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
    table.read(
        "endless comments.gif",
        animated[: 13 + 768] + (b"\x21\xfe" + b"\xff" + b"c" * 255 + b"\0") * 3000 + animated[13 + 768 :],
        first,
    )
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

"""Whatever the bytes, a picture comes out or an `InputError`; and a file says the same however it is stored."""

from __future__ import annotations

import io

import cv2
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image as PillowImage

from edge.core.errors import InputError
from edge.files import display_name
from edge.imaging.decode import decode

CODES = {
    "empty-file",
    "not-an-image",
    "unsupported-format",
    "unsupported-mode",
    "too-small",
    "too-large",
    "truncated",
    "damaged",
    "several-pages",
}
STARTS = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"II*\0\x08\0\0\0",
    b"MM\0+",
    b"BM",
    b"GIF89a",
    b"RIFF\0\1\0\0WEBPVP8L",
    b"P6 20 20 255 ",
)


def _valid() -> list[bytes]:
    generator = np.random.default_rng(1)
    colours = cv2.GaussianBlur(generator.integers(0, 256, (32, 40, 3), dtype=np.uint8), (0, 0), 2)
    picture = PillowImage.fromarray(colours)

    def encoded(kind: str, source: PillowImage.Image = picture, **options: object) -> bytes:
        buffer = io.BytesIO()
        source.save(buffer, kind, **options)
        return buffer.getvalue()

    deep = colours.astype(np.uint16) * 200
    return [
        encoded("JPEG"),
        encoded("JPEG", progressive=True, exif=b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"),
        encoded("JPEG", picture.convert("CMYK")),
        encoded("PNG"),
        encoded("PNG", picture.convert("RGBA").quantize(20)),
        encoded("TIFF"),
        *(encoded("TIFF", compression=name) for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")),
        encoded("TIFF", big_tiff=True),
        encoded("BMP"),
        encoded("WEBP", lossless=True),
        encoded("WEBP", save_all=True, append_images=[picture.rotate(90)]),
        encoded("GIF", save_all=True, append_images=[picture.rotate(90)]),
        encoded("PPM"),
        *(cv2.imencode(suffix, deep)[1].tobytes() for suffix in (".png", ".tiff")),
    ]


VALID = _valid()


def picture_or_code(data: bytes) -> np.ndarray | str:
    try:
        # A mutated header may claim a large picture; the limit keeps the test quick.
        picture = decode(data, max_pixels=1_000_000)
    except InputError as error:
        assert error.code in CODES and error.message and error.cure
        return error.code
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
    assert picture.flags.c_contiguous and min(picture.shape[:2]) >= 16
    return picture


@given(start=st.sampled_from((b"", *STARTS)), rest=st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_a_picture_or_an_input_error(start: bytes, rest: bytes) -> None:
    picture_or_code(start + rest)


@given(
    data=st.sampled_from(VALID),
    changes=st.lists(
        st.tuples(st.sampled_from(("set", "cut", "insert", "ones", "end")), st.floats(0, 1), st.integers(0, 255)),
        min_size=1,
        max_size=8,
    ),
    near_start=st.booleans(),
)
@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_damage_gives_a_picture_or_an_input_error(
    data: bytes, changes: list[tuple[str, float, int]], near_start: bool
) -> None:
    mutated = bytearray(data)
    for kind, where, value in changes:
        at = int(where * min(len(mutated), 200 if near_start else len(mutated)))
        if kind == "set":
            mutated[at : at + 1] = bytes([value])
        elif kind == "cut":
            del mutated[at : at + value]
        elif kind == "insert":
            mutated[at:at] = bytes([value]) * (value % 20)
        elif kind == "ones":
            mutated[at : at + 4] = b"\xff" * 4
        else:
            del mutated[at:]
    picture_or_code(bytes(mutated))


@given(
    pixels=arrays.arrays(np.uint8, st.tuples(st.integers(16, 40), st.integers(16, 40), st.just(3))),
    suffix=st.sampled_from((".png", ".bmp", ".tiff", ".ppm")),
)
@settings(max_examples=80, deadline=None)
def test_lossless_files_give_back_every_pixel(pixels: np.ndarray, suffix: str) -> None:
    done, data = cv2.imencode(suffix, pixels)
    assert done
    assert np.array_equal(decode(data.tobytes()), pixels)


@given(
    pixels=arrays.arrays(np.uint16, st.tuples(st.integers(16, 30), st.integers(16, 30), st.just(3))),
    depth=st.sampled_from((10, 12, 14, 16)),
    suffix=st.sampled_from((".png", ".tiff")),
    colour=st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_deep_samples_are_scaled_by_the_depth_in_use(pixels: np.ndarray, depth: int, suffix: str, colour: bool) -> None:
    deep = pixels >> (16 - depth)
    deep[0, 0] = (1 << depth) - 1
    stored = deep if colour else np.ascontiguousarray(deep[..., 0])
    expected = np.floor((deep if colour else deep[..., :1].repeat(3, 2)) * 255.0 / ((1 << depth) - 1) + 0.5)
    assert np.array_equal(decode(cv2.imencode(suffix, stored)[1].tobytes()), expected)


@given(name=st.text(st.characters(exclude_categories=()), max_size=30))
def test_every_name_can_be_shown(name: str) -> None:
    shown = display_name(name)
    assert shown.encode("utf-8").decode("utf-8") == shown
    assert not any(ord(character) < 32 or ord(character) == 127 for character in shown)
    if name.isascii() and name.isprintable():
        assert shown == name

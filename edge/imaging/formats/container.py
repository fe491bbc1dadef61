"""A checked image file, and the words in which one is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from edge.core.errors import InputError

ImageFormat = Literal["JPEG", "PNG", "TIFF", "BMP", "WebP", "GIF", "PNM"]

MAX_PIXELS: Final = 120_000_000
"""Larger than any camera's frame, smaller than a whole slide. Decoding takes 8 to 16 bytes per pixel."""

SMALLEST_SIDE: Final = 16
"""Pixels. Nothing smaller can hold a cell that anyone could name."""


@dataclass(frozen=True, slots=True)
class Container:
    """A file whose structure has been checked. `data` is the part of it that makes the picture, and nothing else.

    `width` and `height` are in pixels, as stored: before `orientation` (EXIF 1-8; 1 = upright) is applied. `depth` is
    in bits per sample as stored. `white_is_zero` marks a TIFF whose grey scale runs backwards.
    `channels` and `white` (the value that stands for white) are stated for PNM alone, whose `data` are bare samples.
    """

    format: ImageFormat
    width: int
    height: int
    depth: int
    data: bytes
    orientation: int = 1
    white_is_zero: bool = False
    channels: int = 0
    white: int = 0


def truncated() -> InputError:
    """Make the error for a file that ends before its picture does."""
    return InputError(
        "truncated",
        "The file is cut off: the end of the picture is missing.",
        "Copy it again from the camera, and let the copy finish before you pull out the card.",
    )


def damaged(detail: str) -> InputError:
    """Make the error for a file that contradicts itself; `detail` is a clause without a full stop."""
    return InputError(
        "damaged",
        f"The picture file is damaged: {detail}.",
        "Copy it again from the camera, or take the picture again.",
    )


def unsupported(detail: str) -> InputError:
    """Make the error for a healthy file in a variant that is not read; `detail` is a noun phrase."""
    return InputError(
        "unsupported-mode",
        f"The picture is stored in a way that cannot be read here: {detail}.",
        "Save it again as an ordinary 8-bit colour JPEG, PNG or TIFF.",
    )


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse a picture of more than `max_pixels`, or with a side under `SMALLEST_SIDE` pixels."""
    if width <= 0 or height <= 0:
        raise damaged(f"it claims a size of {width} x {height} pixels")
    if width * height > max_pixels:
        raise InputError(
            "too-large",
            f"The picture has {width} x {height} pixels; at most {max_pixels // 1_000_000} million can be read.",
            "Export single fields of view, not the whole slide.",
        )
    if min(width, height) < SMALLEST_SIDE:
        raise InputError(
            "too-small",
            f"The picture has only {width} x {height} pixels: too few to hold a cell.",
            "Use the picture itself, not its thumbnail.",
        )

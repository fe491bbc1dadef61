"""From the bytes of an image file to the one kind of picture that everything else here works on.

Pillow decodes, since it alone reports a picture that is cut off; the container is checked before
(`edge.imaging.formats`). PNM, which is nothing but samples, is read as such.
What is decided here:

- The picture is turned as its EXIF orientation says.
- Transparent parts become white, as a blank slide is. An alpha channel that is zero everywhere was never filled in by
  the program that wrote it, and is ignored.
- More than 8 bits per sample are scaled by the depth that the values really use (8, 10, 12, 14 or 16 bits): a 12-bit
  camera's picture in a 16-bit file would be black otherwise.
- Floating-point grey is read as 0..1 or, if its largest value is above 16, as 0..255. Anything else is refused.
- Of an animation the first picture is read. A TIFF with several full-size pages is refused: reading one of many fields
  without a word would lose the others.
- CMYK is converted without its colour profile; profiles are not applied to any picture.
- A JPEG whose lower part is decoder's fill (even mid-grey from some point to the end) is refused as cut off.

Memory: about twice the file, plus 8 bytes per pixel (16 for WebP and for 16-bit colour), as measured. One picture is
decoded at a time in a process.
"""

from __future__ import annotations

import struct
import threading
import warnings
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL import Image as PillowImage
from PIL.ImageFile import ImageFile

from edge.core.errors import InputError
from edge.core.types import Image
from edge.imaging.formats import png
from edge.imaging.formats.container import MAX_PIXELS, Container, ImageFormat, damaged, truncated, unsupported
from edge.imaging.formats.inspection import inspect

_MODES: Final = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr")
_STRIP_PIXELS: Final = 2_000_000
_CAMERA_DEPTHS: Final = (8, 10, 12, 14, 16)
_JPEG_FILL: Final = 128

_OPENERS: Final[dict[ImageFormat, Callable[[BytesIO], ImageFile]]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
}

_DECODER_FAULTS: Final = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    ArithmeticError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    RuntimeError,
    struct.error,
    zlib.error,
    PillowImage.DecompressionBombError,
)
"""What a decoder raises on a file that its authors did not foresee."""

_one_at_a_time = threading.Lock()
"""Bounds the memory to one picture, and makes `warnings.catch_warnings` safe between threads."""


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> Image:
    """Decode an image file.

    Args:
        data: the whole file: JPEG, PNG, TIFF, BMP, WebP, GIF or binary PNM.
        max_pixels: the largest width x height that is accepted; judged by the header, before memory is spent.

    Returns:
        uint8[H, W, 3], BGR, 0-255, contiguous, upright.

    Raises:
        InputError: with code "empty-file", "not-an-image", "unsupported-format", "unsupported-mode", "too-small",
            "too-large", "truncated", "damaged" or "several-pages".
    """
    container = inspect(data, max_pixels)
    if container.format == "PNM":
        return _from_samples(_pnm_samples(container), container)
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with _OPENERS[container.format](BytesIO(container.data)) as picture:
                if picture.size != (container.width, container.height):
                    raise damaged("it states two different sizes")
                picture.load()
                if container.format == "PNG" and _ends_in_zeros(picture) and png.is_short(container.data):
                    raise truncated()
                return _to_bgr(picture, container)
        except MemoryError as error:
            raise InputError(
                "too-large", "There is not enough memory to open the picture.", "Use a smaller picture."
            ) from error
        except _DECODER_FAULTS as error:
            raise _translated(error) from error


def _translated(error: BaseException) -> InputError:
    text = str(error).lower()
    if "truncated" in text or "not enough image data" in text or "unexpected end" in text:
        return truncated()
    if any(
        word in text for word in ("unsupported", "unknown pixel mode", "unknown data organization", "not available")
    ):
        return unsupported("an unusual pixel layout or compression")
    return damaged("its content cannot be decoded")


def _to_bgr(picture: ImageFile, container: Container) -> Image:
    if container.depth > 8 or picture.mode in ("I", "F"):
        return _from_samples(_deep_samples(picture, container), container)
    if container.format == "JPEG" and _ends_in_fill(picture):
        raise truncated()
    if picture.mode not in _MODES:
        raise unsupported(f"{picture.mode} colours")
    flatten = picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info
    ignore_alpha = flatten and not _alpha_is_used(picture)
    return _by_strips(
        container,
        lambda top, bottom: _strip(picture.crop((0, top, picture.width, bottom)), flatten, ignore_alpha),
    )


def _strip(strip: PillowImage.Image, flatten: bool, ignore_alpha: bool) -> Image:
    if not flatten:
        return np.asarray(strip.convert("RGB"))
    rgba = np.asarray(strip.convert("RGBA"))
    return rgba[..., :3] if ignore_alpha else _on_white(rgba[..., :3], rgba[..., 3])


def _alpha_is_used(picture: PillowImage.Image) -> bool:
    rows = max(1, _STRIP_PIXELS // picture.width)
    return any(
        picture.crop((0, top, picture.width, min(top + rows, picture.height))).convert("RGBA").getchannel("A").getbbox()
        for top in range(0, picture.height, rows)
    )


def _on_white(colours: Image, alpha: Image) -> Image:
    weight = alpha[..., None].astype(np.uint16)
    blended = (colours * weight + (255 - weight) * 255 + 127) // 255
    return blended.astype(np.uint8)


def _pnm_samples(container: Container) -> npt.NDArray[Any]:
    height, width = container.height, container.width
    if container.depth == 1:
        rows = np.frombuffer(container.data, np.uint8).reshape(height, -1)
        return 1 - np.unpackbits(rows, axis=1, count=width)
    samples = np.frombuffer(container.data, np.uint8 if container.depth == 8 else np.dtype(">u2"))
    return samples.reshape((height, width, 3) if container.channels == 3 else (height, width))


def _by_strips(container: Container, read: Callable[[int, int], Image]) -> Image:
    """Fill the upright picture strip by strip; `read(top, bottom)` gives stored rows as RGB."""
    height, width = container.height, container.width
    turned = container.orientation >= 5
    upright: Image = np.empty((width, height, 3) if turned else (height, width, 3), np.uint8)
    stored = _as_stored(upright, container.orientation)
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        stored[top:bottom] = read(top, bottom)[..., ::-1]
    return upright


def _as_stored(upright: Image, orientation: int) -> Image:
    """View the upright picture with its rows and columns where the file stored them (CIPA DC-008, tag 274)."""
    view = upright.swapaxes(0, 1) if orientation >= 5 else upright
    if orientation in (3, 4, 6, 7):
        view = view[::-1]
    if orientation in (2, 3, 7, 8):
        view = view[:, ::-1]
    return view


def _deep_samples(picture: ImageFile, container: Container) -> npt.NDArray[Any]:
    """Read the samples of more than 8 bits: [H, W] or RGB(A) [H, W, 3 or 4].

    Pillow keeps only the upper 8 bits of deep colour, so OpenCV reads that, after Pillow has decoded the file and found
    it whole.
    """
    if picture.mode in ("I;16", "I;16B", "I;16L", "I;16N", "I", "F"):
        return np.asarray(picture)
    if picture.mode not in ("RGB", "RGBA", "RGBX", "LA", "RGBa"):
        raise unsupported(f"{container.depth}-bit samples in {picture.mode} colours")
    picture.close()
    try:
        deep = cv2.imdecode(np.frombuffer(container.data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise unsupported(f"{container.depth}-bit colour in an unusual layout") from error
    if deep is None or deep.dtype != np.uint16 or deep.ndim != 3 or deep.shape[:2] != picture.size[::-1]:
        raise unsupported(f"{container.depth}-bit colour in an unusual layout")
    return deep[..., [2, 1, 0, 3]] if deep.shape[2] == 4 and picture.mode != "RGB" else deep[..., 2::-1]


def _from_samples(samples: npt.NDArray[Any], container: Container) -> Image:
    deep_alpha = samples[..., 3] if samples.ndim == 3 and samples.shape[2] == 4 else None
    colours = samples[..., :3] if samples.ndim == 3 else samples[..., None]
    white = float(container.white) or _full_scale(colours)
    opaque = _full_scale(deep_alpha) if deep_alpha is not None and deep_alpha.any() else 0.0

    def read(top: int, bottom: int) -> Image:
        scaled = _to_bytes(colours[top:bottom], white)
        if container.white_is_zero:
            scaled = 255 - scaled
        if scaled.shape[2] == 1:
            scaled = scaled.repeat(3, axis=2)
        if deep_alpha is None or not opaque:
            return scaled
        return _on_white(scaled, _to_bytes(deep_alpha[top:bottom], opaque))

    return _by_strips(container, read)


def _to_bytes(samples: npt.NDArray[Any], white: float) -> Image:
    if samples.dtype.kind == "u" and samples.dtype.itemsize <= 2:
        levels = np.arange(1 << 8 * samples.dtype.itemsize)
        table: Image = np.clip(levels * 255.0 / white + 0.5, 0, 255).astype(np.uint8)
        return np.take(table, samples)
    return np.clip(samples * (255.0 / white) + 0.5, 0, 255).astype(np.uint8)


def _full_scale(samples: npt.NDArray[Any]) -> float:
    """Find the value of white: 1 or 255 for floating point, else the largest of the camera depth in use."""
    lowest, highest = float(samples.min()), float(samples.max())
    if not lowest >= 0 or not highest <= 65535:
        raise unsupported("values below zero, above 65,535, or not numbers")
    if np.issubdtype(samples.dtype, np.floating):
        if highest <= 1:
            return 1.0
        if 16 < highest <= 255:
            return 255.0
        raise unsupported("decimal numbers in a range that is neither 0 to 1 nor 0 to 255")
    depth = next(depth for depth in _CAMERA_DEPTHS if highest < 1 << depth)
    return float((1 << depth) - 1)


def _ends_in_zeros(picture: PillowImage.Image) -> bool:
    last_two = np.asarray(picture.crop((0, picture.height - 2, picture.width, picture.height)))
    return not (last_two[0].any() and last_two[1].any())


def _ends_in_fill(picture: PillowImage.Image) -> bool:
    """Whether a JPEG goes on in the decoder's own mid-grey from the middle of a block row to its end.

    That is how libjpeg shows a picture whose data stop early although the end is marked. A grey border that someone
    drew covers whole rows or columns, and is no reason.
    """
    width, height = picture.size[0] // 8 * 8, picture.size[1] // 8 * 8
    corner = picture.crop((width - 8, height - 8, width, height)).convert("RGB")
    if corner.getextrema() != ((_JPEG_FILL, _JPEG_FILL),) * 3:
        return False
    grey = np.asarray(picture.convert("L"))[:height, :width] == _JPEG_FILL
    filled = grey.reshape(height // 8, 8, width // 8, 8).all(axis=(1, 3))
    started = np.flatnonzero(~filled.all(axis=1))
    if not started.size:
        return False
    last = int(started[-1])
    above = max(0, last - 2)
    return bool(filled[last, -1] and not filled[last, 0] and not filled[above, -1])

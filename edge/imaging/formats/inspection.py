"""What an image file claims, read and checked without decoding a pixel.

A decoder trusts its file. A file from a memory card or a stranger deserves no trust: it may be cut off, damaged by
the card, or made to exhaust the memory. `inspect` therefore walks the container first, and hands on only the parts
that make pixels. Comments, colour profiles, thumbnails and everything else that could be a decompression bomb or an
endless table never reach the decoder; the picture's size is known before any memory is spent on it.

Accepted: JPEG, PNG, TIFF, BigTIFF, BMP, WebP, GIF, and binary PNM (P4, P5, P6). A picture without its end is refused,
even where a decoder would fill the rest with grey: half a field is a wrong count.

Sources of the layouts: ITU-T T.81 annex B (JPEG), W3C PNG third edition, TIFF 6.0 and the BigTIFF extension, CIPA
DC-008 (EXIF orientation), RFC 9649 (WebP), GIF89a.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Final

from edge.core.errors import InputError
from edge.imaging.formats import jpeg, png, simple, tiff
from edge.imaging.formats.container import Container, ImageFormat, damaged, truncated

HEAD_LENGTH: Final = 4096
"""Bytes from the start of a file that are enough to tell what it is."""

_PIXELS_ON_TRUST: Final = 16_000_000
_PIXELS_PER_BYTE: Final = 100
"""A real field takes a byte for 1 to 20 pixels. A tiny file may make the decoder spend memory for `_PIXELS_ON_TRUST`
pixels, and no more."""

_UNSUPPORTED_STARTS: Final = (
    (b"%PDF", "PDF document"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "JPEG 2000 picture"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL picture"),
    (b"\xff\x0a", "JPEG XL picture"),
    (b"8BPS", "Photoshop picture"),
    (b"gimp xcf", "GIMP picture"),
    (b"\x00\x00\x01\x00", "icon"),
    (b"icns", "icon"),
    (b"SIMPLE  =", "FITS picture"),
    (b"\x93NUMPY", "NumPy array"),
    (b"v/1\x01", "OpenEXR picture"),
    (b"\x1aE\xdf\xa3", "video"),
    (b"FUJIFILMCCD-RAW", "camera raw picture"),
    (b"IIRO", "camera raw picture"),
    (b"IIU\x00", "camera raw picture"),
    (b"PK\x03\x04", "ZIP archive"),
    (b"\x1f\x8b", "compressed archive"),
    (b"Rar!", "compressed archive"),
    (b"7z\xbc\xaf", "compressed archive"),
    (b"P1", "text PNM picture"),
    (b"P2", "text PNM picture"),
    (b"P3", "text PNM picture"),
    (b"P7", "PAM picture"),
    (b"PF", "float PFM picture"),
    (b"Pf", "float PFM picture"),
)
HEIF_BRANDS: Final = (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif", b"avis", b"heim", b"heis")
"""Major brands of still pictures in the container that MP4 uses too."""


_INSPECTORS: Final[dict[ImageFormat, Callable[[bytes, int], Container]]] = {
    "JPEG": jpeg.inspect,
    "PNG": png.inspect,
    "TIFF": tiff.inspect,
    "BMP": simple.inspect_bmp,
    "WebP": simple.inspect_webp,
    "GIF": simple.inspect_gif,
    "PNM": simple.inspect_pnm,
}


def recognise(head: bytes) -> ImageFormat:
    """Tell the format from the first `HEAD_LENGTH` bytes of a file; its name is never believed.

    Raises `InputError` with code "empty-file", "unsupported-format" or "not-an-image".
    """
    if not head:
        raise InputError("empty-file", "The file is empty.", "Copy it again from the camera or the memory card.")
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WebP"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if (
        head.startswith(b"BM")
        and len(head) >= 18
        and struct.unpack_from("<I", head, 14)[0] in (12, 40, 52, 56, 64, 108, 124)
    ):
        return "BMP"
    if simple.PNM_HEADER.match(head):
        return "PNM"
    raise _unknown(head)


def _unknown(head: bytes) -> InputError:
    cure = "Save the picture as JPEG, PNG or TIFF."
    found = next((name for start, name in _UNSUPPORTED_STARTS if head.startswith(start)), None)
    if head[4:8] == b"ftyp":
        found = "HEIF or AVIF picture" if head[8:12] in HEIF_BRANDS else "video"
        if found != "video":
            cure = "Save the picture as JPEG or PNG; on a phone, choose the 'most compatible' camera format."
    elif head.startswith(b"RIFF") and len(head) >= 12:
        found = "video" if head[8:12] == b"AVI " else "sound or video file"
    elif head[128:132] == b"DICM":
        found = "DICOM picture"
    elif re.match(rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?(<!DOCTYPE svg|<svg)", head, re.DOTALL):
        found = "SVG drawing"
    if found is not None:
        return InputError("unsupported-format", f"The file is a {found}, which cannot be read here.", cure)
    if not head.strip(b"\0"):
        return InputError(
            "not-an-image",
            "The file holds nothing but zeros: it was never fully written.",
            "Copy it again from the camera; if it is the same there, the picture is lost.",
        )
    return InputError("not-an-image", "The file is not a picture.", "Check that this is the file you meant.")


def inspect(data: bytes, max_pixels: int) -> Container:
    """Check the structure of an image file, without decoding it.

    Args:
        data: the whole file.
        max_pixels: the largest width x height that is accepted.

    Raises:
        InputError: "empty-file", "not-an-image", "unsupported-format", "unsupported-mode", "too-small", "too-large",
            "truncated", "damaged" or "several-pages".
    """
    kind = recognise(data[:HEAD_LENGTH])
    try:
        container = _INSPECTORS[kind](data, max_pixels)
    except (struct.error, IndexError) as error:
        raise truncated() from error
    pixels = container.width * container.height
    if pixels > _PIXELS_ON_TRUST and pixels > _PIXELS_PER_BYTE * len(container.data):
        raise damaged("it claims far more pixels than it has data for")
    return container

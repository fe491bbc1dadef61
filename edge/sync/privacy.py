"""What leaves the device: no names of files or people but the staff's, no metadata in pictures. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from edge.sync.trouble import RefusedError

OUTGOING: Final = ("sample", "fields", "differential", "bundle", "runtime", "elapsed_seconds")
"""The parts of a document that are sent. What else a device keeps in it stays there."""


def outgoing(document: Mapping[str, Any]) -> dict[str, Any]:
    """Give the document as it leaves the device: files are called "field-1", "field-2", ..., errors have a code only.

    A path says where on a disk a file lies, and too often whose it is; the message of an error repeats it.
    """
    return {
        **{name: document[name] for name in OUTGOING if name in document},
        "fields": [_field(number, field) for number, field in enumerate(document.get("fields", []), start=1)],
    }


def _field(number: int, field: Mapping[str, Any]) -> dict[str, Any]:
    cleaned = {**field, "file": f"field-{number}"}
    if "error" in field:
        cleaned["error"] = {"code": str(field["error"].get("code", "")), "message": ""}
    return cleaned


def restored(received: Mapping[str, Any], local: Mapping[str, Any]) -> dict[str, Any]:
    """Undo `outgoing` on a document that came back: what stayed on the device is put in again from its own version."""
    own = list(local.get("fields", []))
    fields = []
    for index, field in enumerate(received.get("fields", [])):
        mine = own[index] if index < len(own) else {}
        kept = {name: mine[name] for name in ("file", "error") if name in mine and name in field}
        fields.append({**field, **kept})
    return {**local, **received, "fields": fields}


def without_metadata(jpeg: bytes) -> bytes:
    """Give a JPEG without what is not picture: EXIF, XMP, IPTC, comments, thumbnails, anything after its end.

    Kept are JFIF (APP0) and Adobe (APP14), which say how colours are meant. The entropy-coded data are copied as they
    are. ITU-T T.81, annex B.

    Raises `RefusedError` `picture-unreadable` for bytes that cannot be told apart so: they are not sent.
    """
    if jpeg[:2] != b"\xff\xd8":
        raise _unreadable()
    kept = [jpeg[:2]]
    place = 2
    while place + 4 <= len(jpeg) and jpeg[place] == 0xFF:
        marker = jpeg[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        length = int.from_bytes(jpeg[place + 2 : place + 4], "big")
        if marker == 0xDA:
            kept.append(_scans(jpeg, place))
            return b"".join(kept)
        segment = jpeg[place : place + 2 + length]
        if not (0xE0 <= marker <= 0xEF or marker == 0xFE) or _is_colour(marker, segment):
            kept.append(segment)
        place += 2 + length
    raise _unreadable()


def _unreadable() -> RefusedError:
    return RefusedError(
        "picture-unreadable", "A picture of this version is no JPEG that can be rid of metadata.", "Analyse it again."
    )


def _is_colour(marker: int, segment: bytes) -> bool:
    # A JFIF extension (also APP0) holds a thumbnail.
    return (marker == 0xE0 and segment[4:9] == b"JFIF\0") or (marker == 0xEE and segment[4:9] == b"Adobe")


def _scans(jpeg: bytes, place: int) -> bytes:
    """Give everything from the first scan to the end of the picture."""
    end = jpeg.find(b"\xff\xd9", place)
    return jpeg[place:] if end < 0 else jpeg[place : end + 2]

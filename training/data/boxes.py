"""Annotations of whole fields, Pascal VOC and YOLO, read as if a stranger had written them."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from edge.core.errors import InputError
from edge.files import display_name
from training.data.tables import MAX_TEXT_BYTES, read_text

Rectangle = tuple[float, float, float, float]
"""(left, top, right, bottom), in pixels or in shares of the picture's sides."""


def _bad(path: Path, what: str) -> InputError:
    return InputError(
        "broken-annotation", f"{display_name(path)}: {what}.", "Export the annotation again, or remove the file."
    )


def _refuse(*_: object) -> None:
    raise ValueError("it declares a document type, whose entities could fill the memory")


def read_xml(path: Path) -> ElementTree.Element:
    """Read an XML file without a document type: no entity is declared, so none can be expanded or fetched.

    Raises InputError `broken-annotation`, or as `training.data.tables.read_text` for a file that cannot be read.
    """
    text = read_text(path, MAX_TEXT_BYTES // 16)
    # What the declaration says of the encoding no longer holds: this is decoded text.
    data = text.encode("utf-8")
    guard = expat.ParserCreate("utf-8")
    guard.StartDoctypeDeclHandler = _refuse
    try:
        guard.Parse(data, True)
        return ElementTree.fromstring(data, ElementTree.XMLParser(encoding="utf-8"))  # noqa: S314  (checked above)
    except (expat.ExpatError, ElementTree.ParseError, ValueError) as error:
        raise _bad(path, str(error)) from error


def _finite(values: list[str], path: Path) -> list[float]:
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        raise _bad(path, f"{' '.join(values)[:80]!r} are no finite numbers")
    return numbers


def voc_objects(path: Path) -> tuple[str, list[tuple[str, Rectangle]]]:
    """Read a Pascal VOC annotation: the name of its picture, and name and box in pixels of each object.

    Raises InputError as `read_xml`, also for a box that is no box.
    """
    root = read_xml(path)
    objects = []
    for item in root.iter("object"):
        bounds = item.find("bndbox")
        name = (item.findtext("name") or "").strip()
        if bounds is None or not name:
            raise _bad(path, "an object has no name or no bndbox")
        values = [bounds.findtext(key) or "" for key in ("xmin", "ymin", "xmax", "ymax")]
        left, top, right, bottom = _finite(values, path)
        objects.append((name, (left, top, right, bottom)))
    return (root.findtext("filename") or "").strip(), objects


def yolo_objects(path: Path) -> list[tuple[int, Rectangle]]:
    """Read a YOLO annotation, one `class cx cy w h` a line as shares of the picture: class and box in shares.

    Further numbers of a line (a confidence) are passed over. Raises InputError `broken-annotation`.
    """
    objects = []
    for line in read_text(path).splitlines():
        words = line.split()
        if not words:
            continue
        if len(words) < 5 or not words[0].isdecimal():
            raise _bad(path, f"{line[:80]!r} is not `class cx cy w h`")
        cx, cy, w, h = _finite(words[1:5], path)
        objects.append((int(words[0]), (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)))
    return objects

"""Cells that people have called, as a data folder that `leuko train data --layout manifest` reads (docs/data.md)."""

from __future__ import annotations

import csv
import hashlib
import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from edge.core import durable
from edge.core.labels import LABELS, OTHER
from edge.hub import audit, cases, tables
from edge.hub.core import Hub, Person
from edge.hub.problems import HubError

COLUMNS: Final = (
    *("source", "label", "file", "group", "slide", "subtype", "width", "height", "sha1"),
    *("kind", "box_x", "box_y", "box_width", "box_height", "split", "licence", "citation"),
)
"""Columns of manifest.csv, as `training.data.rows` has them."""

SOURCE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export holds: cells by label, cases, and the cells whose picture is not here yet."""

    cells: int
    cases: int
    without_picture: int


@dataclass(frozen=True, slots=True)
class _Cell:
    label: str
    file: str
    case: str
    slide: str
    picture: bytes


def to_folder(hub: Hub, person: Person, folder: Path, *, source: str, licence: str, citation: str) -> Exported:
    """Write the data folder. Raises HubError `folder-in-use` or `source-invalid`."""
    _require_source(source)
    if folder.exists() and any(folder.iterdir()):
        raise HubError("folder-in-use", f"{folder} is not empty.", "Name a new folder.")
    written: list[_Cell] = []
    counts = {"lost": 0}
    for cell in _cells(hub, person, counts):
        path = folder / cell.file
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.write_bytes(path, cell.picture)
        written.append(cell)
    folder.mkdir(parents=True, exist_ok=True)
    durable.write_text(folder / "manifest.csv", _manifest(written, source, licence, citation))
    return Exported(len(written), len({cell.case for cell in written}), counts["lost"])


def to_archive(hub: Hub, person: Person, *, source: str, licence: str, citation: str) -> bytes:
    """Give the data folder as a ZIP file. Raises HubError `source-invalid`."""
    _require_source(source)
    stream = io.BytesIO()
    written: list[_Cell] = []
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for cell in _cells(hub, person, {"lost": 0}):
            archive.writestr(cell.file, cell.picture)
            written.append(cell)
        archive.writestr("manifest.csv", _manifest(written, source, licence, citation))
    return stream.getvalue()


def _cells(hub: Hub, person: Person, counts: dict[str, int]) -> Iterator[_Cell]:
    """Give the hand-called cells of the signed cases whose patients consented, each with its picture."""
    results = tables.results.c
    query = sa.select(results.id, results.newest).where(
        results.consent.is_(True), results.status.in_(("final", "corrected"))
    )
    if person.site:
        query = query.where(results.site == person.site)
    with hub.database.write() as connection:
        found = connection.execute(query.order_by(results.received, results.id)).all()
        audit.record(connection, f"person {person.name}", "export", detail=f"{len(found)} cases")
        for row in found:
            audit.record(connection, f"person {person.name}", "export", result=row.id, detail=str(row.newest))
    for row in found:
        with hub.database.read() as connection:
            sent = cases.read_version(connection, row.id, row.newest)
        pictures = {(each.field, each.cell): each.sha256 for each in sent.pictures if each.kind == "cell"}
        for field, cell, label in _called(sent.document):
            sha256 = pictures.get((field, cell))
            try:
                picture = hub.objects.get(sha256 or "")
            except (KeyError, OSError):
                counts["lost"] += 1
                continue
            yield _Cell(label, f"{label}/{row.id}-{field + 1}-{cell + 1}.jpg", row.id, sent.sample, picture)


def _called(document: Mapping[str, Any]) -> Iterator[tuple[int, int, str]]:
    for field, entry in enumerate(document.get("fields", ())):
        for cell, found in enumerate(entry.get("cells", ())):
            if found.get("reviewed") and found.get("label") in (*LABELS, OTHER):
                yield field, cell, str(found["label"])


def _manifest(cells: list[_Cell], source: str, licence: str, citation: str) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for cell in cells:
        width, height = jpeg_size(cell.picture)
        # One sample is one slide: its cells must stay on one side of a split. The name itself stays here.
        slide = hashlib.sha256(cell.slide.encode("utf-8", "replace")).hexdigest()[:16]
        digest = hashlib.sha1(cell.picture, usedforsecurity=False).hexdigest()
        row = (source, cell.label, cell.file, cell.case, slide, "", width, height, digest)
        writer.writerow((*row, "cell", "", "", "", "", "", licence, citation))
    return stream.getvalue()


def jpeg_size(picture: bytes) -> tuple[int, int]:
    """Read the width and height of a JPEG from its header."""
    from PIL import Image

    with Image.open(io.BytesIO(picture)) as image:
        width, height = image.size
    return int(width), int(height)


def _require_source(source: str) -> None:
    if not SOURCE_NAME.fullmatch(source):
        raise HubError("source-invalid", f"{source!r} is no name of a source.", "Use letters, digits, - and _.")

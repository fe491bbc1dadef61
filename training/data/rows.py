"""The rows of a manifest in the making, and the manifest itself."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from training.data.boxes import Rectangle
from training.data.sources import SOURCES

COLUMNS: Final = (
    *("source", "label", "file", "group", "slide", "subtype", "width", "height", "sha1"),
    *("kind", "box_x", "box_y", "box_width", "box_height", "split", "licence", "citation"),
)
"""Columns of manifest.csv, in order."""


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled cell. `path` is where its picture is now, `file` where the data folder will have it.

    `label` is one of ours before the foreign ones become `other`, `width` and `height` are those of the picture in
    pixels, `digest` is its difference hash, `box` is (left, top, right, bottom) in pixels inside it, None for a
    picture of one cell. `split` is the published one until the rows are split.
    """

    source: str
    label: str
    path: Path
    file: str
    group: str
    slide: str
    subtype: str
    width: int
    height: int
    sha1: str
    digest: int
    kind: str = "cell"
    box: Rectangle | None = None
    split: str = ""


def manifest(rows: Sequence[Row]) -> str:
    """Write the rows as CSV, with the licence and citation of each row's source."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        left, top, right, bottom = row.box or (0.0, 0.0, 0.0, 0.0)
        box = [f"{value:.8g}" for value in (left, top, right - left, bottom - top)] if row.box else [""] * 4
        source = SOURCES[row.source]
        writer.writerow(
            [
                *(row.source, row.label, row.file, row.group, row.slide, row.subtype, row.width, row.height, row.sha1),
                *(row.kind, *box, row.split, source.licence, source.citation),
            ]
        )
    return stream.getvalue()

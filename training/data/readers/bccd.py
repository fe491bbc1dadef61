"""The BCCD set: fields with VOC boxes WBC, RBC and Platelets, and a table that says which white cells a field has.

The table (`Image,Category`, the number of `BloodImage_00XYZ` and names such as `NEUTROPHIL`) labels fields, not boxes:
only where a field has one white cell and one category does the label belong to a box.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from edge.core.errors import InputError
from training.data.readers import voc
from training.data.readers.entries import Entry, Options, Reading, nothing_found, require_folder, walk
from training.data.tables import read_table

TABLES: Final = ("labels.csv", "image_subtype_labels.csv")
_NUMBER: Final = re.compile(r"(\d+)$")


def _categories(root: Path) -> dict[int, list[str]]:
    tables = [file for file in walk(root, (".csv",)) if Path(file).name in TABLES]
    if not tables:
        raise nothing_found(root, f"the table of the white cells ({' or '.join(TABLES)})")
    categories = {}
    for row in read_table(root / tables[0], ("Image", "Category")):
        if row["Image"].isdecimal():
            categories[int(row["Image"])] = [name.strip() for name in row["Category"].split(",") if name.strip()]
    return categories


def read(root: Path, options: Options) -> Reading:
    """Read all fields. Raises InputError `not-found`, `layout-not-found` or `columns-missing`."""
    require_folder(root)
    categories = _categories(root)
    reading = voc.read(root, options)
    white: dict[str, int] = {}
    for entry in reading.entries:
        white[entry.file] = white.get(entry.file, 0) + (entry.label.casefold() == "wbc")
    entries = []
    for entry in reading.entries:
        if entry.label.casefold() != "wbc":
            entries.append(entry)
            continue
        number = _NUMBER.search(Path(entry.file).stem)
        named = categories.get(int(number[1]), []) if number else []
        if white[entry.file] == 1 and len(named) == 1:
            entries.append(Entry(entry.file, named[0], entry.box, group=entry.group))
    if not entries and not reading.problems:
        raise InputError("layout-not-found", f"{root} holds no labelled field.", "Check the table of labels.")
    return Reading(root, entries, reading.problems)

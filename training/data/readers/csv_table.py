"""A CSV table with a row a picture, or a row a box; the names of its columns can be said."""

from __future__ import annotations

from pathlib import Path

from edge.core.errors import InputError, UsageError
from training.data.paths import inside
from training.data.readers.entries import Entry, Options, Problem, Reading, nothing_found
from training.data.sources import box_of
from training.data.tables import read_table

COLUMNS = ("file", "label", "group", "slide", "split", "subtype", "x", "y", "width", "height")
"""What a column can mean; `file` and `label` must be there. The four last are a box in pixels."""

SPLIT_NAMES = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}


def find_table(path: Path) -> Path:
    """Give the table itself, or the only one in a folder. Raises InputError `layout-not-found`."""
    if not path.is_dir():
        return path
    tables = sorted(file for file in path.iterdir() if file.suffix.lower() in {".csv", ".tsv"})
    if len(tables) != 1:
        raise nothing_found(path, "one CSV table: name the file itself")
    return tables[0]


def read(path: Path, options: Options) -> Reading:
    """Read a table; files are relative to the folder of the table.

    Raises InputError as `training.data.tables.read_table`, UsageError `unknown-column` for a column that means nothing.
    """
    for name in options.columns:
        if name not in COLUMNS:
            raise UsageError("unknown-column", f"--column {name} means nothing.", f"Choose of: {', '.join(COLUMNS)}.")
    table = find_table(path)
    theirs = {name: options.columns.get(name, name) for name in COLUMNS}
    rows = read_table(table, [theirs["file"], theirs["label"], *options.columns.values()])
    # Alone, `width` and `height` are those of the picture, as in our own manifest: a box also has x and y.
    boxed = rows and all(theirs[name] in rows[0] for name in ("x", "y", "width", "height"))
    entries: list[Entry] = []
    problems: list[Problem] = []
    for row in rows:
        value = {name: row.get(theirs[name], "") for name in COLUMNS}
        try:
            file = inside(value["file"], table)
            box = box_of([value[name] for name in ("x", "y", "width", "height")], file, True) if boxed else None
            if not value["label"]:
                raise InputError("no-label", f"{file} has no label.", "Fill in the column.")
        except InputError as error:
            problems.append(Problem.of(value["file"] or table.name, error))
            continue
        entries.append(
            Entry(
                file,
                value["label"],
                box,
                group=value["group"],
                slide=value["slide"],
                split=SPLIT_NAMES.get(value["split"].casefold(), ""),
                subtype=value["subtype"],
            )
        )
    return Reading(table.parent, entries, problems)

"""A data folder of this project: `manifest.csv` with source, label, file, group, and what else docs/data.md lists."""

from __future__ import annotations

from pathlib import Path

from edge.core.errors import InputError
from training.data.paths import inside
from training.data.readers.entries import Entry, Options, Problem, Reading, nothing_found
from training.data.sources import SPLITS, box_of
from training.data.tables import read_table


def read(root: Path, options: Options) -> Reading:
    """Read a data folder, or its manifest. Raises InputError `layout-not-found`, or as `read_table`."""
    path = root / "manifest.csv" if root.is_dir() else root
    if not path.is_file():
        raise nothing_found(root, "a manifest.csv")
    entries: list[Entry] = []
    problems: list[Problem] = []
    for row in read_table(path, ("source", "label", "file", "group")):
        try:
            file = inside(row["file"], path)
            box = box_of([row.get(f"box_{key}", "") for key in ("x", "y", "width", "height")], file)
        except InputError as error:
            problems.append(Problem.of(row["file"] or path.name, error))
            continue
        group = row["group"] + file if row["group"].endswith("/") else row["group"]
        entries.append(
            Entry(
                file,
                row["label"],
                box,
                group=group or file,
                slide=row.get("slide", ""),
                split=split if (split := row.get("split", "")) in SPLITS else "",
                subtype=row.get("subtype", ""),
                source=row["source"],
                licence=row.get("licence", ""),
                citation=row.get("citation", ""),
            )
        )
    return Reading(path.parent, entries, problems)

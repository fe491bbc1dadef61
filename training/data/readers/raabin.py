"""Raabin-WBC, double-labelled cropped cells: `Train`, `TestA` and `TestB`, in either of the two forms in use.

Class folders (`Train/Basophil/...`), or flat folders with a file of label numbers beside each (`Train.json`:
`{"name.jpg": 1}`). Train is the published training split, the others are tests; Test-B is another microscope.
"""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePosixPath
from typing import Final

from edge.core.errors import InputError
from training.data.paths import inside
from training.data.readers.entries import Entry, Options, Problem, Reading, nothing_found, require_folder, walk
from training.data.tables import read_text

NUMBERS: Final = {1: "neutrophil", 2: "lymphocyte", 3: "monocyte", 4: "eosinophil", 5: "basophil"}
"""The label numbers: they reproduce the counts of Test-A in the paper (2660, 1034, 234, 322, 89)."""

_PARTS: Final = {"train": "train", "test": "test", "testa": "test", "testb": "test"}


def _part(name: str) -> str | None:
    return _PARTS.get(re.sub(r"[\s_-]", "", name).casefold())


def read(root: Path, options: Options) -> Reading:
    """Read the folders of a part, or of all. Raises InputError `not-found` or `layout-not-found`."""
    require_folder(root)
    entries: list[Entry] = []
    problems: list[Problem] = []
    for file in walk(root, (".json",)):
        path = PurePosixPath(file)
        if _part(path.stem) and (root / path.with_suffix("")).is_dir():
            found = numbered(root, file, _part(path.stem) or "")
            entries += found.entries
            problems += found.problems
    known = {entry.file for entry in entries}
    for file in walk(root):
        path = PurePosixPath(file)
        parts = [_part(part) for part in path.parts[:-2] if _part(part)]
        # The folder that was named may itself be the part.
        split = parts[-1] if parts else _part(root.name)
        if file not in known and split and len(path.parts) >= 2 and not _part(path.parent.name):
            entries.append(Entry(file, path.parent.name, split=split))
    if not entries:
        raise nothing_found(root, "Train, TestA or TestB of Raabin-WBC")
    return Reading(root, entries, problems)


def numbered(root: Path, file: str, split: str) -> Reading:
    """Read a file of label numbers and the flat folder beside it. Raises InputError `broken-annotation`."""
    try:
        labels = json.loads(read_text(root / file))
    except (ValueError, RecursionError) as error:
        labels = error
    if not isinstance(labels, dict):
        raise InputError("broken-annotation", f"{file} is no JSON of names and numbers.", "Download it again.")
    folder = PurePosixPath(file).with_suffix("")
    reading = Reading(root, [])
    for name, number in sorted(labels.items()):
        try:
            picture = (folder / inside(name, root / file)).as_posix()
            if not isinstance(number, int) or number not in NUMBERS:
                raise InputError("unknown-class", f"{file}: {name} has the label {number!r}.", "Download it again.")
        except InputError as error:
            reading.problems.append(Problem.of(name, error))
            continue
        reading.entries.append(Entry(picture, NUMBERS[number], split=split))
    return reading

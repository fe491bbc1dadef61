"""YOLO: one text file a picture, `class cx cy w h` in shares, and the class names in `classes.txt` or `data.yaml`.

Pictures lie beside their text files, or in `images/` where those lie in `labels/`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from edge.core.errors import InputError
from training.data.boxes import yolo_objects
from training.data.readers.entries import (
    PICTURES,
    Entry,
    Options,
    Reading,
    nothing_found,
    read_each,
    require_folder,
    walk,
)
from training.data.readers.folders import SPLIT_FOLDERS
from training.data.tables import read_text

NO_LABELS = ("classes", "obj.names", "readme", "train", "val", "valid", "test")
"""Text files that hold no boxes."""


def class_names(root: Path, options: Options) -> Sequence[str]:
    """Give the names of the class numbers: those of the options, of `classes.txt` or `obj.names`, or of `data.yaml`.

    Of the YAML only the list `names: [a, b]`, its block form and the form `0: a` are understood.
    Raises InputError `classes-missing`.
    """
    if options.classes:
        return options.classes
    for name in ("classes.txt", "obj.names"):
        for path in (root / name, root / "labels" / name):
            if path.is_file():
                return [line.strip() for line in read_text(path).splitlines() if line.strip()]
    for name in ("data.yaml", "data.yml", "dataset.yaml"):
        if (root / name).is_file() and (names := _yaml_names(read_text(root / name))):
            return names
    raise InputError(
        "classes-missing", f"{root} has no classes.txt.", "Write one name a line in it, or give --class for each."
    )


def _yaml_names(text: str) -> list[str]:
    found = re.search(r"^names:[ \t]*\[(.*?)\]", text, re.MULTILINE | re.DOTALL)
    if found:
        return [word.strip().strip("'\"") for word in found[1].split(",") if word.strip()]
    found = re.search(r"^names:[ \t]*\r?\n((?:[ \t]*(?:-|\d+:)[^\n]*\n?)+)", text, re.MULTILINE)
    if not found:
        return []
    return [re.sub(r"^[ \t]*(?:-|\d+:)[ \t]*", "", line).strip().strip("'\"") for line in found[1].splitlines()]


def _picture_of(root: Path, annotation: str) -> str:
    path = PurePosixPath(annotation)
    parts = ["images" if part == "labels" else part for part in path.parent.parts]
    for folder in (path.parent, PurePosixPath(*parts)):
        for suffix in (*PICTURES, *(suffix.upper() for suffix in PICTURES)):
            file = folder / f"{path.stem}{suffix}"
            if (root / file).is_file():
                return file.as_posix()
    raise InputError("picture-missing", f"There is no picture for {annotation}.", "Put it beside the text file.")


def read(root: Path, options: Options) -> Reading:
    """Read all text files that have boxes. A folder called train, val or test is the published split.

    Raises InputError `not-found`, `layout-not-found` or `classes-missing`.
    """
    require_folder(root)
    found = [
        file
        for file in walk(root, (".txt",))
        if not Path(file).stem.casefold().startswith(NO_LABELS) or _has_picture(root, file)
    ]
    if not found:
        raise nothing_found(root, "YOLO annotations (.txt)")
    names = class_names(root, options)

    def boxed(annotation: str) -> list[Entry]:
        objects = yolo_objects(root / annotation)
        file = _picture_of(root, annotation)
        above = [SPLIT_FOLDERS[part] for part in PurePosixPath(file).parts[:-1] if part in SPLIT_FOLDERS]
        for number, _ in objects:
            if number >= len(names):
                raise InputError(
                    "unknown-class", f"{annotation}: class {number}, but there are {len(names)} names.", "Check both."
                )
        split = above[-1] if above else ""
        return [Entry(file, names[number], box, shares=True, group=file, split=split) for number, box in objects]

    return read_each(root, found, boxed)


def _has_picture(root: Path, annotation: str) -> bool:
    try:
        _picture_of(root, annotation)
    except InputError:
        return False
    return True

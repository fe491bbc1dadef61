"""What every reader gives: labelled pictures and boxes under other people's names, and what could not be read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from edge.core.errors import InputError
from edge.files import PICTURE_SUFFIXES, display_name
from training.data.boxes import Rectangle

PICTURES: Final = tuple(sorted(PICTURE_SUFFIXES))
"""Endings of the names of pictures, in lower case."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One label of one picture, as its set names it.

    `file` is relative to the folder that was read, with forward slashes. `box` is (left, top, right, bottom), in pixels
    or, when `shares`, in shares of the picture's sides; None means the whole picture. `group` and `slide` say what
    belongs together, empty when the set does not say. `split` is the published one, empty without. `source`, `licence`
    and `citation` are filled by a set that holds several.
    """

    file: str
    label: str
    box: Rectangle | None = None
    shares: bool = False
    group: str = ""
    slide: str = ""
    split: str = ""
    subtype: str = ""
    source: str = ""
    licence: str = ""
    citation: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """One file that was left out, and why."""

    file: str
    code: str
    message: str

    @classmethod
    def of(cls, file: str, error: InputError) -> Problem:
        """Give what an error says of a file."""
        return cls(display_name(file), error.code, error.message)


@dataclass(frozen=True, slots=True)
class Options:
    """What a user can say of a layout.

    `columns` maps our names of the columns of a table to theirs. `classes` are the names of YOLO's class numbers, in
    order. `unpacked` is the folder for pictures that a reader takes out of an archive.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    classes: Sequence[str] = ()
    unpacked: Path | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader found below `root`: its entries in a fixed order, and what it could not use."""

    root: Path
    entries: list[Entry]
    problems: list[Problem] = field(default_factory=list)


def walk(folder: Path, suffixes: Sequence[str] = PICTURES) -> Iterator[str]:
    """Give all files below a folder by the ending of their names, in a fixed order; hidden ones are left out.

    Links to folders are not followed: they may lead in a circle.
    """
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in suffixes:
                yield Path(parent, name).relative_to(folder).as_posix()


def require_folder(root: Path) -> None:
    """Raise InputError `not-found` unless there is such a folder."""
    if not root.is_dir():
        raise InputError("not-found", f"There is no folder {display_name(root)}.", "Check the name.")


def nothing_found(root: Path, expected: str) -> InputError:
    """Give the error for a folder that does not hold the layout, `expected`."""
    return InputError(
        "layout-not-found",
        f"{display_name(root)} does not hold {expected}.",
        "Name the folder of that layout, or another --layout.",
    )


def read_each(root: Path, files: Iterable[str], read: Callable[[str], list[Entry]]) -> Reading:
    """Read annotation files one by one; a broken one becomes a problem."""
    entries: list[Entry] = []
    problems: list[Problem] = []
    for file in files:
        try:
            entries += read(file)
        except InputError as error:
            problems.append(Problem.of(file, error))
    return Reading(root, entries, problems)

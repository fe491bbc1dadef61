"""Where a cell is in a result, and how people write that: "3.2" is the second cell of the third field."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from edge.core.errors import UsageError
from edge.core.labels import LABELS, OTHER

CHOICES: Final = (*LABELS, OTHER)
"""What a person may call a cell."""

_PLACE: Final = re.compile(r"([1-9][0-9]{0,5})\.([1-9][0-9]{0,5})", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A cell by its position in the document: `field` and `cell` count from 0."""

    field: int
    cell: int

    def __str__(self) -> str:
        return f"{self.field + 1}.{self.cell + 1}"


@dataclass(frozen=True, slots=True)
class Change:
    """A person's call of one cell."""

    place: Place
    label: str


def place(text: str) -> Place:
    """Read a place as people write it. Raises `UsageError` `cell-unreadable`."""
    found = _PLACE.fullmatch(text.strip())
    if found is None:
        raise UsageError(
            "cell-unreadable",
            f"{text!r} names no cell.",
            "Write field and cell as they are listed, counted from 1: 3.2 is the second cell of field 3.",
        )
    return Place(int(found[1]) - 1, int(found[2]) - 1)


def change(text: str) -> Change:
    """Read a change such as "3.2=monocyte". Raises `UsageError` `cell-unreadable` or `label-unknown`."""
    where, _, label = text.partition("=")
    return checked(Change(place(where), label.strip().lower()))


def checked(wanted: Change) -> Change:
    """Return the change, whose label is one of `CHOICES`. Raises `UsageError` `label-unknown`."""
    if wanted.label not in CHOICES:
        raise UsageError("label-unknown", f"There is no class {wanted.label!r}.", f"Name one of: {', '.join(CHOICES)}.")
    return wanted

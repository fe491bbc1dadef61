"""Which cells have been seen before: every field gets its place on the slide, every cell is counted once.

A field is laid against the one before it. Where that fails (the stage moved further, or back), the surroundings of its
cells are compared with those of all counted cells, and the fields they point to are tried: a cell can only be counted
twice where it shows in both. A field that joins nothing begins an island of its own; islands are joined when a field
turns out to lie on both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from edge.core.types import Box, FieldResult, FloatArray
from edge.imaging.registration import Shift, Signature, patch, register, signature

SAME_CELL: Final = 0.4
"""Two boxes on the slide are one cell when they share this much of the smaller: a cell cut by the border of one field
shows at least half in it, touching neighbours share a margin."""

_STILL: Final = 0.98
_LIKENESS: Final = 0.35
_LIKENESS_ELSEWHERE: Final = 0.6
_POINTERS: Final = 5
_STRANGERS: Final = 2
_RECENT: Final = 3
_CLOSURES: Final = 2
_CLOSURE_OVERLAP: Final = 0.08
_EMPTY_FIELDS: Final = 48


@dataclass(frozen=True, slots=True)
class Place:
    """Where a field's upper left corner lies, in pixels of the fields, on an island of the slide."""

    island: int
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Placed:
    """What the atlas says of a field. `repeated[i]` is whether cell `i` was counted before.

    `still` is whether the stage has not moved since the last field that was entered.
    """

    place: Place
    repeated: tuple[bool, ...]
    still: bool


@dataclass(slots=True)
class _Entry:
    """A field of the atlas with the boxes of the cells that were counted in it."""

    signature: Signature
    size: tuple[int, int]
    place: Place
    boxes: list[Box]


class Atlas:
    """The fields and counted cells of one session. Not for several threads.

    Memory is bounded by the cells counted: of the fields without any, only the latest are kept.
    """

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self._patches: list[FloatArray] = []
        self._owners: list[_Entry] = []
        self._islands = 0

    def __len__(self) -> int:
        """Number of fields kept."""
        return len(self._entries)

    def look(self, field: Signature, size: tuple[int, int], boxes: Sequence[Box]) -> Placed:
        """Place a field, `size` (width, height) in pixels, and say which of its cells were counted before.

        Nothing is entered; islands that this field joins become one.
        """
        found = self._locate(field, size, boxes)
        if found is None:
            return Placed(Place(self._islands, 0.0, 0.0), (False,) * len(boxes), still=False)
        place, still = found
        return Placed(place, self._repeated(place, size, boxes), still)

    def enter(self, field: Signature, size: tuple[int, int], place: Place, boxes: Sequence[Box]) -> None:
        """Remember a field and the cells counted in it, at the place that `look` gave or a journal kept."""
        entry = _Entry(field, size, place, list(boxes))
        self._islands = max(self._islands, place.island + 1)
        self._entries.append(entry)
        for box in boxes:
            self._patches.append(patch(field, box.x + box.width / 2, box.y + box.height / 2))
            self._owners.append(entry)
        empty = [index for index, each in enumerate(self._entries) if not each.boxes]
        if len(empty) > _EMPTY_FIELDS:
            del self._entries[empty[0]]

    def _locate(self, field: Signature, size: tuple[int, int], boxes: Sequence[Box]) -> tuple[Place, bool] | None:
        if not self._entries:
            return None
        last = self._entries[-1]
        shift = register(last.signature, field)
        if shift is not None and shift.overlap >= _STILL:
            return _moved(last.place, shift), True
        if shift is not None:
            anchors = [(last, shift)]
            # On this island the place is known; on another one it may have been all the same.
            islands = {entry.place.island for entry in self._entries}
            if len(islands) > 1:
                strangers = self._pointed(field, boxes, islands - {last.place.island}, _LIKENESS_ELSEWHERE)
                anchors += _registered(field, strangers[:_STRANGERS])
        else:
            recent = self._entries[-1 - _RECENT : -1][::-1]
            anchors = _registered(field, _unique(recent + self._pointed(field, boxes, None, _LIKENESS)[:_POINTERS]))
        if not anchors:
            return None
        self._join(anchors)
        anchors += self._closures(field, size, _moved(anchors[0][0].place, anchors[0][1]), anchors)
        return _agreed(anchors), False

    def _pointed(self, field: Signature, boxes: Sequence[Box], islands: set[int] | None, least: float) -> list[_Entry]:
        """Fields whose counted cells look like the ones of this field, the most alike first."""
        if not self._patches or not boxes:
            return []
        here = np.stack([patch(field, box.x + box.width / 2, box.y + box.height / 2) for box in boxes])
        likeness = (np.stack(self._patches) @ here.T).max(axis=1)
        order = [index for index in np.argsort(-likeness).tolist() if likeness[index] >= least]
        owners = [self._owners[index] for index in order]
        return _unique([owner for owner in owners if islands is None or owner.place.island in islands])

    def _join(self, anchors: Sequence[tuple[_Entry, Shift]]) -> None:
        """Bring the islands of all anchors together, the later ones to the earliest."""
        base, shift = min(anchors, key=lambda anchor: anchor[0].place.island)
        here = _moved(base.place, shift)
        for entry, other in anchors:
            island = entry.place.island
            if island == here.island:
                continue
            there = _moved(entry.place, other)
            for each in self._entries:
                if each.place.island == island:
                    moved = (each.place.x + here.x - there.x, each.place.y + here.y - there.y)
                    each.place = Place(here.island, *moved)

    def _closures(
        self, field: Signature, size: tuple[int, int], place: Place, known: list[tuple[_Entry, Shift]]
    ) -> list[tuple[_Entry, Shift]]:
        """Lay the field against the older ones it should lie on, so that small errors do not add up along the way."""
        near = [
            (_common(place, size, entry.place, entry.size), index)
            for index, entry in enumerate(self._entries)
            if entry.place.island == place.island and all(entry is not each for each, _ in known)
        ]
        found = []
        for share, index in sorted(near, reverse=True)[:_CLOSURES]:
            if share < _CLOSURE_OVERLAP:
                break
            entry = self._entries[index]
            shift = register(entry.signature, field)
            if shift is not None:
                found.append((entry, shift))
        return found

    def _repeated(self, place: Place, size: tuple[int, int], boxes: Sequence[Box]) -> tuple[bool, ...]:
        counted = [
            (box, entry.place.x - place.x, entry.place.y - place.y)
            for entry in self._entries
            if entry.place.island == place.island and _common(place, size, entry.place, entry.size) > 0
            for box in entry.boxes
        ]
        taken: set[int] = set()
        repeated = []
        for box in boxes:
            shares = [
                (_shared(box, other, x, y), index) for index, (other, x, y) in enumerate(counted) if index not in taken
            ]
            share, index = max(shares, default=(0.0, -1))
            if share >= SAME_CELL:
                taken.add(index)
            repeated.append(share >= SAME_CELL)
        return tuple(repeated)


def _moved(place: Place, shift: Shift) -> Place:
    return replace(place, x=place.x + shift.x, y=place.y + shift.y)


def _registered(field: Signature, entries: Sequence[_Entry]) -> list[tuple[_Entry, Shift]]:
    found = ((entry, register(entry.signature, field)) for entry in entries)
    return [(entry, shift) for entry, shift in found if shift is not None]


def _unique(entries: Sequence[_Entry]) -> list[_Entry]:
    return list({id(entry): entry for entry in entries}.values())


def _agreed(anchors: Sequence[tuple[_Entry, Shift]]) -> Place:
    """Mean of the places that the anchors give, all on one island, by what they share with the field."""
    places = [(_moved(entry.place, shift), shift.overlap) for entry, shift in anchors]
    total = sum(weight for _, weight in places)
    return Place(
        places[0][0].island,
        sum(place.x * weight for place, weight in places) / total,
        sum(place.y * weight for place, weight in places) / total,
    )


def _common(one: Place, size: tuple[int, int], two: Place, other: tuple[int, int]) -> float:
    """Share of the first field that the second covers, 0..1."""
    across = min(one.x + size[0], two.x + other[0]) - max(one.x, two.x)
    down = min(one.y + size[1], two.y + other[1]) - max(one.y, two.y)
    return max(0.0, across) * max(0.0, down) / (size[0] * size[1])


def _shared(box: Box, other: Box, x: float, y: float) -> float:
    """Share of the smaller box that both cover, the other moved by (x, y)."""
    across = min(box.x + box.width, other.x + x + other.width) - max(box.x, other.x + x)
    down = min(box.y + box.height, other.y + y + other.height) - max(box.y, other.y + y)
    smaller = min(box.width * box.height, other.width * other.height)
    return max(0.0, across) * max(0.0, down) / max(1, smaller)


def signature_of(field: FieldResult) -> Signature:
    """The signature of an analysed field, from its preview. Raises ValueError when it has none."""
    if field.preview is None:
        raise ValueError(f"{field.source} has no preview to be placed by")
    return signature(field.preview, field.preview_scale)

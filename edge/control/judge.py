"""Whether a control has passed: what was found in a reference set against what is known to be in it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from edge.core.differential import SCREENING_COUNT, wilson
from edge.core.labels import LABELS, OTHER
from edge.core.types import Differential

LEAST_CELLS: Final = 30
"""Cells of known class below which an agreement says nothing."""

MINIMUM_AGREEMENT: Final = 0.9
"""Share of cells that have to be called what they are known to be, where a set says nothing else. A proposal."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict of a control, and what it rests on in one sentence."""

    passed: bool
    finding: str


def agreement(known: Sequence[str], called: Sequence[str], minimum: float = MINIMUM_AGREEMENT) -> Judgement:
    """Judge calls of cells whose class is known; an abstained or missed cell is called `other`, and is not agreed.

    Passed when at least `minimum` (0..1) of them agree. Too few cells, or another number of calls, fail.
    """
    if len(known) != len(called):
        raise ValueError(f"{len(known)} cells, {len(called)} calls")
    if len(known) < LEAST_CELLS:
        return Judgement(False, f"{len(known)} cells of known class; at least {LEAST_CELLS} are needed")
    agreed = sum(one == other for one, other in zip(known, called, strict=True))
    interval = wilson(agreed, len(known))
    worst = _worst(known, called)
    finding = (
        f"{agreed} of {len(known)} cells ({100 * agreed / len(known):.1f} %, 95 % interval "
        f"{100 * interval.low:.1f}-{100 * interval.high:.1f}) called what they are known to be; "
        f"at least {100 * minimum:g} % are asked for{worst}"
    )
    return Judgement(agreed >= minimum * len(known), finding)


def within(differential: Differential, expected: Mapping[str, tuple[float, float]]) -> Judgement:
    """Judge a differential against the expected range of each class, (low, high) in percent.

    Passed when percentages may be claimed and each class's 95 % Wilson interval reaches into its range.
    """
    if differential.counted < SCREENING_COUNT:
        return Judgement(False, f"{differential.counted} cells counted; a control needs {SCREENING_COUNT}")
    outside = []
    for label, (low, high) in expected.items():
        share = differential.classes[label]
        if share.wilson is None or share.percent is None:
            return Judgement(False, f"percentages are withheld: {differential.other} cells are not classified")
        if 100 * share.wilson.high < low or 100 * share.wilson.low > high:
            outside.append(f"{label} {share.percent:.1f} % (expected {low:g}-{high:g})")
    if outside:
        return Judgement(False, f"{differential.counted} cells counted; outside: {', '.join(outside)}")
    return Judgement(True, f"{differential.counted} cells counted; every class agrees with its expected range")


def _worst(known: Sequence[str], called: Sequence[str]) -> str:
    """Name the commonest wrong call, for whoever has to find out why."""
    wrong: dict[tuple[str, str], int] = {}
    for pair in zip(known, called, strict=True):
        if pair[0] != pair[1]:
            wrong[pair] = wrong.get(pair, 0) + 1
    if not wrong:
        return ""
    (was, called_as), times = max(wrong.items(), key=lambda item: (item[1], item[0]))
    name = "not classified" if called_as not in LABELS or called_as == OTHER else called_as
    return f"; most often {was} as {name} ({times})"

"""Does the microscope still see what it saw when it was commissioned? Each result against the record, over time.

Light, colour, focus and stain of a result are the medians of its accepted fields. One patient's blood may differ from
another's as it likes, so the mix of classes is judged over the last ten results together, and is a hint, not proof.
The limits are proposals: far outside of what one microscope shows from day to day, far inside of what the quality gate
refuses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from edge.calibration.records import Calibration
from edge.core.differential import wilson
from edge.core.labels import LABELS

LIMITS: Final[Mapping[str, float]] = {
    "illumination": 0.15,
    "colour": 0.12,
    "focus": 0.3,
    "stain": 0.4,
    "abstention": 0.05,
    "class-mix": 0.2,
}
"""How far a figure may be off before it is flagged, as a share of the reference; for abstention and class mix as a
difference of shares."""

WINDOW: Final = 10
BASELINE: Final = 5


@dataclass(frozen=True, slots=True)
class Point:
    """What one result says of the microscope, None where nothing. `other` of `located` cells were not called."""

    result: str
    wall: str
    illumination: float | None
    colour: tuple[float, float, float] | None
    focus: float | None
    stain: float | None
    other: int
    located: int
    classes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """A point with how far each figure is off its reference (0: not at all), and the names of those out of limits."""

    point: Point
    off: Mapping[str, float]
    flags: tuple[str, ...]


def point(identifier: str, wall: str, document: Mapping[str, Any]) -> Point:
    """Take from a result's public document what drift is seen by."""
    fields = [field for field in document["fields"] if "quality" in field and field["quality"]["accepted"]]
    qualities = [field["quality"] for field in fields]
    colours = [each["background"] for each in qualities if each.get("background")]
    counts = document["differential"]
    blue, green, red = (median(each[i] for each in colours) for i in range(3)) if colours else (0.0, 0.0, 0.0)
    return Point(
        result=identifier,
        wall=wall,
        illumination=(blue + green + red) / 3 / 255 if colours else None,
        colour=(blue, green, red) if colours else None,
        focus=_middle([each.get("focus") for each in qualities]),
        stain=_middle([each.get("stain") for each in qualities]),
        other=int(counts["other"]),
        located=int(counts["other"]) + int(counts["counted"]),
        classes=tuple(int(counts["classes"][label]["count"]) for label in LABELS),
    )


def judge(points: Sequence[Point], record: Calibration | None) -> tuple[Judged, ...]:
    """Hold each result against the record; for what it does not say, against the median of the first `BASELINE`.

    The first results have themselves as the reference then, and are never flagged for it alone. Oldest first.
    """
    early = points[:BASELINE]
    colour = _colour(record, early)
    light = None if colour is None else sum(colour) / 3 / 255
    focus = record.focus if record is not None and record.focus else _middle([each.focus for each in early])
    stain = record.stain if record is not None and record.stain else _middle([each.stain for each in early])
    abstained = sum(each.other for each in early) / max(1, sum(each.located for each in early))
    mix = _mix(early)
    judged = []
    for index, each in enumerate(points):
        off: dict[str, float] = {}
        _relative(off, "illumination", each.illumination, light)
        _relative(off, "focus", each.focus, focus)
        _relative(off, "stain", each.stain, stain)
        if each.colour is not None and colour is not None:
            shift = [(a + 1.0) / (b + 1.0) for a, b in zip(each.colour, colour, strict=True)]
            off["colour"] = max(shift) / min(shift) - 1.0
        if each.located:
            # Few cells say little: what chance alone can do is taken off first.
            off["abstention"] = max(0.0, wilson(each.other, each.located).low - abstained)
        recent = points[max(0, index + 1 - WINDOW) : index + 1]
        if index >= BASELINE and len(recent) == WINDOW and mix is not None and (now := _mix(recent)) is not None:
            off["class-mix"] = 0.5 * sum(abs(a - b) for a, b in zip(now, mix, strict=True))
        flags = tuple(name for name, limit in LIMITS.items() if name in off and abs(off[name]) > limit)
        # A sharper picture than the reference is no drift.
        judged.append(Judged(each, off, tuple(f for f in flags if f != "focus" or off["focus"] < 0)))
    return tuple(judged)


def _relative(off: dict[str, float], name: str, value: float | None, expected: float | None) -> None:
    if value is not None and expected:
        off[name] = value / expected - 1.0


def _middle(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(median(known)) if known else None


def _colour(record: Calibration | None, early: Sequence[Point]) -> tuple[float, float, float] | None:
    if record is not None and record.background is not None:
        return record.background
    known = [each.colour for each in early if each.colour is not None]
    if not known:
        return None
    blue, green, red = (float(median(each[i] for each in known)) for i in range(3))
    return blue, green, red


def _mix(points: Sequence[Point]) -> tuple[float, ...] | None:
    totals = [sum(each.classes[i] for each in points) for i in range(len(LABELS))]
    counted = sum(totals)
    return tuple(total / counted for total in totals) if counted else None

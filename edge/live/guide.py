"""What to tell the person at the microscope: focus bar, exposure hint, advice. Pure functions of what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from edge.core.types import Quality
from edge.imaging.quality import QualityReference
from edge.live.state import Advice, ExposureHint, Guide

TYPICAL_FOCUS: Final = 1.8
"""Edge sharpness of cells in focus (edge.imaging.sharpness: 1.4 to 2), for want of this site's own."""

_DARK: Final = 0.45
_BRIGHT: Final = 0.97
_CLIPPED: Final = 0.1
_TREND: Final = 0.03

_BY_REASON: Final = {
    "blurred": Advice("turn-focus", "The picture is blurred: turn the focus until the bar is full."),
    "no-texture": Advice("no-cells-here", "Nothing is seen here: go to where the cells are, then focus."),
    "under-exposed": Advice("more-light", "Too dark: more light or a longer exposure."),
    "over-exposed": Advice("less-light", "Too bright: less light or a shorter exposure."),
    "clipped": Advice("less-light", "The brightest parts are lost: less light or a shorter exposure."),
    "uneven-illumination": Advice("clean-slide", "The light is uneven: centre the condenser, clean lens and slide."),
    "wrong-colour": Advice(
        "less-light", "The blank slide has another colour than commissioned: check lamp and filter."
    ),
    "wrong-stain": Advice("check-stain", "The stain differs from what this site knows: check staining and slide."),
    "not-a-smear": Advice("no-cells-here", "This is no smear: go to the monolayer of a stained slide."),
}


def guide(quality: Quality, reference: QualityReference | None, before: float | None, best: float | None) -> Guide:
    """Make the guide of the present field.

    `before` is the sharpness of the field before, `best` the sharpest of the session so far; both None when unknown.
    """
    expected = reference.focus if reference is not None and reference.focus else None
    if expected is None:
        expected = max(best or 0.0, 0.8 * TYPICAL_FOCUS)
    bar = None if quality.focus is None else max(0.0, min(1.0, quality.focus / expected))
    trend = 0
    if quality.focus is not None and before is not None:
        change = quality.focus - before
        trend = 0 if abs(change) < _TREND else (1 if change > 0 else -1)
    return Guide(bar, -1 if trend < 0 else (1 if trend > 0 else 0), _exposure(quality), quality.exposure)


def _exposure(quality: Quality) -> ExposureHint:
    if quality.exposure is None:
        return "unknown"
    if quality.exposure > _BRIGHT or (quality.clipped_bright or 0.0) > _CLIPPED:
        return "too-bright"
    return "too-dark" if quality.exposure < _DARK else "good"


def advice(quality: Quality, hints: Guide, unchanged: int, empty: int) -> tuple[Advice, ...]:
    """Say what would help now, the most important first.

    `unchanged` and `empty` are how many fields in a row brought no new place, or no cell.
    """
    found: list[Advice] = [_BY_REASON[reason] for reason in quality.reasons if reason in _BY_REASON]
    if quality.accepted:
        if hints.exposure == "too-dark":
            found.append(_BY_REASON["under-exposed"])
        elif hints.exposure == "too-bright":
            found.append(_BY_REASON["over-exposed"])
        if unchanged >= 3:
            found.append(Advice("move-on", "These cells are counted: move on to the next field."))
        elif empty >= 5:
            found.append(Advice("no-cells-here", "No new cells for a while: move to where they are."))
    return unique(found)


def unique(found: Sequence[Advice]) -> tuple[Advice, ...]:
    """Each code once, in the order first given."""
    return tuple({each.code: each for each in reversed(found)}.values())[::-1] if found else ()

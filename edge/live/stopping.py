"""When a session has counted enough."""

from __future__ import annotations

from edge.core.differential import SCREENING_COUNT, wilson
from edge.core.types import Differential


def half_width(counts: Differential) -> float | None:
    """Half the width of the widest 95 % Wilson interval of the five classes, in percentage points.

    None while nothing is counted. Taken from the counts, so that it can be watched before percentages are claimed.
    """
    if counts.counted == 0:
        return None
    intervals = [wilson(share.count, counts.counted) for share in counts.classes.values()]
    return max(50.0 * (interval.high - interval.low) for interval in intervals)


def enough(counts: Differential, target: int, precision: float | None) -> bool:
    """Whether the target is reached, or the stated precision with at least 100 cells.

    Intervals looked at after every field are somewhat too narrow when the look itself decides when to stop.
    """
    if counts.counted >= target:
        return True
    width = half_width(counts)
    return precision is not None and counts.counted >= SCREENING_COUNT and width is not None and width <= precision

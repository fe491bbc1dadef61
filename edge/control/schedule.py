"""Whether patients may be counted now, by the control log and the clock. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from edge.core.types import ClockReading

LONGEST_OVERRIDE_HOURS: Final = 24
"""An override opens the patient mode for a working day at most."""


@dataclass(frozen=True, slots=True)
class ControlEvent:
    """One entry of the control log: a run with its verdict, or an override with its reason and length in hours.

    `bundle` is the SHA-256 of the model bundle that ran.
    """

    event: Literal["run", "override"]
    passed: bool
    set_name: str
    finding: str
    operator: str
    reason: str
    hours: float
    bundle: str
    recorded: ClockReading


@dataclass(frozen=True, slots=True)
class Standing:
    """How the control stands.

    `code` is one of "passed", "unscheduled", "overridden" (open) and "never", "overdue", "failed", "model-changed",
    "clock-unsure" (locked); `says` is that in a sentence. `due_in_hours` is negative when overdue, None without a
    schedule or a passed run.
    """

    code: str
    says: str
    locked: bool
    set_name: str
    last: ControlEvent | None
    due_in_hours: float | None


SAYS: Final = {
    "passed": "The control has passed.",
    "unscheduled": "No control is scheduled on this device.",
    "overridden": "The lock is overridden.",
    "never": "The control has never been run.",
    "overdue": "The control is overdue.",
    "failed": "The control has failed.",
    "model-changed": "The model has changed since the last control.",
    "clock-unsure": "The clock cannot tell how old the last control is.",
}


def standing(
    events: Sequence[ControlEvent], now: ClockReading, *, interval_hours: float, set_name: str, bundle: str
) -> Standing:
    """Judge the log, oldest event first. `interval_hours` 0 means that no control is asked for."""
    runs = [event for event in events if event.event == "run"]
    last = runs[-1] if runs else None
    age = None if last is None else elapsed_hours(last.recorded, now)
    due = None if age is None or interval_hours == 0 else interval_hours - age
    code = _code(last, age, interval_hours, bundle)
    locked = code not in {"passed", "unscheduled"}
    if locked and _overridden(events, now):
        code, locked = "overridden", False
    return Standing(code, SAYS[code], locked, set_name, last, due)


def elapsed_hours(then: ClockReading, now: ClockReading) -> float | None:
    """Hours between two readings: within one boot by the clock that cannot jump, else by the wall clock.

    None when the wall clock now reads an earlier time: it was wrong then or is wrong now.
    """
    if then.boot_id == now.boot_id and now.monotonic >= then.monotonic:
        return (now.monotonic - then.monotonic) / 3600
    try:
        seconds = (datetime.fromisoformat(now.wall) - datetime.fromisoformat(then.wall)).total_seconds()
    except (TypeError, ValueError):
        return None
    return None if seconds < 0 else seconds / 3600


def _code(last: ControlEvent | None, age: float | None, interval_hours: float, bundle: str) -> str:
    if interval_hours == 0:
        return "unscheduled"
    if last is None:
        return "never"
    if not last.passed:
        return "failed"
    if last.bundle != bundle:
        return "model-changed"
    if age is None:
        return "clock-unsure"
    return "passed" if age <= interval_hours else "overdue"


def _overridden(events: Sequence[ControlEvent], now: ClockReading) -> bool:
    """Whether the last event is an override that still holds: a run after it, failed or not, ends it."""
    if not events or events[-1].event != "override":
        return False
    age = elapsed_hours(events[-1].recorded, now)
    return age is not None and age <= min(events[-1].hours, LONGEST_OVERRIDE_HOURS)

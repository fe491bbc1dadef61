"""The control log: every run of a control and every override, in a hash chain of its own beside that of the results."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Final

from edge.core.types import ClockReading
from edge.store.audit import GENESIS
from edge.store.database import transaction
from edge.store.records import canonical, sha256

if TYPE_CHECKING:
    from edge.control.schedule import ControlEvent

COLUMNS: Final = (
    *("event", "passed", "set_name", "finding", "operator", "reason", "hours", "bundle"),
    *("wall", "monotonic", "boot_id", "tier"),
)


def append(connection: sqlite3.Connection, event: ControlEvent) -> str:
    """Add an event in a transaction of its own, and return its link."""
    with transaction(connection, write=True):
        last = connection.execute("SELECT link FROM control_log ORDER BY sequence DESC LIMIT 1").fetchone()
        previous = str(last[0]) if last else GENESIS
        row = _row(event)
        link = _link(previous, row)
        connection.execute(
            f"INSERT INTO control_log ({', '.join(COLUMNS)}, previous, link) "  # noqa: S608 - our own columns
            f"VALUES ({', '.join('?' * (len(COLUMNS) + 2))})",
            (*row, previous, link),
        )
    return link


def events(connection: sqlite3.Connection) -> tuple[ControlEvent, ...]:
    """Read the log, oldest first."""
    from edge.control.schedule import ControlEvent

    found = []
    for row in connection.execute(f"SELECT {', '.join(COLUMNS)} FROM control_log ORDER BY sequence"):  # noqa: S608
        values = dict(zip(COLUMNS, row, strict=True))
        recorded = ClockReading(*(values.pop(name) for name in ("wall", "monotonic", "boot_id", "tier")))
        values["passed"] = bool(values["passed"])
        found.append(ControlEvent(recorded=recorded, **values))
    return tuple(found)


def problems(connection: sqlite3.Connection) -> tuple[str, ...]:
    """Recompute the chain; return what does not hold, in sentences."""
    found, previous = [], GENESIS
    expected = 1
    query = f"SELECT sequence, previous, link, {', '.join(COLUMNS)} FROM control_log ORDER BY sequence"  # noqa: S608
    for sequence, follows, link, *row in connection.execute(query):
        if sequence != expected or follows != previous:
            found.append(f"before event {sequence} of the control log, events are missing")
        if _link(follows, tuple(row)) != link:
            found.append(f"event {sequence} of the control log is not what was written")
        previous, expected = link, sequence + 1
    ever = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'control_log'").fetchone()
    if ever is not None and int(ever[0]) != expected - 1:
        found.append(f"events after {expected - 1} of the control log are missing")
    return tuple(found)


def _row(event: ControlEvent) -> tuple[object, ...]:
    moment = event.recorded
    return (
        *(event.event, int(event.passed), event.set_name, event.finding, event.operator, event.reason),
        *(float(event.hours), event.bundle, moment.wall, float(moment.monotonic), moment.boot_id, moment.tier),
    )


def _link(previous: str, row: tuple[object, ...]) -> str:
    return sha256((previous + canonical(dict(zip(COLUMNS, row, strict=True)))).encode("ascii"))

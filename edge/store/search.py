"""Finding results: each in its latest version, without its pictures."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from datetime import date
from typing import Final, Literal

from edge.core.errors import StoreError, UsageError
from edge.store import audit, records

MOST: Final = 500
"""Results that one search gives at most."""

_STATES: Final = ("preliminary", "final", "corrected")


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for. Empty or None asks for nothing; conditions add up.

    `text` is part of the sample, or the start of the id; upper and lower case are alike. `since` and `until` are days
    of the analysis in UTC, both included, by the clock it had. `waiting` leaves out what is signed and unchanged.
    """

    text: str = ""
    status: str = ""
    since: date | None = None
    until: date | None = None
    waiting: bool = False
    limit: int = 50
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Summary:
    """A result in a list. `counted`, `tier` and `flags` are None and empty when `altered`: they are then not shown."""

    id: str
    version: int
    sample: str
    operator: str
    device: str
    created: str
    clock_tier: str
    status: Literal["preliminary", "final", "corrected"]
    counted: int | None
    other: int | None
    tier: str | None
    flags: tuple[str, ...]
    altered: bool


def search(connection: sqlite3.Connection, query: Query) -> tuple[Summary, ...]:
    """Find results, the one that was first saved last at the top.

    Raises `UsageError` `search-invalid` for a status or a number that there cannot be.
    """
    conditions, values = _conditions(query)
    rows = connection.execute(
        f"""SELECT {", ".join(records.COLUMNS)} FROM results AS result
            WHERE version = (SELECT MAX(version) FROM results WHERE id = result.id) {conditions}
            ORDER BY (SELECT MIN(sequence) FROM audit WHERE id = result.id) DESC LIMIT ? OFFSET ?""",  # noqa: S608
        (*values, query.limit, query.offset),
    ).fetchall()
    return tuple(_summary(connection, row) for row in rows)


def _conditions(query: Query) -> tuple[str, list[object]]:
    if query.status and query.status not in _STATES:
        raise UsageError(
            "search-invalid", f"There is no status {query.status!r}.", f"Name one of: {', '.join(_STATES)}."
        )
    if not 1 <= query.limit <= MOST or query.offset < 0:
        raise UsageError("search-invalid", "That many results are not listed at once.", f"Ask for 1 to {MOST}.")
    conditions: list[str] = []
    values: list[object] = []
    if text := query.text.strip():
        # Both are compared without LIKE: a sample may hold its wildcards.
        conditions.append("(instr(lower(sample), lower(?)) > 0 OR substr(id, 1, length(?)) = lower(?))")
        values += [text] * 3
    if query.status:
        conditions.append("status = ?")
        values.append(query.status)
    if query.waiting:
        conditions.append("status != 'final'")
    if query.since is not None:
        conditions.append("substr(wall, 1, 10) >= ?")
        values.append(query.since.isoformat())
    if query.until is not None:
        conditions.append("substr(wall, 1, 10) <= ?")
        values.append(query.until.isoformat())
    return "".join(f" AND {condition}" for condition in conditions), values


def _summary(connection: sqlite3.Connection, row: records.Row) -> Summary:
    values = dict(zip(records.COLUMNS, row, strict=True))
    counted: int | None
    other: int | None
    tier: str | None
    try:
        audit.check_row(connection, row, records.load_picture_rows(connection, values["id"], values["version"]))
        differential = json.loads(values["document"])["differential"]
        counted, other = int(differential["counted"]), int(differential["other"])
        tier, flags = str(differential["tier"]), tuple(str(flag) for flag in differential["flags"])
        altered = False
    except (StoreError, KeyError, TypeError, ValueError):
        counted, other, tier, flags, altered = None, None, None, (), True
    return Summary(
        id=values["id"],
        version=values["version"],
        sample=values["sample"],
        operator=values["operator"],
        device=values["device"],
        created=values["wall"],
        clock_tier=values["tier"],
        status=values["status"],
        counted=counted,
        other=other,
        tier=tier,
        flags=flags,
        altered=altered,
    )

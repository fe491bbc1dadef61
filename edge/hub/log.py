"""The log of accesses, read; and logs of the program, one JSON object a line."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from edge.hub import tables, times
from edge.hub.audit import clean
from edge.hub.core import Hub, Person

_accesses = tables.accesses
SHOWN = 200


@dataclass(frozen=True, slots=True)
class Access:
    """One line of the log: who did what with which result, from where."""

    sequence: int
    at: str
    actor: str
    action: str
    result_id: str | None
    detail: str
    address: str


def accesses(hub: Hub, person: Person, result: str = "", before: int | None = None) -> tuple[Access, ...]:
    """List the newest accesses; an administrator of one site sees those to its results alone."""
    query = sa.select(_accesses).order_by(_accesses.c.sequence.desc()).limit(SHOWN)
    if result:
        query = query.where(_accesses.c.result_id == clean(result))
    if before is not None:
        query = query.where(_accesses.c.sequence < before)
    if person.site:
        query = query.join(tables.results, tables.results.c.id == _accesses.c.result_id).where(
            tables.results.c.site == person.site
        )
    with hub.database.read() as connection:
        return tuple(Access(**row._mapping) for row in connection.execute(query))


class Lines(logging.Formatter):
    """Writes a record as one JSON object: time, level, message, and what was given as `extra={"facts": {...}}`."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one line."""
        found: dict[str, Any] = {
            "at": times.now(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            found["trace"] = self.formatException(record.exc_info)
        return json.dumps(found, ensure_ascii=True, default=str)


def start(level: int = logging.INFO) -> None:
    """Send the log to standard error as lines of JSON."""
    handler = logging.StreamHandler()
    handler.setFormatter(Lines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = name != "uvicorn.access"
    logging.getLogger("alembic").setLevel(logging.WARNING)

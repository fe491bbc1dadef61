"""Who looked at what, and what was made here: a log of accesses, and a chain of the versions that the hub made."""

from __future__ import annotations

import hashlib

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from edge.hub import tables, times
from edge.sync import messages
from edge.sync.messages import AuditLink, Moment


def record(
    connection: Connection, actor: str, action: str, *, result: str | None = None, detail: str = "", address: str = ""
) -> None:
    """Write down one access, in the transaction of what was done."""
    connection.execute(
        tables.accesses.insert().values(
            at=times.now(),
            actor=actor[:300],
            action=action,
            result_id=result,
            detail=clean(detail)[:2000],
            address=address[:100],
        )
    )


def seen_lately(connection: Connection, actor: str, action: str, result: str, detail: str) -> bool:
    """Whether the same person did the same within ten minutes: the pictures of one page are one look."""
    accesses = tables.accesses.c
    query = sa.select(accesses.sequence).where(
        accesses.result_id == result,
        accesses.actor == actor,
        accesses.action == action,
        accesses.detail == detail,
        accesses.at > times.ago(minutes=10),
    )
    return connection.execute(query.limit(1)).first() is not None


def next_link(  # noqa: PLR0917  # in the order of the chain
    connection: Connection, event: str, operator: str, reason: str, recorded: Moment, content: bytes
) -> AuditLink:
    """Make the next link of the hub's chain, which binds `content`, all of a version but its link.

    link = SHA-256(previous link + canonical JSON of the event + content). The row of the chain's end is locked until
    the transaction is over.
    """
    state = tables.state
    connection.execute(state.update().where(state.c.key == "chain_sequence").values(value=state.c.value))
    values = {row.key: row.value for row in connection.execute(sa.select(state))}
    sequence, previous = int(values["chain_sequence"]) + 1, values["chain_link"]
    said = messages.canonical([sequence, event, operator, reason, [recorded.wall, recorded.monotonic]])
    link = hashlib.sha256(previous.encode("ascii") + said + content).hexdigest()
    for key, value in (("chain_sequence", str(sequence)), ("chain_link", link)):
        connection.execute(state.update().where(state.c.key == key).values(value=value))
    return AuditLink(event, operator, reason, recorded, sequence, previous, link)  # type: ignore[arg-type]


def clean(text: str) -> str:
    """Make text fit for a column: PostgreSQL has no NUL and no lone surrogates."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")

"""The audit chain: each saved version of a result is bound by a hash to everything saved before it.

    link = SHA-256(previous link + canonical JSON of the event, the result's row and the hashes of its pictures)

A change to anything saved, or a row taken out, breaks the chain from there on. Whoever can rewrite the whole file can
also rewrite the whole chain: only a link kept elsewhere (printed on a report, sent to the hub) reveals that, so
`verify` takes one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from edge.core.errors import StoreError
from edge.core.types import ClockReading
from edge.store.records import COLUMNS, Row, canonical, load_picture_rows, load_row, sha256

GENESIS: Final = "0" * 64
"""What the first link follows."""

Event = Literal["saved", "signed", "corrected"]

_COLUMNS: Final = "sequence, id, version, event, operator, reason, wall, monotonic, boot_id, tier, previous, link"


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One link: who saved which version of which result, when, why, and the hashes that bind it."""

    sequence: int
    id: str
    version: int
    event: Event
    operator: str
    reason: str
    recorded: ClockReading
    previous: str
    link: str


@dataclass(frozen=True, slots=True)
class AuditVerdict:
    """What `verify` found: how many links there are, the last of them, and each problem in a sentence."""

    entries: int
    head: str
    problems: tuple[str, ...]

    @property
    def intact(self) -> bool:
        """Whether nothing was found."""
        return not self.problems


def append(
    connection: sqlite3.Connection,
    row: Row,
    pictures: Sequence[Row],
    *,
    event: Event,
    operator: str,
    reason: str,
    recorded: ClockReading,
) -> None:
    """Add the link for a new row of `results`, within the transaction that inserts it."""
    last = connection.execute("SELECT sequence, link FROM audit ORDER BY sequence DESC LIMIT 1").fetchone()
    sequence, previous = (int(last[0]) + 1, str(last[1])) if last else (1, GENESIS)
    entry = AuditEntry(sequence, str(row[0]), int(row[1]), event, operator, reason, recorded, previous, "")
    connection.execute(
        f"INSERT INTO audit ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - our own columns
        (
            sequence,
            entry.id,
            entry.version,
            event,
            operator,
            reason,
            recorded.wall,
            float(recorded.monotonic),
            recorded.boot_id,
            recorded.tier,
            previous,
            link_of(entry, row, pictures),
        ),
    )


def link_of(entry: AuditEntry, row: Row, pictures: Sequence[Row]) -> str:
    """Compute the link of an entry from its row of `results` and its picture rows (kind, field, cell, sha256)."""
    recorded = entry.recorded
    bound = {
        "sequence": entry.sequence,
        "event": entry.event,
        "operator": entry.operator,
        "reason": entry.reason,
        "recorded": [recorded.wall, float(recorded.monotonic), recorded.boot_id, recorded.tier],
        "result": dict(zip(COLUMNS, row, strict=True)),
        "pictures": [list(picture) for picture in pictures],
    }
    return sha256((entry.previous + canonical(bound)).encode("ascii"))


def entries(connection: sqlite3.Connection, identifier: str | None = None) -> Iterator[AuditEntry]:
    """Read the chain, or the part of it that is about one result, oldest first."""
    condition, values = ("", ()) if identifier is None else ("WHERE id = ?", (identifier,))
    for row in connection.execute(f"SELECT {_COLUMNS} FROM audit {condition} ORDER BY sequence", values):  # noqa: S608
        yield _entry(row)


def check_row(connection: sqlite3.Connection, row: Row, pictures: Sequence[Row]) -> None:
    """Raise `StoreError` `result-altered` unless a row is still what its link was made of."""
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM audit WHERE id = ? AND version = ?",  # noqa: S608 - our own columns
        (row[0], row[1]),
    ).fetchone()
    if found is not None:
        entry = _entry(found)
        if link_of(entry, row, pictures) == entry.link:
            return
    raise altered(f"Version {row[1]} of result {row[0]}")


def altered(what: str) -> StoreError:
    """Make the error for something that is no longer what was saved."""
    return StoreError(
        "result-altered",
        f"{what} is no longer what was saved; it is not shown.",
        "Keep the file as evidence, put back a backup, or analyse the sample again.",
    )


def verify(connection: sqlite3.Connection, known_link: str | None = None) -> AuditVerdict:
    """Recompute the whole chain and every picture's hash, and say what does not hold.

    `known_link` is a link kept elsewhere, which must still be part of the chain.
    """
    problems: list[str] = []
    previous, expected, seen = GENESIS, 1, known_link is None
    for entry in entries(connection):
        place = f"link {entry.sequence} (version {entry.version} of result {entry.id})"
        if entry.sequence != expected:
            problems.append(f"before {place}, links are missing")
        if entry.previous != previous:
            problems.append(f"{place} does not follow the link before it")
        row = load_row(connection, entry.id, entry.version)
        if row is None:
            problems.append(f"{place} has lost its result")
        elif link_of(entry, row, load_picture_rows(connection, entry.id, entry.version)) != entry.link:
            problems.append(f"{place} does not match its result")
        seen = seen or entry.link == known_link
        previous, expected = entry.link, entry.sequence + 1
    ever = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'audit'").fetchone()
    if ever is not None and int(ever[0]) != expected - 1:
        problems.append(f"links after {expected - 1} are missing")
    if not seen:
        problems.append("the known link is not part of the chain")
    problems += _outside_the_chain(connection)
    count = int(connection.execute("SELECT COUNT(*) FROM audit").fetchone()[0])
    return AuditVerdict(entries=count, head=previous, problems=tuple(problems))


def _entry(row: Row) -> AuditEntry:
    sequence, identifier, version, event, operator, reason, wall, monotonic, boot_id, tier, previous, link = row
    recorded = ClockReading(wall, monotonic, boot_id, tier)
    return AuditEntry(sequence, identifier, version, event, operator, reason, recorded, previous, link)


def _outside_the_chain(connection: sqlite3.Connection) -> Iterator[str]:
    for identifier, version in connection.execute(
        "SELECT id, version FROM results EXCEPT SELECT id, version FROM audit ORDER BY 1, 2"
    ):
        yield f"version {version} of result {identifier} has no link"
    for digest, jpeg in connection.execute(
        """SELECT sha256, jpeg FROM pictures
           WHERE NOT (length(jpeg) = 0 AND sha256 IN (SELECT sha256 FROM released_pictures))"""
    ):
        if not isinstance(jpeg, bytes) or sha256(jpeg) != digest:
            yield f"picture {digest} is not what was saved"
    for (digest,) in connection.execute("SELECT sha256 FROM result_pictures EXCEPT SELECT sha256 FROM pictures"):
        yield f"picture {digest} is missing"

"""What each destination has of each version, and what it still has to get, in the order of saving.

A version is `pending`; `accepted` when the destination holds its numbers but not yet all pictures; `delivered` when it
acknowledged the whole; `conflict` when it holds other contents under the same number; `refused` when it will not take
it; `settled` when there is nothing left to send (a person decided, or a later version made it needless). A row of
`outbox` is delivered once every destination has, or has settled, its version.
"""

from __future__ import annotations

import contextlib
import gzip
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from edge.core import clock
from edge.core.types import ClockReading, ResultRecord
from edge.store import audit, records, retention
from edge.store.audit import AuditEntry
from edge.store.database import StoreFile, transaction, translated

State = Literal["pending", "accepted", "delivered", "conflict", "refused", "settled"]

_COLUMNS: Final = "destination, sequence, id, version, state, attempts, content_sha256, code, message, changed"


@dataclass(frozen=True, slots=True)
class Delivery:
    """Where one version stands with one destination. `sequence` is its place in the audit chain."""

    destination: str
    sequence: int
    id: str
    version: int
    state: State
    attempts: int
    content_sha256: str | None
    code: str
    message: str
    changed: str


@dataclass(frozen=True, slots=True)
class Contact:
    """What is remembered of a destination between runs. `wait_until` counts by the monotonic clock of that boot."""

    epoch: str = ""
    cursor: str = ""
    failures: int = 0
    wait_boot_id: str = ""
    wait_until: float = 0.0
    code: str = ""
    message: str = ""
    contact: str = ""
    reports: int = 0


@dataclass(frozen=True, slots=True)
class PictureRow:
    """A picture of a version, without its bytes. `bytes` is 0 when they were let go."""

    kind: Literal["field", "cell", "activation"]
    field: int
    cell: int | None
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Parcel:
    """One version as a destination gets it: the record without pictures, its audit entry, and where its pictures are.

    `signed` says whether this version or one before it was signed.
    """

    record: ResultRecord
    entry: AuditEntry
    pictures: tuple[PictureRow, ...]
    signed: bool


@dataclass(frozen=True, slots=True)
class Incoming:
    """A version made at a hub whose number is taken here by other contents."""

    destination: str
    id: str
    version: int
    content_sha256: str
    body: bytes
    received: str


@dataclass(frozen=True, slots=True)
class Anchor:
    """The true time of one moment of a boot. `trusted` is UTC in ISO 8601."""

    device: ClockReading
    trusted: str
    source: str


def mark_received(
    connection: sqlite3.Connection, destination: str, identifier: str, version: int, content_sha256: str
) -> None:
    """Note, within the transaction that saves it, that a version comes from `destination` and need not go there."""
    connection.execute(
        """INSERT INTO deliveries (destination, sequence, id, version, state, content_sha256, changed)
           SELECT ?, sequence, id, version, 'delivered', ?, ? FROM audit WHERE id = ? AND version = ?""",
        (destination, content_sha256, clock.read().wall, identifier, version),
    )


class Deliveries(StoreFile):
    """The delivery side of the store in the file at `path`, opened by a `with` block in the thread that uses it.

    Raises `StoreError` as `edge.store.results.ResultStore` does.
    """

    def enlist(self, destination: str) -> int:
        """Give the destination a row for every version saved since the last time; returns how many were new."""
        with self._writing() as connection:
            connection.execute("INSERT OR IGNORE INTO destinations (destination) VALUES (?)", (destination,))
            changes = connection.total_changes
            connection.execute(
                """INSERT OR IGNORE INTO deliveries (destination, sequence, id, version, state, changed)
                   SELECT ?, sequence, id, version, 'pending', ? FROM audit
                   WHERE sequence > (SELECT seen FROM destinations WHERE destination = ?)""",
                (destination, clock.read().wall, destination),
            )
            added = connection.total_changes - changes
            connection.execute(
                "UPDATE destinations SET seen = (SELECT COALESCE(MAX(sequence), 0) FROM audit) WHERE destination = ?",
                (destination,),
            )
        return added

    def next(self, destination: str, state: State, *, blocking: bool, after: int = 0) -> Delivery | None:
        """Read the oldest version in a state. `blocking`: one that follows a version in trouble waits for a person."""
        blocked = (
            """AND NOT EXISTS (SELECT 1 FROM deliveries AS before WHERE before.destination = deliveries.destination
                               AND before.id = deliveries.id AND before.version < deliveries.version
                               AND before.state IN ('conflict', 'refused'))"""
            if blocking
            else ""
        )
        with translated(self._path):
            row = (
                self._connection()
                .execute(
                    f"""SELECT {_COLUMNS} FROM deliveries WHERE destination = ? AND state = ? AND sequence > ? {blocked}
                        ORDER BY sequence LIMIT 1""",  # noqa: S608 - our own columns
                    (destination, state, after),
                )
                .fetchone()
            )
        return None if row is None else Delivery(*row)

    def find(self, destination: str, states: Sequence[State]) -> tuple[Delivery, ...]:
        """List the versions in any of these states, in the order of saving."""
        marks = ", ".join("?" * len(states))
        with translated(self._path):
            return tuple(
                Delivery(*row)
                for row in self._connection().execute(
                    f"""SELECT {_COLUMNS} FROM deliveries WHERE destination = ? AND state IN ({marks})
                        ORDER BY sequence""",  # noqa: S608 - our own columns
                    (destination, *states),
                )
            )

    def counts(self, destination: str) -> dict[str, int]:
        """Count the versions of each state; versions that were not enlisted yet count as pending."""
        with translated(self._path):
            connection = self._connection()
            found = {
                str(state): int(count)
                for state, count in connection.execute(
                    "SELECT state, COUNT(*) FROM deliveries WHERE destination = ? GROUP BY state", (destination,)
                )
            }
            waiting = connection.execute(
                """SELECT COUNT(*) FROM audit WHERE sequence >
                   COALESCE((SELECT seen FROM destinations WHERE destination = ?), 0)""",
                (destination,),
            ).fetchone()
        return {**found, "pending": found.get("pending", 0) + int(waiting[0])}

    def oldest_waiting(self, destination: str) -> str | None:
        """When the oldest version that is not delivered was queued, by the device's clock."""
        with translated(self._path):
            row = (
                self._connection()
                .execute(
                    """SELECT queued FROM deliveries JOIN outbox USING (id, version)
                       WHERE destination = ? AND state IN ('pending', 'accepted') ORDER BY sequence LIMIT 1""",
                    (destination,),
                )
                .fetchone()
            )
        return None if row is None else str(row[0])

    def move(self, delivery: Delivery, state: State, *, code: str = "", message: str = "", tried: bool = True) -> None:
        """Put a version into a state. Its frozen body is dropped once nothing is left to send."""
        keep = state in {"pending", "accepted", "conflict", "refused"}
        with self._writing() as connection:
            connection.execute(
                f"""UPDATE deliveries SET state = ?, code = ?, message = ?, changed = ?, attempts = attempts + ?
                    {"" if keep else ", body = NULL"}
                    WHERE destination = ? AND id = ? AND version = ?""",  # noqa: S608 - a fixed text
                (
                    *(state, code, message[:500], clock.read().wall, int(tried)),
                    *(delivery.destination, delivery.id, delivery.version),
                ),
            )
            connection.execute(
                "UPDATE outbox SET attempts = attempts + ? WHERE id = ? AND version = ?",
                (int(tried), delivery.id, delivery.version),
            )

    def freeze(self, delivery: Delivery, content_sha256: str, body: bytes) -> None:
        """Keep the bytes that will be sent before the first attempt, and their hash; the first hash stays for ever."""
        with self._writing() as connection:
            connection.execute(
                """UPDATE deliveries SET content_sha256 = COALESCE(content_sha256, ?), body = ?
                   WHERE destination = ? AND id = ? AND version = ?""",
                (
                    content_sha256,
                    gzip.compress(body, 6, mtime=0),
                    *(delivery.destination, delivery.id, delivery.version),
                ),
            )

    def frozen(self, delivery: Delivery) -> bytes | None:
        """Read the bytes kept by `freeze`; None when there are none."""
        with translated(self._path):
            row = (
                self._connection()
                .execute(
                    "SELECT body FROM deliveries WHERE destination = ? AND id = ? AND version = ?",
                    (delivery.destination, delivery.id, delivery.version),
                )
                .fetchone()
            )
        return None if row is None or row[0] is None else gzip.decompress(row[0])

    def again(self, destination: str, states: Sequence[State]) -> int:
        """Make versions in these states pending again; returns how many."""
        marks = ", ".join("?" * len(states))
        with self._writing() as connection:
            return int(
                connection.execute(
                    f"""UPDATE deliveries SET state = 'pending', code = '', message = '', changed = ?
                        WHERE destination = ? AND state IN ({marks})""",  # noqa: S608 - question marks
                    (clock.read().wall, destination, *states),
                ).rowcount
            )

    def close_outbox(self, destinations: Sequence[str]) -> int:
        """Mark outbox rows delivered that every one of these destinations has or has settled; returns how many.

        Without a destination nothing is ever delivered.
        """
        if not destinations:
            return 0
        marks = ", ".join("?" * len(destinations))
        with self._writing() as connection:
            return int(
                connection.execute(
                    f"""UPDATE outbox SET delivered = ? WHERE delivered IS NULL AND
                        (SELECT COUNT(*) FROM deliveries WHERE deliveries.id = outbox.id
                         AND deliveries.version = outbox.version AND state IN ('delivered', 'settled')
                         AND destination IN ({marks})) = ?""",  # noqa: S608 - question marks
                    (clock.read().wall, *destinations, len(destinations)),
                ).rowcount
            )

    def parcel(self, identifier: str, version: int) -> Parcel:
        """Read a version to be sent. Raises `StoreError` `result-altered` when it is not what was saved."""
        with translated(self._path), transaction(self._connection(), write=False):
            connection = self._connection()
            row = records.load_row(connection, identifier, version)
            if row is None:
                raise audit.altered(f"Version {version} of result {identifier}")
            pictures = records.load_picture_rows(connection, identifier, version)
            audit.check_row(connection, row, pictures)
            sizes = dict(
                connection.execute(
                    """SELECT sha256, length(jpeg) FROM pictures WHERE sha256 IN
                       (SELECT sha256 FROM result_pictures WHERE id = ? AND version = ?)""",
                    (identifier, version),
                )
            )
            entries = [entry for entry in audit.entries(connection, identifier) if entry.version <= version]
        return Parcel(
            record=records.from_row(row, ()),
            entry=entries[-1],
            pictures=tuple(
                PictureRow(kind, field, cell, digest, int(sizes[digest])) for kind, field, cell, digest in pictures
            ),
            signed=any(entry.event == "signed" for entry in entries),
        )

    def picture(self, digest: str) -> bytes | None:
        """Read the bytes of a picture; None when they were let go. Raises `StoreError` `result-altered`."""
        with translated(self._path):
            connection = self._connection()
            row = connection.execute("SELECT jpeg FROM pictures WHERE sha256 = ?", (digest,)).fetchone()
            if row is not None and row[0] == b"" and retention.is_released(connection, digest):
                return None
        if row is None or not isinstance(row[0], bytes) or records.sha256(row[0]) != digest:
            raise audit.altered(f"Picture {digest}")
        return row[0]

    def contact(self, destination: str) -> Contact:
        """Read what is remembered of a destination."""
        with translated(self._path):
            row = (
                self._connection()
                .execute(
                    """SELECT epoch, cursor, failures, wait_boot_id, wait_until, code, message, contact, reports
                       FROM destinations WHERE destination = ?""",
                    (destination,),
                )
                .fetchone()
            )
        return Contact() if row is None else Contact(*row)

    def remember(self, destination: str, contact: Contact) -> None:
        """Keep what is to be remembered of a destination."""
        with self._writing() as connection:
            connection.execute(
                """INSERT INTO destinations
                   (epoch, cursor, failures, wait_boot_id, wait_until, code, message, contact, reports, destination)
                   VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                   ON CONFLICT (destination) DO UPDATE SET epoch = excluded.epoch, cursor = excluded.cursor,
                   failures = excluded.failures, wait_boot_id = excluded.wait_boot_id,
                   wait_until = excluded.wait_until, code = excluded.code, message = excluded.message,
                   contact = excluded.contact, reports = excluded.reports""",
                (
                    *(contact.epoch, contact.cursor, contact.failures, contact.wait_boot_id, contact.wait_until),
                    *(contact.code, contact.message[:500], contact.contact, contact.reports, destination),
                ),
            )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection()
        with translated(self._path), transaction(connection, write=True):
            yield connection

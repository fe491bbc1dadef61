"""The results of this device: saved once, signed or corrected as new versions, never edited and never lost."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from edge.core import clock
from edge.core.errors import StoreError
from edge.core.types import Picture, ResultRecord
from edge.store import audit, control_log, deliveries, records, retention, search
from edge.store.audit import AuditEntry, AuditVerdict
from edge.store.database import StoreFile, transaction, translated
from edge.store.search import Query, Summary

if TYPE_CHECKING:
    from edge.control.schedule import ControlEvent


@dataclasses.dataclass(frozen=True, slots=True)
class OutboxEntry:
    """One version of a result that waits to be sent. `id` is the idempotency key; `queued` the wall time, UTC."""

    id: str
    version: int
    queued: str
    attempts: int


class ResultStore(StoreFile):
    """The store in the file at `path`, opened by a `with` block in the thread that uses it.

    A version, its pictures, its place in the outbox and its audit link are written in one transaction: all of them or
    none. `save` and `sign` return only when the disk has them.

    Everything here raises `StoreError`, whose code says why and whose cure what to do: among others `store-locked`,
    `store-read-only`, `disk-full`, `disk-error`, `store-damaged`, `not-a-database`, `foreign-database`,
    `newer-schema`, `missing-folder`, `store-unreachable`; with `read_only` also `no-store` and `older-schema`.
    A file that is refused is left as it is.
    """

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def save(self, record: ResultRecord, reason: str = "") -> None:
        """Save version 1 of a new result, or the next version of a known one as a correction.

        Version 1 is "preliminary"; a later version is "corrected", or still "preliminary" before anyone signed;
        "final" comes only from `sign`. Saving again exactly what is saved already does nothing, so that a caller who
        does not know whether an attempt succeeded may repeat it.

        Raises `StoreError`: `result-invalid`, `version-conflict`, `status-conflict`, or as the class says.
        """
        records.check(record)
        row = records.to_row(record)
        pictures = records.to_picture_rows(record)
        connection = self._connection()
        with translated(self._path), transaction(connection, write=True):
            saved = records.load_row(connection, record.id, record.version)
            if saved is not None:
                if saved == row and records.load_picture_rows(connection, record.id, record.version) == pictures:
                    return
                raise StoreError(
                    "version-conflict",
                    f"Version {record.version} of result {record.id} is saved already, with other contents.",
                    "Read its latest version and save the change as the next one.",
                )
            newest = self._newest(record.id)
            if record.version != newest + 1:
                raise StoreError(
                    "version-conflict",
                    f"Result {record.id} has {newest} versions; version {record.version} does not follow.",
                    f"Save it as version {newest + 1}, having read what is saved.",
                )
            self._check_status(record)
            pictures = self._with_released(record, pictures)
            self._insert(record, row, pictures, "saved" if record.version == 1 else "corrected", reason)

    def sign(self, identifier: str, operator: str, reason: str = "", *, version: int | None = None) -> ResultRecord:
        """Sign the latest version of a result: save a copy of it as the next version, with the status "final".

        `operator` is who signs and becomes the new version's operator; `created` stays the time of the analysis, the
        time of signing is in `trail`. `version` is the one the operator has seen: when a newer one has been saved
        meanwhile, nothing is signed.

        Raises `StoreError`: `no-result`, `operator-missing`, `already-signed`, `version-conflict`, `result-altered`, or
        as the class says.
        """
        if not operator.strip():
            raise StoreError("operator-missing", "Nobody is named who signs.", "Name the operator who signs.")
        connection = self._connection()
        with translated(self._path), transaction(connection, write=True):
            newest = self._newest(identifier)
            if newest == 0:
                raise StoreError("no-result", f"There is no result {identifier}.", "Look up the id of the result.")
            if version is not None and version != newest:
                raise StoreError(
                    "version-conflict",
                    f"Result {identifier} now stands at version {newest}; version {version} was reviewed.",
                    "Review the latest version and sign that.",
                )
            seen = self._load(identifier, newest)
            pictures = records.load_picture_rows(connection, identifier, newest)
            if seen.status == "final":
                raise StoreError(
                    "already-signed",
                    f"Result {identifier} was signed by {seen.operator} as version {newest}.",
                    "To change it, save a correction as its next version.",
                )
            signed = dataclasses.replace(seen, version=newest + 1, operator=operator, status="final")
            self._insert(signed, records.to_row(signed), pictures, "signed", reason)
        return signed

    def receive(
        self, record: ResultRecord, event: audit.Event, reason: str, *, destination: str, content_sha256: str
    ) -> bool:
        """Save the version that a hub made of a result of this device: signed or changed there.

        `content_sha256` is the hash of it at the hub. It has the pictures of the version before it,
        and counts as delivered to `destination`, where it comes from.
        Returns False, having changed nothing, when its number is taken by other contents or does not follow; receiving
        again what is saved already does nothing and returns True.

        Raises `StoreError`: `result-invalid`, `no-result`, `result-altered`, or as the class says.
        """
        records.check(record)
        row = records.to_row(record)
        connection = self._connection()
        with translated(self._path), transaction(connection, write=True):
            saved = records.load_row(connection, record.id, record.version)
            if saved is not None:
                return saved == row
            newest = self._newest(record.id)
            if newest == 0:
                raise StoreError("no-result", f"There is no result {record.id}.", "It belongs to another device.")
            if record.version != newest + 1:
                return False
            pictures = records.load_picture_rows(connection, record.id, newest)
            self._insert(record, row, pictures, event, reason)
            deliveries.mark_received(connection, destination, record.id, record.version, content_sha256)
        return True

    def get(self, identifier: str, version: int | None = None) -> ResultRecord | None:
        """Read a result by its id: the given version, or the latest; None when there is none."""
        with translated(self._path), transaction(self._connection(), write=False):
            wanted = self._newest(identifier) if version is None else version
            if records.load_row(self._connection(), identifier, wanted) is None:
                return None
            return self._load(identifier, wanted)

    def latest(self, sample: str) -> ResultRecord | None:
        """Read the newest analysis of a sample, in its latest version; None when there is none.

        Newest is what was first saved last, whatever the clock said. A result whose latest version was corrected to
        another sample is no longer one of this sample.
        """
        with translated(self._path), transaction(self._connection(), write=False):
            found = (
                self._connection()
                .execute(
                    """SELECT id, version FROM results AS result
                       WHERE sample = ? AND version = (SELECT MAX(version) FROM results WHERE id = result.id)
                       ORDER BY (SELECT MIN(sequence) FROM audit WHERE id = result.id) DESC LIMIT 1""",
                    (sample,),
                )
                .fetchone()
            )
            return None if found is None else self._load(*found)

    def history(self, identifier: str) -> tuple[ResultRecord, ...]:
        """Read all versions of a result, oldest first."""
        with translated(self._path), transaction(self._connection(), write=False):
            return tuple(self._load(identifier, version) for version in range(1, self._newest(identifier) + 1))

    def samples(self) -> tuple[str, ...]:
        """Name the samples that have a result, the newest first."""
        with translated(self._path):
            return tuple(
                str(row[0])
                for row in self._connection().execute(
                    """SELECT sample FROM results AS result
                       WHERE version = (SELECT MAX(version) FROM results WHERE id = result.id)
                       GROUP BY sample
                       ORDER BY MAX((SELECT MIN(sequence) FROM audit WHERE id = result.id)) DESC"""
                )
            )

    def search(self, query: Query) -> tuple[Summary, ...]:
        """Find results in their latest version, without pictures, the newest first."""
        with translated(self._path), transaction(self._connection(), write=False):
            return search.search(self._connection(), query)

    def outbox(self) -> tuple[OutboxEntry, ...]:
        """List the versions that wait to be sent, in the order they were saved."""
        with translated(self._path):
            return tuple(
                OutboxEntry(*row)
                for row in self._connection().execute(
                    """SELECT id, version, queued, attempts FROM outbox JOIN audit USING (id, version)
                       WHERE delivered IS NULL ORDER BY sequence"""
                )
            )

    def trail(self, identifier: str) -> tuple[AuditEntry, ...]:
        """Tell who saved, corrected and signed a result, when and why, oldest first."""
        with translated(self._path):
            return tuple(audit.entries(self._connection(), identifier))

    def verify_audit(self, known_link: str | None = None) -> AuditVerdict:
        """Check every result and picture ever saved against the audit chain.

        `known_link` is a link kept outside this file (`AuditVerdict.head`, `AuditEntry.link`), without which a file
        that was rewritten as a whole, or rolled back to an older copy, cannot be told.
        """
        with translated(self._path), transaction(self._connection(), write=False):
            return audit.verify(self._connection(), known_link)

    def log_control(self, event: ControlEvent) -> str:
        """Write a run of a control, or an override, into the control log; returns its link."""
        with translated(self._path):
            return control_log.append(self._connection(), event)

    def controls(self) -> tuple[ControlEvent, ...]:
        """Read the control log, oldest first. Raises `StoreError` `control-altered` when its chain does not hold."""
        with translated(self._path), transaction(self._connection(), write=False):
            if problems := control_log.problems(self._connection()):
                raise StoreError(
                    "control-altered",
                    f"The control log is no longer what was written: {'; '.join(problems)}.",
                    "Keep the file as evidence, and put back a backup.",
                )
            return control_log.events(self._connection())

    def check_integrity(self) -> tuple[str, ...]:
        """Let SQLite check the whole file; return what it found, nothing when it is sound."""
        with translated(self._path):
            found = [str(row[0]) for row in self._connection().execute("PRAGMA integrity_check")]
            broken = [
                f"a row of {row[0]} refers to nothing" for row in self._connection().execute("PRAGMA foreign_key_check")
            ]
        return tuple(line for line in found + broken if line != "ok")

    def settings(self) -> dict[str, str]:
        """Give the settings that durability rests on, as SQLite reports them on this file system."""
        with translated(self._path):
            return {
                name: str(self._connection().execute(f"PRAGMA {name}").fetchone()[0])
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            }

    def _newest(self, identifier: str) -> int:
        found = self._connection().execute("SELECT MAX(version) FROM results WHERE id = ?", (identifier,)).fetchone()
        return int(found[0] or 0)

    def _load(self, identifier: str, version: int) -> ResultRecord:
        """Read a version that is known to be there. A result that is not what was saved is never shown."""
        connection = self._connection()
        row = records.load_row(connection, identifier, version)
        if row is None:
            raise audit.altered(f"Version {version} of result {identifier}")
        picture_rows = records.load_picture_rows(connection, identifier, version)
        audit.check_row(connection, row, picture_rows)
        pictures = []
        for kind, field, cell, digest in picture_rows:
            found = connection.execute("SELECT jpeg FROM pictures WHERE sha256 = ?", (digest,)).fetchone()
            if found is not None and found[0] == b"" and retention.is_released(connection, digest):
                continue
            if found is None or not isinstance(found[0], bytes) or records.sha256(found[0]) != digest:
                raise audit.altered(f"A picture of version {version} of result {identifier}")
            pictures.append(Picture(kind=kind, field=field, cell=cell, jpeg=found[0]))
        return records.from_row(row, tuple(pictures))

    def _with_released(self, record: ResultRecord, given: tuple[records.Row, ...]) -> tuple[records.Row, ...]:
        """Keep naming the pictures that the version before had and whose bytes were let go: a reader never saw them."""
        connection = self._connection()
        before = records.load_picture_rows(connection, record.id, record.version - 1) if record.version > 1 else ()
        places = {tuple(row[:3]) for row in given}
        gone = [row for row in before if tuple(row[:3]) not in places and retention.is_released(connection, row[3])]
        return (*given, *gone)

    def _check_status(self, record: ResultRecord) -> None:
        if record.version == 1:
            allowed = {"preliminary"}
        else:
            signed = any(entry.event == "signed" for entry in audit.entries(self._connection(), record.id))
            allowed = {"corrected"} if signed else {"preliminary", "corrected"}
        if record.status not in allowed:
            raise StoreError(
                "status-conflict",
                f"Version {record.version} of result {record.id} cannot be saved as {record.status!r}.",
                f"Save it as {' or '.join(sorted(allowed))}; a result becomes final when a person signs it.",
            )

    def _insert(
        self,
        record: ResultRecord,
        row: records.Row,
        pictures: tuple[records.Row, ...],
        event: audit.Event,
        reason: str,
    ) -> None:
        connection = self._connection()
        moment = clock.read()
        records.insert(connection, row, pictures, record.pictures)
        connection.execute(
            "INSERT INTO outbox (id, version, queued) VALUES (?, ?, ?)", (record.id, record.version, moment.wall)
        )
        audit.append(
            connection,
            row,
            pictures,
            event=event,
            operator=record.operator,
            reason=reason,
            recorded=moment,
        )

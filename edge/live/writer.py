"""Writes the journal in a thread of its own: the loop hands a field over and goes on."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge.core.errors import StoreError
from edge.store.journal import JournalEvent, JournalField, JournalPhase, SessionJournal

CAPACITY: Final = 8
"""Fields that may wait for the disk. Beyond that frames are dropped, and counted, rather than kept in memory."""

RETRY_SECONDS: Final = 5.0
"""After how long a write that failed is tried again by itself."""

_ROW_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Row:
    """What the session's own row shall say."""

    phase: JournalPhase
    running_seconds: float
    tallies: Mapping[str, Any]
    throttle_bits: int | None = None


class JournalWriter:
    """The journal of one session, from `start` to `stop`. `on_saved` hears of fields once the disk has them.

    When a write fails, `on_trouble` hears of it and everything is kept; it is tried again after `RETRY_SECONDS`, or at
    once after `retry`. `on_trouble(None)` says that it went well again.
    """

    def __init__(
        self,
        path: Path,
        session: str,
        *,
        on_saved: Callable[[Sequence[JournalField]], None],
        on_trouble: Callable[[StoreError | None], None],
        open_journal: Callable[[Path], SessionJournal] = SessionJournal,
    ) -> None:
        self._path, self._session = path, session
        self._on_saved, self._on_trouble = on_saved, on_trouble
        self._open_journal = open_journal
        self._changed = threading.Condition()
        self._fields: list[JournalField] = []
        self._events: list[JournalEvent] = []
        self._row: Row | None = None
        self._urgent = False
        self._busy = False
        self._stopping = False
        self._retry = threading.Event()
        self._journal: SessionJournal | None = None
        self._thread = threading.Thread(target=self._run, name="leuko-journal", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def room(self) -> bool:
        """Whether one more field may be handed over."""
        with self._changed:
            return len(self._fields) < CAPACITY

    def put(self, field: JournalField) -> None:
        """Hand a field over; returns at once. Ask for `room` before."""
        with self._changed:
            self._fields.append(field)
            self._changed.notify_all()

    def tell(self, event: JournalEvent) -> None:
        """Hand an event over; returns at once."""
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()

    def update(self, row: Row, *, urgent: bool = False) -> None:
        """Say what the session's row shall say; it is written with the next field, or within some seconds."""
        with self._changed:
            self._row = row
            self._urgent = self._urgent or urgent
            if urgent:
                self._changed.notify_all()

    def retry(self) -> None:
        """Try a failed write again now."""
        self._retry.set()

    def drained(self, seconds: float) -> bool:
        """Wait until the disk has everything; False when it has not in that time."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._fields or self._events or self._busy), seconds)

    def stop(self) -> None:
        """End the thread. What could not be written by then is lost; ask `drained` first."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._retry.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._work()
        finally:
            self._close()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._fields or self._events or self._urgent or self._stopping, _ROW_SECONDS
                )
                fields, events, row = tuple(self._fields), tuple(self._events), self._row
                if not (fields or events or row):
                    if self._stopping:
                        return
                    continue
                self._busy = True
                stopping = self._stopping
            error = self._write(fields, events, row)
            if error is None:
                self._on_trouble(None)
                if fields:
                    self._on_saved(fields)
            with self._changed:
                self._busy = False
                if error is None:
                    del self._fields[: len(fields)]
                    del self._events[: len(events)]
                    if self._row is row:
                        self._row, self._urgent = None, False
                self._changed.notify_all()
            if error is None:
                continue
            self._on_trouble(error)
            if stopping:
                return
            self._retry.wait(RETRY_SECONDS)
            self._retry.clear()

    def _write(
        self, fields: Sequence[JournalField], events: Sequence[JournalEvent], row: Row | None
    ) -> StoreError | None:
        try:
            if self._journal is None:
                self._journal = self._open_journal(self._path).__enter__()
            self._journal.write(
                self._session,
                fields,
                events,
                phase=row.phase if row else None,
                running_seconds=row.running_seconds if row else None,
                tallies=row.tallies if row else None,
                throttle_bits=row.throttle_bits if row else None,
            )
        except StoreError as error:
            # Opened anew for the next attempt: the file may have been moved, or its disk mounted again.
            self._close()
            return error
        return None

    def _close(self) -> None:
        journal, self._journal = self._journal, None
        if journal is not None:
            with contextlib.suppress(StoreError):
                journal.__exit__(None, None, None)

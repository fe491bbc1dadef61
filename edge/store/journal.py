"""The journal of live sessions: each field is on the disk before it is shown as saved.

It lies in the store of results, as tables of its own. A session that was cut off is read from here and goes on; a
finished one has become a result, and what it left here is removed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np

from edge.core.errors import StoreError
from edge.core.types import Box, CellCall, CellResult, ClockReading, FieldResult, Image, Quality
from edge.store.database import StoreFile, transaction, translated
from edge.store.records import canonical

JournalPhase = Literal["running", "paused", "finished", "aborted", "failed"]

_PREVIEW_QUALITY = 90
_NO_PICTURE = np.zeros((1, 1, 3), np.uint8)
_COLUMNS = (
    *("id", "sample", "operator", "camera", "target", "precision", "stack"),
    *("wall", "monotonic", "boot_id", "tier"),
    *("bundle", "bundle_sha256", "runtime", "calibration", "throttle_bits", "phase", "running_seconds", "tallies"),
)


@dataclass(frozen=True, slots=True)
class JournalSession:
    """A session as the journal has it. `tallies` are the counts of fields that leave no entry, by name."""

    id: str
    sample: str
    operator: str
    camera: str
    target: int
    precision: float | None
    stack: int
    started: ClockReading
    bundle: str
    bundle_sha256: str
    runtime: str
    calibration: str | None
    throttle_bits: int | None
    phase: JournalPhase
    running_seconds: float
    tallies: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class JournalField:
    """An accepted field with the cells that were counted in it. `taken` is when; `number` its place in the session."""

    number: int
    taken: ClockReading
    field: FieldResult


@dataclass(frozen=True, slots=True)
class JournalEvent:
    """Something that happened to a session: "started", "paused", "resumed", "camera-lost", "clock-jumped", ..."""

    event: str
    detail: str
    recorded: ClockReading


class SessionJournal(StoreFile):
    """The journal in the store at `path`, opened by a `with` block in the thread that uses it.

    Every method that writes returns only when the disk has it. All raise `StoreError` as `ResultStore` does.
    """

    def begin(self, session: JournalSession) -> None:
        """Enter a new session."""
        started = session.started
        row = (
            *(session.id, session.sample, session.operator, session.camera, session.target, session.precision),
            *(session.stack, started.wall, float(started.monotonic), started.boot_id, started.tier, session.bundle),
            *(session.bundle_sha256, session.runtime, session.calibration, session.throttle_bits, session.phase),
            *(float(session.running_seconds), canonical(dict(session.tallies))),
        )
        with translated(self._path), transaction(self._connection(), write=True):
            self._connection().execute(
                f"INSERT INTO live_sessions VALUES ({', '.join('?' * len(_COLUMNS))})",  # noqa: S608
                row,
            )

    def write(
        self,
        session: str,
        fields: Sequence[JournalField] = (),
        events: Sequence[JournalEvent] = (),
        *,
        phase: JournalPhase | None = None,
        running_seconds: float | None = None,
        tallies: Mapping[str, Any] | None = None,
        throttle_bits: int | None = None,
    ) -> None:
        """Add fields and events to a session and bring its row up to date, in one transaction.

        A field whose number is there already is left as it is, so that an attempt may be repeated.
        """
        encoded = [_encode(each) for each in fields]
        connection = self._connection()
        with translated(self._path), transaction(connection, write=True):
            for field_row, cell_rows in encoded:
                added = connection.execute(
                    "INSERT OR IGNORE INTO live_fields VALUES (?, ?, ?, ?)", (session, *field_row)
                )
                if added.rowcount:
                    connection.executemany(
                        "INSERT INTO live_cells VALUES (?, ?, ?, ?, ?, ?)", ((session, *row) for row in cell_rows)
                    )
            connection.executemany(
                """INSERT INTO live_events (session, event, detail, wall, monotonic, boot_id, tier)
                   VALUES (?, ?, ?, ?, ?, ?, ?)""",
                ((session, each.event, each.detail, *_moment(each.recorded)) for each in events),
            )
            connection.execute(
                """UPDATE live_sessions SET phase = COALESCE(?, phase), running_seconds = COALESCE(?, running_seconds),
                   tallies = COALESCE(?, tallies), throttle_bits = COALESCE(?, throttle_bits) WHERE id = ?""",
                (phase, running_seconds, None if tallies is None else canonical(dict(tallies)), throttle_bits, session),
            )

    def sessions(self) -> tuple[JournalSession, ...]:
        """All sessions, the latest first."""
        with translated(self._path):
            rows = self._connection().execute(
                f"SELECT {', '.join(_COLUMNS)} FROM live_sessions ORDER BY id DESC"  # noqa: S608 - our own columns
            )
            return tuple(_session(row) for row in rows)

    def session(self, identifier: str) -> JournalSession:
        """One session. Raises `StoreError` `no-session` when there is none of this id."""
        with translated(self._path):
            row = (
                self._connection()
                .execute(f"SELECT {', '.join(_COLUMNS)} FROM live_sessions WHERE id = ?", (identifier,))  # noqa: S608
                .fetchone()
            )
        if row is None:
            raise StoreError("no-session", f"There is no session {identifier}.", "See `leuko session list`.")
        return _session(row)

    def fields(self, session: str, previews: int | None = None) -> Iterator[JournalField]:
        """Read a session's fields in their order; of all but the first `previews` the preview is left out."""
        with translated(self._path):
            numbers = [
                int(row[0])
                for row in self._connection().execute(
                    "SELECT number FROM live_fields WHERE session = ? ORDER BY number", (session,)
                )
            ]
        for index, number in enumerate(numbers):
            yield self.field(session, number, preview=previews is None or index < previews)

    def field(self, session: str, number: int, *, preview: bool = True) -> JournalField:
        """Read one field."""
        connection = self._connection()
        with translated(self._path):
            row = connection.execute(
                f"SELECT entry, {'preview' if preview else 'NULL'} FROM live_fields WHERE session = ? AND number = ?",  # noqa: S608
                (session, number),
            ).fetchone()
            cells = connection.execute(
                "SELECT entry, crop, activation FROM live_cells WHERE session = ? AND number = ? ORDER BY position",
                (session, number),
            ).fetchall()
        if row is None:
            raise StoreError("no-field", f"Session {session} has no field {number}.", "See `leuko session list`.")
        return _decode(number, row, cells)

    def last_number(self, session: str) -> int | None:
        """Number of the last saved field."""
        with translated(self._path):
            row = self._connection().execute("SELECT MAX(number) FROM live_fields WHERE session = ?", (session,))
            found = row.fetchone()[0]
        return None if found is None else int(found)

    def events(self, session: str) -> tuple[JournalEvent, ...]:
        """What happened to a session, oldest first."""
        with translated(self._path):
            rows = self._connection().execute(
                """SELECT event, detail, wall, monotonic, boot_id, tier FROM live_events
                   WHERE session = ? ORDER BY sequence""",
                (session,),
            )
            return tuple(JournalEvent(row[0], row[1], ClockReading(*row[2:])) for row in rows)

    def drop_pictures(self, session: str) -> None:
        """Remove the pictures of a session whose result is saved, which has them; its counts stay to be looked up."""
        connection = self._connection()
        with translated(self._path), transaction(connection, write=True):
            connection.execute("UPDATE live_cells SET crop = x'', activation = NULL WHERE session = ?", (session,))
            connection.execute("UPDATE live_fields SET preview = NULL WHERE session = ?", (session,))


def _moment(moment: ClockReading) -> tuple[str, float, str, str]:
    return moment.wall, float(moment.monotonic), moment.boot_id, moment.tier


def _session(row: Sequence[Any]) -> JournalSession:
    values = dict(zip(_COLUMNS, row, strict=True))
    started = ClockReading(*(values.pop(name) for name in ("wall", "monotonic", "boot_id", "tier")))
    tallies = json.loads(values.pop("tallies"))
    return JournalSession(started=started, tallies=tallies, **values)


def _encode(entry: JournalField) -> tuple[tuple[object, ...], list[tuple[object, ...]]]:
    field = entry.field
    quality = {name: getattr(field.quality, name) for name in Quality.__dataclass_fields__}
    text = canonical(
        {
            "taken": list(_moment(entry.taken)),
            "source": field.source,
            "size": [field.width, field.height],
            "scale": field.preview_scale,
            "quality": {**quality, "reasons": list(field.quality.reasons)},
        }
    )
    preview = None if field.preview is None else _packed(".jpg", field.preview)
    cells: list[tuple[object, ...]] = []
    for position, cell in enumerate(field.cells):
        call = cell.call
        activation = None if call.activation is None else np.ascontiguousarray(call.activation, np.float32)
        described = {
            "box": [call.box.x, call.box.y, call.box.width, call.box.height],
            "label": call.label,
            "probabilities": list(call.probabilities),
            "abstained": call.abstained,
            "reason": call.reason,
            "activation": None if activation is None else list(activation.shape),
        }
        cells.append(
            (
                entry.number,
                position,
                canonical(described),
                _packed(".png", cell.crop),
                None if activation is None else activation.tobytes(),
            )
        )
    return (entry.number, text, preview), cells


def _decode(number: int, row: Sequence[Any], cells: Sequence[Sequence[Any]]) -> JournalField:
    entry = json.loads(row[0])
    measured = entry["quality"]
    background = measured["background"]
    quality = Quality(
        **{
            **measured,
            "reasons": tuple(measured["reasons"]),
            "background": None if background is None else tuple(background),
        }
    )
    found = []
    for text, crop, activation in cells:
        call = json.loads(text)
        shape = call.pop("activation")
        call["probabilities"] = tuple(call["probabilities"])
        call["box"] = Box(*call["box"])
        spoken = None if activation is None else np.frombuffer(activation, np.float32).reshape(shape)
        found.append(CellResult(CellCall(**call, activation=spoken), _unpacked(crop) if crop else _NO_PICTURE))
    field = FieldResult(
        source=entry["source"],
        width=entry["size"][0],
        height=entry["size"][1],
        quality=quality,
        cells=tuple(found),
        preview=None if row[1] is None else _unpacked(row[1]),
        preview_scale=entry["scale"],
    )
    return JournalField(number, ClockReading(*entry["taken"]), field)


def _packed(kind: str, image: Image) -> bytes:
    settings = [cv2.IMWRITE_JPEG_QUALITY, _PREVIEW_QUALITY] if kind == ".jpg" else [cv2.IMWRITE_PNG_COMPRESSION, 3]
    done, buffer = cv2.imencode(kind, image, settings)
    if not done:
        raise ValueError(f"OpenCV could not encode a picture of shape {image.shape}.")
    return buffer.tobytes()


def _unpacked(data: bytes) -> Image:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise StoreError("store-damaged", "A picture of a session cannot be read.", "Abort it and count anew.")
    return np.asarray(image, dtype=np.uint8)

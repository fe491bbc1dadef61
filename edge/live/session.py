"""The live session: the loop that takes, judges, places, counts and journals fields until it has counted enough."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Literal

from edge.calibration.commissioned import misfit
from edge.core.errors import LeukoError, StoreError
from edge.core.types import CellResult, ClockReading, FieldFailure, FieldResult, Frame
from edge.inference.classifier import Classifier
from edge.live import drawing, ending, guide
from edge.live.atlas import Atlas, signature_of
from edge.live.board import Board
from edge.live.capture import Capture, slowed
from edge.live.changes import Changes, require_same
from edge.live.clocks import ClockWatch
from edge.live.lock import SessionLock
from edge.live.order import SessionOrder
from edge.live.parts import SessionParts
from edge.live.state import Advice, LastField, LiveCell, LiveState, Trouble
from edge.live.stopping import enough
from edge.live.tally import Tally
from edge.live.writer import JournalWriter, Row
from edge.session import Pipeline, analyse_field
from edge.store.journal import JournalEvent, JournalField, JournalPhase, JournalSession, SessionJournal

_LOG = logging.getLogger(__name__)

_POLL_SECONDS: Final = 0.1
_SLOW_SECONDS: Final = 1.0


class LiveSession:
    """One session, new or `resumed`, in threads of its own. Implements `edge.live.control.SessionControl`.

    `identifier` is a UUIDv7 and becomes the id of the result.
    """

    def __init__(self, parts: SessionParts, order: SessionOrder, identifier: str, *, resumed: bool = False) -> None:
        self._parts = parts
        self._order = order
        self._id = identifier
        self._resumed = resumed
        self._board = Board(
            identifier, order, parts.now(), parts.commissioned.id if parts.commissioned is not None else None
        )
        self._going = threading.Event()
        self._going.set()
        self._ending: str | None = None
        self._done = threading.Event()
        self._storage: StoreError | None = None
        self._atlas = Atlas()
        self._tally = Tally(parts.ranges, parts.commissioned.reference if parts.commissioned else None)
        self._changes = Changes(parts.in_force)
        self._number = 0
        self._still = self._empty = 0
        self._focus: float | None = None
        self._best: float | None = None
        self._clock = ClockWatch()
        self._writer = JournalWriter(
            parts.database,
            identifier,
            on_saved=self._on_saved,
            on_trouble=self._on_trouble,
            open_journal=parts.open_journal,
        )
        self._capture = Capture(
            parts.open_camera,
            stack=order.stack,
            waits=parts.waits,
            on_dropped=lambda: self._board.dropped("busy"),
            on_lost=self._on_lost,
            on_back=self._on_back,
            reopening=parts.reopening,
        )
        self._thread = threading.Thread(target=self._run, name="leuko-session", daemon=True)

    def start(self) -> LiveSession:
        """Begin; returns at once."""
        self._thread.start()
        return self

    def state(self) -> LiveState:
        """Give the present state without waiting for anything."""
        return self._board.state

    def pause(self) -> None:
        """Take no more fields until `resume`."""
        self._going.clear()

    def resume(self) -> None:
        """Go on after `pause`; after a trouble with the disk, try again now."""
        self._going.set()
        self._writer.retry()

    def finish(self) -> None:
        """End now and save what was counted."""
        self._ending = self._ending or "finish"
        self._writer.retry()

    def abort(self) -> None:
        """End now without a result."""
        self._ending = "abort"
        self._writer.retry()

    def wait(self, seconds: float | None = None) -> LiveState:
        """Wait until the session has ended, or so long, and give its state."""
        self._done.wait(seconds)
        return self._board.state

    # The thread of the session.

    def _run(self) -> None:
        try:
            with SessionLock(self._parts.locks, self._id), self._parts.open_classifier() as classifier:
                self._begin(classifier)
                self._writer.start()
                self._tell("resumed" if self._resumed else "started", self._order.camera)
                try:
                    self._live(classifier)
                finally:
                    self._writer.stop()
        except LeukoError as error:
            self._board.phase("failed", Trouble(error.code, error.message, error.cure))
        except Exception as error:  # noqa: BLE001 - a thread's error must reach the person at the microscope
            _LOG.exception("the session failed")
            self._board.phase(
                "failed",
                Trouble("session-failed", f"The session failed: {error!r}.", "Resume it: leuko session resume."),
            )
        finally:
            self._done.set()

    def _live(self, classifier: Classifier) -> None:
        self._capture.start()
        self._enter("running")
        try:
            self._loop(classifier)
        except LeukoError:
            self._row("failed")
            self._settle()
            raise
        finally:
            self._capture.stop()
        if self._ending == "abort":
            self._tell("aborted", "")
            self._row("aborted")
            self._settle()
            self._board.phase("aborted")
            return
        self._finish(classifier)

    def _begin(self, classifier: Classifier) -> None:
        """Enter the session in the journal, or take over what a cut-off one left there."""
        manifest = classifier.manifest
        self._board.bundle(classifier.origin)
        self._changes.begin(self._board.state.calibration)
        with self._parts.open_journal(self._parts.database) as journal:
            if not self._resumed:
                order = self._order
                state = self._board.state
                journal.begin(
                    JournalSession(
                        id=self._id,
                        sample=order.sample,
                        operator=order.operator,
                        camera=order.camera,
                        target=order.target,
                        precision=order.precision,
                        stack=order.stack,
                        started=state.started,
                        bundle=manifest.identity,
                        bundle_sha256=manifest.sha256,
                        runtime=str(classifier.runtime.info),
                        calibration=state.calibration,
                        throttle_bits=None,
                        phase="running",
                        running_seconds=0.0,
                        tallies={},
                    )
                )
                return
            session = journal.session(self._id)
            require_same(session, manifest, self._board.state.calibration)
            self._take_over(journal, session)

    def _take_over(self, journal: SessionJournal, session: JournalSession) -> None:
        fields = cells = 0
        for entry in journal.fields(self._id):
            field = entry.field
            seen, size = signature_of(field), (field.width, field.height)
            boxes = [cell.call.box for cell in field.cells]
            self._atlas.enter(seen, size, self._atlas.look(seen, size, boxes).place, boxes)
            self._tally.add(field.quality, [cell.call for cell in field.cells])
            self._best = max(self._best or 0.0, field.quality.focus or 0.0) or None
            fields, cells, self._number = fields + 1, cells + len(field.cells), entry.number + 1
        self._board.restore(session.tallies, fields, cells, session.running_seconds)
        self._board.count(self._tally)

    def _loop(self, classifier: Classifier) -> None:
        pipeline = Pipeline(classifier)
        if self._parts.commissioned is not None:
            pipeline = replace(pipeline, surface=self._parts.commissioned.surface)
        while self._ending is None and not enough(self._tally.differential, self._order.target, self._order.precision):
            self._heed()
            if self._board.state.phase == "paused":
                time.sleep(_POLL_SECONDS)
                continue
            frame = self._capture.take(_POLL_SECONDS)
            if frame == "end":
                break
            if frame is None:
                continue
            self._watch_clock()
            if isinstance(frame, Frame) and self._parts.commissioned is not None:
                frame = misfit(frame, self._parts.commissioned) or frame
            if isinstance(frame, FieldFailure):
                self._board.unreadable()
                self._tell(frame.code, f"{frame.source}: {frame.message}")
            elif not self._writer.room():
                self._wait_for_disk()
            if isinstance(frame, Frame):
                self._field(frame, replace(pipeline, reference=self._tally.reference))
            self._number += 1
            self._row("running")

    def _wait_for_disk(self) -> None:
        """A camera that waits loses nothing by waiting for the disk; for any other the frame is old by then."""
        while self._parts.waits and not self._writer.room() and self._ending is None and self._storage is None:
            time.sleep(0.005)

    def _field(self, frame: Frame, pipeline: Pipeline) -> None:
        if not self._writer.room():
            self._board.dropped("storage")
            self._board.stand("storage-slow", Advice("storage-slow", "The disk is slower than the camera."))
            return
        self._board.stand("storage-slow", None)
        field = analyse_field(frame, pipeline)
        seen = signature_of(field)
        boxes = [cell.call.box for cell in field.cells]
        repeated: tuple[bool, ...] = (False,) * len(boxes)
        if field.quality.accepted:
            placed = self._atlas.look(seen, (field.width, field.height), boxes)
            repeated = placed.repeated
            new = tuple(cell for cell, again in zip(field.cells, repeated, strict=True) if not again)
            self._still = self._still + 1 if placed.still else 0
            self._empty = 0 if new else self._empty + 1
            self._board.accepted(len(boxes) - len(new), len(new))
            if new or not placed.still:
                self._atlas.enter(seen, (field.width, field.height), placed.place, [cell.call.box for cell in new])
            if new:
                self._count(frame, field, new)
        else:
            self._board.refused(field.quality.reasons)
        self._show(frame, field, repeated)

    def _count(self, frame: Frame, field: FieldResult, new: tuple[CellResult, ...]) -> None:
        self._writer.put(JournalField(self._number, frame.taken, replace(field, cells=new)))
        self._tally.add(field.quality, [cell.call for cell in new])
        self._best = max(self._best or 0.0, field.quality.focus or 0.0) or None

    def _show(self, frame: Frame, field: FieldResult, repeated: tuple[bool, ...]) -> None:
        cells = tuple(
            LiveCell(cell.call.box, cell.call.label, max(cell.call.probabilities), cell.call.abstained, again)
            for cell, again in zip(field.cells, repeated, strict=True)
        )
        hints = guide.guide(field.quality, self._tally.reference, self._focus, self._best)
        self._focus = field.quality.focus
        quality = field.quality
        jpeg = drawing.drawn(field.preview, field.preview_scale, cells) if field.preview is not None else b""
        last = LastField(
            *(self._number, frame.source, field.width, field.height),
            *(quality.accepted, quality.reasons, cells, jpeg),
        )
        self._board.show(last, self._tally, hints, guide.advice(quality, hints, self._still, self._empty))

    # What happens around the fields.

    def _heed(self) -> None:
        """Follow what a person, the disk and the sensors ask for."""
        signal = self._parts.health()
        if signal.action == "run":
            self._board.stand("too-hot", None)
            self._board.stand("slowed-down", None)
        elif signal.action == "slow":
            self._board.stand("too-hot", None)
            self._board.stand("slowed-down", Advice("slowed-down", f"Slowed down: {signal.reason}."))
        else:
            self._board.stand("too-hot", Advice("too-hot", f"Stopped before harm: {signal.reason}.", severe=True))
        if self._storage is not None:
            self._enter("paused", Trouble(self._storage.code, self._storage.message, self._storage.cure))
        elif signal.action == "stop":
            self._enter(
                "paused", Trouble("too-hot", f"{signal.reason}.", "Let the device cool down; the session goes on then.")
            )
        elif not self._going.is_set():
            self._enter("paused")
        else:
            self._enter("running")
            if signal.action == "slow":
                slowed(_SLOW_SECONDS, lambda: self._ending is not None)

    def _enter(self, phase: Literal["running", "paused"], trouble: Trouble | None = None) -> None:
        state = self._board.state
        if state.phase == phase and state.trouble == trouble:
            return
        if state.phase != "starting":
            self._tell(phase, trouble.code if trouble else "")
        if state.phase == "paused" and phase == "running":
            self._watch_changes()
        self._board.phase(phase, trouble)
        self._capture.rest(phase == "paused")
        self._row(phase, urgent=True)

    def _watch_clock(self) -> None:
        """Notice a wall clock that was set: nothing here rests on it, but a reader of the result should know."""
        moment = self._parts.now()
        if (jump := self._clock.jump(moment)) is not None:
            self._tell("clock-jumped", f"{jump:+.1f} s", moment)
            self._board.stand(
                "clock-jumped", Advice("clock-jumped", f"The clock was set by {jump:+.0f} s during this session.")
            )

    def _watch_changes(self) -> None:
        """Notice a bundle or a calibration that was replaced meanwhile: the session keeps those it began with."""
        for code, message in self._changes.news():
            self._tell(code, message)
            self._board.stand(code, Advice(code, message, severe=True))

    def _tell(self, event: str, detail: str, moment: ClockReading | None = None) -> None:
        self._writer.tell(JournalEvent(event, detail, moment or self._parts.now()))

    def _row(self, phase: JournalPhase, *, urgent: bool = False) -> None:
        tallies, seconds = self._board.tallies()
        self._writer.update(Row(phase, seconds, tallies, self._parts.health().throttle_bits), urgent=urgent)

    def _settle(self) -> None:
        """Wait until the disk has everything, for as long as it takes unless the session is aborted."""
        while not self._writer.drained(_POLL_SECONDS):
            trouble = self._storage
            if trouble is not None:
                if self._ending == "abort":
                    return
                self._board.phase("paused", Trouble(trouble.code, trouble.message, trouble.cure))

    def _finish(self, classifier: Classifier) -> None:
        self._watch_changes()
        self._tell("finished", f"{self._tally.differential.counted} cells")
        self._row("running", urgent=True)
        self._settle()
        record = None
        while record is None:
            try:
                with self._parts.open_journal(self._parts.database) as journal:
                    session = journal.session(self._id)
                    reference = self._parts.commissioned.reference if self._parts.commissioned else None
                    found = ending.analysis(journal, session, classifier, self._parts.ranges, reference)
                    record = self._parts.save(found, session, ending.described(session, journal))
                    journal.write(self._id, phase="finished")
                    journal.drop_pictures(self._id)
            except StoreError as error:
                if self._ending == "abort":
                    self._board.phase("aborted", Trouble(error.code, error.message, error.cure))
                    return
                self._board.phase("paused", Trouble(error.code, error.message, error.cure))
                slowed(5.0, lambda: self._ending == "abort")
        self._board.result(record.id)
        self._board.phase("finished")

    # Called from the other threads.

    def _on_saved(self, fields: Sequence[JournalField]) -> None:
        self._board.saved(len(fields), sum(len(each.field.cells) for each in fields))

    def _on_trouble(self, error: StoreError | None) -> None:
        if error is None and self._storage is None:
            return
        self._storage = error
        told = None if error is None else Advice("storage-full", f"{error.message} {error.cure}", severe=True)
        self._board.stand("storage-full", told)

    def _on_lost(self, error: LeukoError) -> None:
        self._tell("camera-lost", error.message)
        self._board.stand(
            "camera-lost", Advice("camera-lost", f"{error.message} It is opened again by itself.", severe=True)
        )

    def _on_back(self) -> None:
        self._board.stand("camera-lost", None)

"""A live session with everything that can go wrong: disk full, clock set, camera lost, too hot, loop too slow."""

# ruff: noqa: F811 - fixtures are imported
from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from live_sessions import FIELDS, LIMIT, Fields, begin, classifier, events, frames, settings, until  # noqa: F401 - fixtures

from devices.cameras.simulated import SimulatedCamera
from edge import app, config
from edge.cli import session_view
from edge.core import clock
from edge.core.errors import CameraLostError, StoreError, UsageError
from edge.core.types import ClockReading, FieldFailure, Frame
from edge.inference.classifier import Classifier
from edge.live.health import HealthWatch
from edge.live.order import SessionOrder
from edge.live.parts import HealthSignal
from edge.live.session import LiveSession
from edge.store.journal import SessionJournal
from edge.web.live_desk import state_document


def test_a_session_counts_saves_and_shows_the_same_numbers(
    begin: Callable[..., LiveSession], settings: config.Config
) -> None:
    state = begin().wait(LIMIT)
    assert (state.phase, state.trouble) == ("finished", None)
    assert state.fields.seen == FIELDS == state.fields.accepted + state.fields.refused
    assert state.fields.saved == state.fields.accepted - state.fields.unchanged
    assert state.cells.repeated > 0
    assert state.cells.saved == state.cells.counted + state.cells.other > 5
    assert state.last is not None and state.last.jpeg[:2] == b"\xff\xd8"
    assert state.guide.focus is not None and state.guide.exposure == "good"
    with app.open_store(settings, read_only=True) as store:
        record = store.get(state.session)
        assert store.verify_audit().problems == ()
    assert record is not None
    assert (record.sample, record.operator, record.status) == ("S-1", "M. Curie", "preliminary")
    counts = record.document["differential"]
    assert {label: share["count"] for label, share in counts["classes"].items()} == dict(state.cells.classes)
    assert counts["other"] == state.cells.other
    assert "simulated" in counts["flags"]
    assert record.document["session"]["repeated_cells"] == state.cells.repeated
    assert len([each for each in record.pictures if each.kind == "cell"]) == state.cells.saved
    again = app.session_state(state.session, settings)
    assert (again.phase, again.result, again.cells, again.fields) == (
        "finished",
        state.session,
        state.cells,
        state.fields,
    )
    with pytest.raises(UsageError, match="finished"):
        app.resume_session(state.session, settings)


def test_a_session_with_an_unsigned_bundle_says_so(
    begin: Callable[..., LiveSession], classifier: Classifier, settings: config.Config
) -> None:
    unsigned = Classifier(classifier.manifest, classifier.runtime, origin="unsigned")
    session = begin(open_classifier=lambda: contextlib.nullcontext(unsigned))
    counting = until(session, lambda state: state.fields.saved > 0)
    # While it counts, not only at its end: in the page, in the terminal, and to another process.
    assert "unsigned-bundle" in state_document(counting)["flags"]
    assert "unsigned bundle" in session_view.line(counting) and "unsigned bundle" in session_view.text(counting)
    state = session.wait(LIMIT)
    assert "unsigned-bundle" in session_view.document(app.session_state(state.session, settings))["flags"]
    with app.open_store(settings, read_only=True) as store:
        record = store.get(state.session)
    assert record is not None and record.document["bundle_origin"] == "unsigned"
    assert "unsigned-bundle" in record.document["differential"]["flags"]


def test_a_session_with_a_trusted_bundle_has_no_such_flag(begin: Callable[..., LiveSession]) -> None:
    state = begin().wait(LIMIT)
    assert "unsigned-bundle" not in state.differential.flags
    assert "unsigned" not in session_view.line(state) + session_view.text(state)


def test_pause_resume_finish_and_abort(
    begin: Callable[..., LiveSession], frames: list[Frame], settings: config.Config
) -> None:
    gate = threading.Event()

    def script(_: int) -> Iterator[Frame]:
        yield from frames[:2]
        gate.wait(LIMIT)
        yield from frames[2:]
        while True:
            yield frames[-1]

    session = begin(Fields(script))
    until(session, lambda state: state.fields.seen == 2)
    session.pause()
    until(session, lambda state: state.phase == "paused")
    gate.set()
    time.sleep(0.3)
    assert session.state().fields.seen == 2
    session.resume()
    # The last field comes again and again: its cells are known, nothing more is counted or written.
    still = until(session, lambda state: state.fields.unchanged >= 3)
    assert [each.code for each in still.advice if each.code == "move-on"] == ["move-on"]
    session.finish()
    assert session.wait(LIMIT).phase == "finished"
    assert events(settings, session.state().session)[-1] == "finished"

    aborted = begin()
    until(aborted, lambda state: state.fields.seen >= 1)
    aborted.abort()
    state = aborted.wait(LIMIT)
    assert (state.phase, state.result) == ("aborted", None)
    with app.open_store(settings, read_only=True) as store:
        assert store.get(state.session) is None


def test_a_full_disk_pauses_the_session_and_loses_nothing(begin: Callable[..., LiveSession]) -> None:
    full = threading.Event()

    class Journal(SessionJournal):
        def write(self, *words: Any, **more: Any) -> None:
            if full.is_set():
                raise StoreError("disk-full", "No space to write the journal.", "Free space on that disk.")
            super().write(*words, **more)

    def script(_: int) -> Iterator[Frame]:
        yield from frames_[:2]
        full.set()
        yield from frames_[2:]

    with SimulatedCamera(21, fields=4, cells_per_field=12, width=480, height=300, micrometres_per_pixel=0.4) as camera:
        frames_ = [frame for frame in camera.frames() if isinstance(frame, Frame)]
    session = begin(Fields(script), open_journal=Journal)
    state = until(session, lambda state: state.phase == "paused")
    assert state.trouble is not None and state.trouble.code == "disk-full" and state.trouble.cure
    assert any(each.code == "storage-full" and each.severe for each in state.advice)
    saved = state.fields.saved
    assert saved < 4
    full.clear()
    session.resume()
    state = session.wait(LIMIT)
    assert (state.phase, state.trouble) == ("finished", None)
    assert state.fields.saved == state.fields.accepted - state.fields.unchanged >= saved
    assert state.cells.saved == state.cells.counted + state.cells.other


@pytest.mark.parametrize("hours", [-30, 30])
def test_a_clock_that_is_set_during_a_session_is_noticed_and_changes_no_number(
    begin: Callable[..., LiveSession], settings: config.Config, hours: int
) -> None:
    readings = 0

    def now() -> ClockReading:
        nonlocal readings
        readings += 1
        moment = clock.read()
        if readings <= 4:
            return moment
        wall = datetime.fromisoformat(moment.wall) + timedelta(hours=hours)
        return dataclasses.replace(moment, wall=wall.isoformat(timespec="milliseconds"))

    straight = begin().wait(LIMIT)
    state = begin(now=now).wait(LIMIT)
    assert state.phase == "finished"
    assert state.cells == straight.cells
    assert 0 < state.running_seconds < LIMIT
    assert [each.code for each in state.advice if each.code == "clock-jumped"] == ["clock-jumped"]
    assert events(settings, state.session).count("clock-jumped") == 1


def test_a_camera_that_is_lost_is_opened_again_and_no_cell_counted_twice(
    begin: Callable[..., LiveSession], frames: list[Frame], settings: config.Config
) -> None:
    def script(opening: int) -> Iterator[Frame]:
        if opening == 3:
            yield from frames
            return
        yield from frames[:3]
        raise CameraLostError("camera-vanished", "The camera vanished.", "Check its cable.")

    straight = begin().wait(LIMIT)
    camera = Fields(script)
    state = begin(camera).wait(LIMIT)
    assert (state.phase, camera.openings) == ("finished", 3)
    assert state.cells.classes == straight.cells.classes
    assert events(settings, state.session).count("camera-lost") == 2
    assert "camera-lost" not in {each.code for each in state.advice}


def test_a_camera_that_cannot_be_opened_at_all_fails_the_session_with_its_cure(
    begin: Callable[..., LiveSession],
) -> None:
    def script(_: int) -> Iterator[Frame]:
        raise CameraLostError("camera-missing", "There is no camera.", "Plug it in.")
        yield

    state = begin(Fields(script)).wait(LIMIT)
    assert state.phase == "failed"
    assert state.trouble is not None
    assert (state.trouble.code, state.trouble.cure) == ("camera-missing", "Plug it in.")


def test_heat_slows_and_stops_the_session_until_the_device_has_cooled(begin: Callable[..., LiveSession]) -> None:
    signal = [HealthSignal("stop", "the processor has 90 °C", 0b1000)]
    session = begin(health=lambda: signal[0])
    state = until(session, lambda state: state.phase == "paused")
    assert state.trouble is not None and state.trouble.code == "too-hot"
    assert state.fields.seen == 0
    signal[0] = HealthSignal("slow", "the processor has 80 °C", 0b1000)
    state = until(session, lambda state: state.fields.seen >= 1)
    assert "slowed-down" in {each.code for each in state.advice}
    signal[0] = HealthSignal("run", "", 0b1000)
    assert session.wait(LIMIT).phase == "finished"


def test_the_sensors_are_asked_while_somebody_wants_to_know_and_what_was_wrong_once_stays() -> None:
    answers = iter([HealthSignal("slow", "warm", 0b0100), HealthSignal("run", "", 0b0001)])
    asked = 0

    def ask() -> HealthSignal:
        nonlocal asked
        asked += 1
        return next(answers, HealthSignal("run", "", 0))

    watch = HealthWatch(ask, seconds=0.001, idle_seconds=0.05)
    end = time.monotonic() + LIMIT
    while asked < 4 and time.monotonic() < end:
        watch.signal()
        time.sleep(0.002)
    assert watch.signal() == HealthSignal("run", "", 0b0101)
    time.sleep(0.5)
    before = asked
    time.sleep(0.1)
    assert asked == before
    watch.signal()
    while asked == before and time.monotonic() < end:
        time.sleep(0.002)
    assert asked > before


def test_frames_that_the_loop_has_no_time_for_are_dropped_and_counted(
    begin: Callable[..., LiveSession], frames: list[Frame]
) -> None:
    def script(_: int) -> Iterator[Frame]:
        for number in range(60):
            time.sleep(0.002)
            yield frames[number % len(frames)]

    state = begin(Fields(script), waits=False).wait(LIMIT)
    assert state.phase == "finished"
    assert state.fields.dropped > 0
    assert state.fields.seen == 60
    assert state.fields.drops == {"busy": state.fields.dropped}


def test_a_damaged_frame_is_counted_and_named(
    begin: Callable[..., LiveSession], frames: list[Frame], settings: config.Config
) -> None:
    damaged = FieldFailure("frame 1", "damaged-frame", "It arrived damaged.")
    state = begin(Fields(lambda _: iter([frames[0], damaged, frames[1]]))).wait(LIMIT)
    assert (state.phase, state.fields.unreadable, state.fields.seen) == ("finished", 1, 3)
    assert "damaged-frame" in events(settings, state.session)


@pytest.mark.parametrize("wrong", [{"target": 150}, {"precision": 0.1}, {"sample": " "}, {"camera": ""}, {"stack": 0}])
def test_an_order_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as refused:
        SessionOrder(**{"sample": "S", "camera": "simulated:", **wrong})
    assert refused.value.cure

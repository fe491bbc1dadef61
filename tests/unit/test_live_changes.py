"""What is replaced while a session runs, rests or is cut off: flagged or refused, and never mixed into one count."""

# ruff: noqa: F811 - fixtures are imported
from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from live_sessions import FIELDS, LIMIT, Fields, begin, classifier, events, frames, settings, until  # noqa: F401 - fixtures

from edge import app, config, recording
from edge.calibration.commissioned import Commissioned
from edge.calibration.records import CalibrationFolder
from edge.core.types import Frame
from edge.inference.classifier import Classifier
from edge.live import wiring
from edge.live.parts import InForce
from edge.live.session import LiveSession


def test_what_was_replaced_between_pause_and_resume_is_flagged_and_not_mixed(
    begin: Callable[..., LiveSession], frames: list[Frame], settings: config.Config
) -> None:
    gate = threading.Event()

    def script(_: int) -> Iterator[Frame]:
        yield from frames[:3]
        gate.wait(LIMIT)
        yield from frames[3:]

    session = begin(Fields(script), in_force=lambda: wiring.in_force("simulated:seed=21", settings))
    until(session, lambda state: state.fields.seen == 3)
    session.pause()
    until(session, lambda state: state.phase == "paused")
    # Somebody calibrates the microscope meanwhile, from another terminal.
    made = CalibrationFolder(settings.data_path / "calibration").add("focus", "simulated", "me", 8, focus=1e9)
    session.resume()
    warned = until(session, lambda state: state.phase == "running")
    assert [each.severe for each in warned.advice if each.code == "calibration-changed"] == [True]
    gate.set()
    state = session.wait(LIMIT)
    assert (state.phase, state.fields.refused) == ("finished", 0)
    assert events(settings, state.session).count("calibration-changed") == 1
    with app.open_store(settings, read_only=True) as store:
        record = store.get(state.session)
    assert record is not None
    # With the new record's focus every field would have been refused as blurred: none was held against it.
    assert record.calibration is None and made.id not in str(record.document)
    assert "calibration-changed" in record.document["differential"]["flags"]
    assert "Calibrated during the session" in recording.render_report(record, settings)


def test_a_model_that_was_replaced_during_a_session_is_flagged(
    begin: Callable[..., LiveSession], classifier: Classifier, settings: config.Config
) -> None:
    installed = iter([classifier.manifest.sha256])
    state = begin(in_force=lambda: InForce(next(installed, "0" * 64), None)).wait(LIMIT)
    assert state.phase == "finished"
    with app.open_store(settings, read_only=True) as store:
        record = store.get(state.session)
    assert record is not None and record.bundle_sha256 == classifier.manifest.sha256
    assert "bundle-changed" in record.document["differential"]["flags"]
    assert "calibration-changed" not in record.document["differential"]["flags"]
    assert "Model replaced during the session" in recording.render_report(record, settings)


@pytest.mark.parametrize("changed", ["bundle", "calibration"])
def test_a_cut_off_session_does_not_go_on_with_another_model_or_calibration(
    begin: Callable[..., LiveSession], classifier: Classifier, settings: config.Config, changed: str
) -> None:
    session = begin(target=400)
    until(session, lambda state: state.fields.saved >= 1)
    session.abort()
    before = session.wait(LIMIT)
    other: dict[str, Any] = {}
    if changed == "bundle":
        manifest = msgspec.structs.replace(classifier.manifest, version="99.0.0")
        assert manifest.sha256 != classifier.manifest.sha256
        other["open_classifier"] = lambda: contextlib.nullcontext(
            Classifier(manifest, classifier.runtime, 8, "shipped")
        )
    else:
        CalibrationFolder(settings.data_path / "calibration").add("focus", "simulated", "me", 8, focus=1.0)
    refused = begin(identifier=before.session, **other).wait(LIMIT)
    assert refused.phase == "failed" and refused.trouble is not None
    assert refused.trouble.code == f"{changed}-changed" and refused.trouble.cure
    # Nothing was added to what the journal has.
    assert app.session_state(before.session, settings).cells.saved == before.cells.saved


def test_a_field_of_another_shape_than_the_commissioned_one_is_named(
    begin: Callable[..., LiveSession], frames: list[Frame], settings: config.Config
) -> None:
    surface = np.full((40, 40, 3), 220, np.float32)
    state = begin(commissioned=Commissioned("record", surface, None)).wait(LIMIT)
    assert (state.fields.unreadable, state.fields.accepted) == (FIELDS, 0)
    assert "calibration-shape" in events(settings, state.session)

"""What tests of live sessions share: a camera over fields drawn before, and a session that is quick to begin."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from devices.cameras.simulated import SimulatedCamera
from edge import app, config
from edge.core.identifiers import uuid7
from edge.core.types import FieldFailure, Frame
from edge.inference.classifier import Classifier
from edge.live import wiring
from edge.live.order import SessionOrder
from edge.live.parts import HealthSignal, SessionParts
from edge.live.session import LiveSession
from edge.live.state import LiveState
from edge.store.journal import SessionJournal

FIELDS = 6
LIMIT = 120.0


class Fields:
    """A camera over fields drawn before. `script` is called with the opening's number and yields its frames."""

    def __init__(self, script: Callable[[int], Iterator[Frame | FieldFailure]]) -> None:
        self.openings = 0
        self._script = script

    def __call__(self) -> Fields:
        return self

    def __enter__(self) -> Fields:
        self.openings += 1
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def frames(self) -> Iterator[Frame | FieldFailure]:
        return self._script(self.openings)


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    with SimulatedCamera(
        21, fields=FIELDS, cells_per_field=12, overlap=0.25, width=480, height=300, micrometres_per_pixel=0.4
    ) as camera:
        return [frame for frame in camera.frames() if isinstance(frame, Frame)]


@pytest.fixture(scope="module")
def classifier() -> Iterator[Classifier]:
    pytest.importorskip("ai_edge_litert")
    with app.open_classifier(config.load(environment={})) as opened:
        yield opened


@pytest.fixture
def settings(tmp_path: Path) -> config.Config:
    return msgspec.structs.replace(config.load(environment={}), data_folder=str(tmp_path), operator="M. Curie")


@pytest.fixture
def begin(settings: config.Config, classifier: Classifier, frames: list[Frame]) -> Callable[..., LiveSession]:
    def begin(camera: Fields | None = None, *, identifier: str = "", target: int = 100, **changes: Any) -> LiveSession:
        order = SessionOrder("S-1", "simulated:seed=21", settings.operator, target)
        parts: SessionParts = dataclasses.replace(
            wiring.parts(order.camera, settings),
            open_camera=camera or Fields(lambda _: iter(frames)),
            reopening=(0.01,),
            **{
                "health": HealthSignal,
                "open_classifier": lambda: contextlib.nullcontext(classifier),
                **changes,
            },
        )
        return LiveSession(parts, order, identifier or uuid7(), resumed=bool(identifier)).start()

    return begin


def until(session: LiveSession, reached: Callable[[LiveState], bool]) -> LiveState:
    end = time.monotonic() + LIMIT
    while not reached(state := session.state()):
        assert time.monotonic() < end, state
        time.sleep(0.005)
    return state


def events(settings: config.Config, session: str) -> list[str]:
    with SessionJournal(settings.database_path, read_only=True) as journal:
        return [each.event for each in journal.events(session)]

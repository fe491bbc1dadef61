"""What a live session is built from. `edge.app` fills it in; a test may fill in its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edge.calibration.commissioned import Commissioned
from edge.core import clock
from edge.core.protocols import CameraSource
from edge.core.types import Analysis, ClockReading, ResultRecord
from edge.inference.classifier import Classifier
from edge.store.journal import JournalSession, SessionJournal


@dataclass(frozen=True, slots=True)
class HealthSignal:
    """What the device's own sensors say before a field is taken, with the throttling word to stamp on the result."""

    action: Literal["run", "slow", "stop"] = "run"
    reason: str = ""
    throttle_bits: int | None = None


@dataclass(frozen=True, slots=True)
class InForce:
    """What a session begun now would count with: the bundle's manifest by SHA-256, the calibration record by id."""

    bundle_sha256: str
    calibration: str | None


@dataclass(frozen=True, slots=True)
class SessionParts:
    """The doors a session works through.

    `open_camera` and `open_classifier` give context managers; `save` makes the record of a finished session and saves
    it in one transaction, and may be repeated. `waits` says that the camera waits for whoever reads it. `health` is
    asked before each field and must not wait. `in_force` says what a session begun now would count with, None where
    that is not known. `reopening` are the pauses before a lost camera is opened again.
    """

    open_camera: Callable[[], CameraSource]
    open_classifier: Callable[[], AbstractContextManager[Classifier]]
    save: Callable[[Analysis, JournalSession, Mapping[str, object]], ResultRecord]
    database: Path
    locks: Path
    ranges: Mapping[str, tuple[float, float]]
    commissioned: Commissioned | None = None
    waits: bool = True
    health: Callable[[], HealthSignal] = HealthSignal
    in_force: Callable[[], InForce | None] = lambda: None
    now: Callable[[], ClockReading] = clock.read
    open_journal: Callable[[Path], SessionJournal] = field(default=SessionJournal)
    reopening: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0)

"""Puts a session together for `edge.app`: camera, bundle, store, calibration record and sensors of this device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge import app
from edge.bundle import manifest
from edge.calibration.commissioned import commissioned
from edge.calibration.records import CalibrationFolder, camera_of
from edge.config import Config
from edge.core import clock
from edge.core.device import throttle_union
from edge.core.errors import BundleError, NothingToDoError, StoreError, UsageError
from edge.core.protocols import CameraSource
from edge.core.types import Analysis, ResultRecord
from edge.live import stored
from edge.live.changes import CHANGES
from edge.live.health import HealthWatch
from edge.live.lock import is_running
from edge.live.order import SessionOrder
from edge.live.parts import HealthSignal, InForce, SessionParts
from edge.live.state import LiveState, Phase
from edge.store.journal import JournalEvent, JournalSession, SessionJournal

WAITING = frozenset({"simulated", "replay"})
"""Kinds of camera that wait for whoever reads them; any other delivers by its own clock."""


def parts(camera: str, config: Config) -> SessionParts:
    """The parts of a session with the camera "kind:settings". Raises UsageError for a kind that does not exist."""
    # Settings that cannot be are told at once; nothing is touched before the camera is entered.
    open_camera(camera, config)
    kind = camera.partition(":")[0]
    return SessionParts(
        open_camera=lambda: open_camera(camera, config),
        open_classifier=lambda: app.open_classifier(config),
        save=lambda analysis, session, described: _save(analysis, session, described, config),
        database=config.database_path,
        locks=config.data_path / "sessions",
        ranges=config.ranges.by_label(),
        commissioned=commissioned(camera, config),
        waits=kind in WAITING or Path(camera).exists(),
        health=HealthWatch(_sensors(config)).signal,
        in_force=lambda: in_force(camera, config),
    )


def in_force(camera: str, config: Config) -> InForce | None:
    """The bundle and the calibration record that a session begun now would use; None where they cannot be read."""
    try:
        bundle = manifest.load(app.bundle_folder(config)).sha256
        record = CalibrationFolder(config.data_path / "calibration").latest(camera_of(camera))
    except (BundleError, StoreError):
        return None
    return InForce(bundle, None if record is None else record.id)


def open_camera(camera: str, config: Config) -> CameraSource:
    """Make the camera "kind:settings", or that of the device's profile; hardware is touched when it is entered."""
    return app.camera(camera, config)


def resumable(identifier: str, config: Config) -> SessionOrder:
    """What a session that can go on was started with."""
    with SessionJournal(config.database_path) as journal:
        session = journal.session(identifier)
    if session.phase == "finished":
        raise UsageError(
            "session-finished",
            f"Session {identifier} is finished.",
            f"See its result: leuko report {session.sample}.",
        )
    if is_running(config.data_path / "sessions", identifier):
        raise UsageError(
            "session-running",
            f"Session {identifier} is running in another process.",
            "Steer it there, or end that process first.",
        )
    return stored.order_of(session)


def state(identifier: str, config: Config) -> LiveState:
    """The state of a session from its journal."""
    with SessionJournal(config.database_path, read_only=True) as journal:
        session = journal.session(identifier)
        record = commissioned(session.camera, config)
        reference = record.reference if record is not None and record.id == session.calibration else None
        locks = config.data_path / "sessions"
        return stored.state_of(journal, identifier, locks, config.ranges.by_label(), reference)


def abort(identifier: str, config: Config) -> None:
    """Mark a session that no process works on as aborted."""
    resumable(identifier, config)
    with SessionJournal(config.database_path) as journal:
        journal.write(identifier, events=[JournalEvent("aborted", "", clock.read())], phase="aborted")


def sessions(config: Config) -> list[tuple[JournalSession, Phase]]:
    """All sessions with where each stands, the latest first; none where nothing was ever saved."""
    if not config.database_path.exists():
        return []
    with SessionJournal(config.database_path) as journal:
        return [(each, stored.phase_of(each, config.data_path / "sessions")) for each in journal.sessions()]


def _sensors(config: Config) -> Callable[[], HealthSignal]:
    guard = app.thermal_guard(config)

    def ask() -> HealthSignal:
        found = guard.advice()
        return HealthSignal(found.action, found.reason, guard.reading.throttle_bits)

    return ask


def _save(analysis: Analysis, session: JournalSession, described: Mapping[str, Any], config: Config) -> ResultRecord:
    """Make the record of a session and save it. An attempt that was cut off after it had saved finds its record."""
    with app.open_store(config) as store:
        found = store.get(session.id)
        if found is not None:
            return found
        made = app.to_record(analysis, config)
        record = replace(
            made,
            id=session.id,
            operator=session.operator,
            created=session.started,
            calibration=session.calibration,
            throttle_bits=throttle_union(session.throttle_bits, made.throttle_bits),
            document=_marked(made.document, session, described) | {"session": described},
        )
        if not record.document["fields"]:
            raise NothingToDoError(
                "nothing-counted",
                "Not one cell was counted; there is no result to save.",
                "Resume the session where the cells are, or abort it.",
            )
        store.save(record)
    return record


def _marked(document: Mapping[str, Any], session: JournalSession, described: Mapping[str, Any]) -> dict[str, Any]:
    """Flag what a reader must know wherever the flags are shown.

    A drawn slide's result must never pass for a patient's; and a session whose bundle or calibration was replaced
    while it ran was counted with the former one to its end.
    """
    flags = ["simulated"] if session.camera.partition(":")[0] == "simulated" else []
    told = {each["event"] for each in described["events"]}
    flags += [flag for flag in CHANGES if flag in told]
    counts = dict(document["differential"])
    return {**document, "differential": {**counts, "flags": [*counts["flags"], *flags]}}

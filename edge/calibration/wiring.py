"""Puts a calibration together for the command line: camera, folder of records, store of results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edge import app, config
from edge.calibration import commission
from edge.calibration import drift as drifting
from edge.calibration.commission import Made
from edge.calibration.drift import Judged
from edge.calibration.records import Calibration, CalibrationFolder, camera_of
from edge.config import Config
from edge.core.types import FieldFailure, Frame
from edge.live.wiring import open_camera


def folder_of(settings: Config) -> CalibrationFolder:
    """The records of this device."""
    return CalibrationFolder(settings.data_path / "calibration")


@contextmanager
def _frames(camera: str, settings: Config) -> Iterator[Iterator[Frame | FieldFailure]]:
    with open_camera(camera, settings) as opened:
        yield opened.frames()


def light(camera: str, fields: int, *, surface: bool) -> Made:
    """Make a record of the light from blank fields."""
    settings = config.load()
    with _frames(camera, settings) as frames:
        return commission.light(
            frames, fields, folder_of(settings), camera_of(camera), settings.operator, surface=surface
        )


def focus(camera: str, fields: int) -> Made:
    """Make a record of the best focus."""
    settings = config.load()
    with _frames(camera, settings) as frames:
        return commission.focus(frames, fields, folder_of(settings), camera_of(camera), settings.operator)


def scale(camera: str, fields: int, division: float | None) -> Made:
    """Make a record of the scale."""
    settings = config.load()
    with _frames(camera, settings) as frames:
        return commission.scale(
            frames, fields, folder_of(settings), camera_of(camera), settings.operator, division=division
        )


def records(camera: str = "") -> tuple[Calibration, ...]:
    """The records of a camera, or all."""
    return folder_of(config.load()).all(camera_of(camera) if camera else None)


def drift(camera: str = "") -> tuple[Judged, ...]:
    """The newest result of each sample, of a camera or of all, against the record in force; oldest first."""
    settings = config.load()
    record = None
    if camera:
        record = folder_of(settings).latest(camera_of(camera))
    points = []
    with app.open_store(settings, read_only=True) as store:
        for found in sorted(filter(None, map(store.latest, store.samples())), key=lambda record: record.id):
            taken_by = (found.document.get("session") or {}).get("camera", "")
            if not camera or camera_of(taken_by) == camera_of(camera):
                points.append(drifting.point(found.id, found.created.wall, found.document))
    return drifting.judge(points, record)

"""What the commissioning record in force gives those who count: live sessions, and `leuko analyze`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edge.calibration.records import CalibrationFolder, camera_of
from edge.core.errors import UsageError
from edge.core.types import FieldFailure, FloatImage, Frame
from edge.imaging.quality import QualityReference

if TYPE_CHECKING:
    from edge.config import Config

_SAME_SHAPE: Final = 0.02
"""Relative difference of two ratios of width to height up to which a field has the shape of the record."""


@dataclass(frozen=True, slots=True)
class Commissioned:
    """What the calibration record in force gives a session: its id, the light's surface, the quality reference."""

    id: str
    surface: FloatImage | None
    reference: QualityReference | None


def commissioned(camera: str, config: Config) -> Commissioned | None:
    """What the calibration record in force for a camera gives; None before it was commissioned."""
    record = CalibrationFolder(config.data_path / "calibration").latest(camera_of(camera))
    if record is None:
        return None
    surface = None if record.surface is None else record.surface.array()
    return Commissioned(record.id, surface, record.reference())


def required(camera: str, config: Config) -> Commissioned:
    """As `commissioned`. Raises UsageError `no-calibration` where the camera has no record."""
    found = commissioned(camera, config)
    if found is None:
        known = sorted({record.camera for record in CalibrationFolder(config.data_path / "calibration").all()})
        raise UsageError(
            "no-calibration",
            f"There is no commissioning record of the camera {camera_of(camera)}.",
            f"Name one of {', '.join(known)}; or leave --camera out: the light is estimated from each field then."
            if known
            else "Make one: leuko calibrate flat-field --camera ...; or leave --camera out.",
        )
    return found


def fitting(frames: Iterable[Frame | FieldFailure], record: Commissioned) -> Iterator[Frame | FieldFailure]:
    """The frames; one that has not the shape of the field that was commissioned is a failure in its place.

    The light's surface is stretched over a field. Over a cropped or turned one it would lie wrongly.
    """
    for frame in frames:
        problem = None if isinstance(frame, FieldFailure) else misfit(frame, record)
        yield frame if problem is None else problem


def misfit(frame: Frame, record: Commissioned) -> FieldFailure | None:
    """Why the light's surface cannot lie over this frame; None where it can, or where the record has none."""
    if record.surface is None:
        return None
    (height, width), (rows, columns) = frame.image.shape[:2], record.surface.shape[:2]
    # A surface is a copy of few pixels: its own ratio is rounded by half of one.
    rounded = 0.5 / min(rows, columns)
    if abs(width * rows / (height * columns) - 1) <= _SAME_SHAPE + rounded:
        return None
    return FieldFailure(
        frame.source,
        "calibration-shape",
        f"It is {width}x{height}; the light was measured on a field of another shape, and would lie wrongly over it.",
    )

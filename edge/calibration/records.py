"""The commissioning records of a device: one file a version, never changed, the latest of a camera in force."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from edge.core import clock, durable, identifiers
from edge.core.errors import StoreError
from edge.core.types import FloatImage
from edge.imaging.quality import QualityReference

SCHEMA: Final = 1


class Surface(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The blank slide's colour over the field: `values` are B, G, R of each pixel row by row, 0-255."""

    width: int
    height: int
    values: list[float]

    def array(self) -> FloatImage:
        """As float32[height, width, 3]."""
        return np.asarray(self.values, np.float32).reshape(self.height, self.width, 3)


class Moment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a record was made, and what the clock was worth then."""

    wall: str
    monotonic: float
    boot_id: str
    tier: str


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is known of one camera on one microscope. A new version takes over from `parent` what it does not measure.

    `background` is the blank slide as (B, G, R), 0-255; `falloff` the light lost at the darkest place, 0-1; `gains`
    what B, G and R are multiplied with to make it neutral, green 1; `focus` the edge sharpness in best focus; `stain`
    the density of the nuclei then; `micrometres_per_pixel` the scale of the full-size picture.
    """

    schema: int
    id: str
    parent: str | None
    camera: str
    kind: str
    operator: str
    made: Moment
    fields: int
    surface: Surface | None = None
    background: tuple[float, float, float] | None = None
    exposure: float | None = None
    clipped_bright: float | None = None
    falloff: float | None = None
    gains: tuple[float, float, float] | None = None
    focus: float | None = None
    stain: float | None = None
    micrometres_per_pixel: float | None = None

    def reference(self) -> QualityReference | None:
        """What the quality gate holds each field against; None while nothing was measured that it could use."""
        known = (self.focus, self.exposure, self.falloff, self.background, self.stain)
        if all(value is None for value in known):
            return None
        return QualityReference(
            focus=self.focus,
            exposure=self.exposure,
            clipped_bright=self.clipped_bright,
            illumination_falloff=self.falloff,
            background=self.background,
            stain=self.stain,
        )


_FIRST: Final = {"uvc": "/dev/video0", "picamera2": "0", "gstreamer": ""}
"""Cameras that are hardware, and which one of the kind it is when none is named."""
_NAMING: Final = frozenset({"device", "number", "sensor", "index", "serial"})


def camera_of(specification: str) -> str:
    """The camera a record belongs to: its kind, and which of that kind; other settings do not matter.

    "uvc", "uvc:/dev/video0" and "uvc:device=/dev/video0,width=640" are one; "uvc:/dev/video2" is another microscope.
    """
    kind, _, rest = specification.partition(":")
    if kind == "replay":
        return kind
    settings = [part.strip() for part in rest.split(",") if part.strip()]
    named = [part.partition("=")[2] for part in settings if part.partition("=")[0] in _NAMING]
    if kind in _FIRST:
        first = [part for part in settings[:1] if "=" not in part]
        named = [*first, *named] or [_FIRST[kind]]
    return ":".join(filter(None, [kind, *named]))


class CalibrationFolder:
    """The records in a folder. Raises `StoreError` when one cannot be written or is damaged."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def all(self, camera: str | None = None) -> tuple[Calibration, ...]:
        """Every record, of one camera where it is named, oldest first."""
        found = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                record = msgspec.json.decode(path.read_bytes(), type=Calibration)
            except (OSError, msgspec.MsgspecError) as error:
                raise StoreError(
                    "calibration-damaged",
                    f"The calibration record {path} cannot be read: {error}.",
                    "Move it away and calibrate again; the record before it is in force until then.",
                ) from None
            if camera is None or camera_of(record.camera) == camera_of(camera):
                found.append(record)
        return tuple(found)

    def latest(self, camera: str) -> Calibration | None:
        """The record in force for a camera; None before it was commissioned."""
        found = self.all(camera)
        return found[-1] if found else None

    def add(self, kind: str, camera: str, operator: str, fields: int, **measured: object) -> Calibration:
        """Save a new version that has what was `measured`, and the rest from the version before."""
        parent = self.latest(camera)
        moment = clock.read()
        kept = {} if parent is None else {name: getattr(parent, name) for name in _MEASURED}
        record = Calibration(
            schema=SCHEMA,
            id=identifiers.uuid7(),
            parent=None if parent is None else parent.id,
            camera=camera,
            kind=kind,
            operator=operator,
            made=Moment(moment.wall, moment.monotonic, moment.boot_id, moment.tier),
            fields=fields,
            **{**kept, **measured},
        )
        try:
            os.makedirs(self._folder, exist_ok=True)  # noqa: PTH103 - its error is named below like the file's own
        except OSError as error:
            raise StoreError(
                "folder-not-writable",
                f"The folder {self._folder} cannot be made: {error.strerror}.",
                "Choose another data folder, or give the right to write there.",
            ) from None
        durable.write_bytes(self._folder / f"{record.id}.json", msgspec.json.format(msgspec.json.encode(record)))
        return record


_MEASURED: Final = (
    *("surface", "background", "exposure", "clipped_bright", "falloff", "gains", "focus", "stain"),
    "micrometres_per_pixel",
)

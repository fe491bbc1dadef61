"""Is a camera fit: what it delivers, how fast, how sharp, and what went wrong with it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from edge.core.errors import NothingToDoError
from edge.core.protocols import CameraSource
from edge.core.types import FieldFailure, Frame, Quality

SLOW_FRAMES_PER_SECOND: Final = 5.0
"""Below that a person cannot focus by the live picture."""


@dataclass(frozen=True, slots=True)
class CameraTrial:
    """What a camera gave. `faults` are what went wrong, in order; `last` is the last good frame."""

    frames: int
    width: int
    height: int
    preview: bool
    frames_per_second: float | None
    opening_seconds: float
    exposure_milliseconds: float | None
    frozen: Mapping[str, Any]
    dropped: int
    reopened: int
    quality: Quality
    faults: tuple[FieldFailure, ...]
    last: Frame = field(repr=False)


def examine(camera: CameraSource, count: int) -> CameraTrial:
    """Open a camera, take `count` frames and judge the last.

    Raises what the camera raises, and NothingToDoError when not one frame was good.
    """
    from edge.imaging import flatfield
    from edge.imaging.locate import locate
    from edge.imaging.quality import assess

    good: list[float] = []
    faults: list[FieldFailure] = []
    last: Frame | None = None
    started = time.monotonic()
    with camera:
        opened = time.monotonic()
        for item in islice(camera.frames(), count):
            if isinstance(item, Frame):
                last = item
                good.append(time.monotonic())
            else:
                faults.append(item)
        frozen = dict(getattr(camera, "frozen", {}))
    if last is None:
        named = f": {faults[0].message}" if faults else "."
        raise NothingToDoError(
            "camera-no-frame", f"The camera gave no good frame{named}", "Switch the lamp on; check cable and power."
        )
    corrected = flatfield.correct(last.image)
    height, width = last.image.shape[:2]
    span = good[-1] - good[0]
    return CameraTrial(
        frames=len(good),
        width=width,
        height=height,
        preview=last.preview is not None,
        frames_per_second=(len(good) - 1) / span if len(good) > 1 and span > 0 else None,
        opening_seconds=opened - started,
        exposure_milliseconds=last.exposure_milliseconds,
        frozen=frozen,
        dropped=int(getattr(camera, "dropped", 0)),
        reopened=int(getattr(camera, "reopened", 0)),
        quality=assess(last.image, corrected, locate(corrected), None),
        faults=tuple(faults),
        last=last,
    )

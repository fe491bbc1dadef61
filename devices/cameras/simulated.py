"""A camera over a rendered blood smear: no hardware, always the same for the same settings, its ground truth known."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType, TracebackType
from typing import Final

import numpy as np

from devices.cameras.slide import CellTruth, Slide, Window
from devices.cameras.slide_optics import Optics
from devices.cameras.slide_placement import NORMAL_COMPOSITION, checked_composition
from devices.cameras.slide_stain import STAINS, stain_named
from edge.core import clock
from edge.core.errors import CameraError, CameraLostError, UsageError
from edge.core.labels import LABELS
from edge.core.types import FieldFailure, Frame, Image

_COLUMNS: Final = 8
"""Fields in one pass of the serpentine before the stage moves a row down."""


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong, by frame number from 0: for rehearsing how a session copes.

    From `lost_at` on the camera has vanished; from `frozen_at` on it delivers nothing until its deadline. Fields in
    `blurred` are 6 micrometres out of focus, in `dark` under-exposed, in `bright` over-exposed, in `blank` without any
    cell, and those in `unreadable` arrive damaged.
    """

    lost_at: int | None = None
    frozen_at: int | None = None
    blurred: frozenset[int] = frozenset()
    dark: frozenset[int] = frozenset()
    bright: frozenset[int] = frozenset()
    blank: frozenset[int] = frozenset()
    unreadable: frozenset[int] = frozenset()


class SimulatedCamera:
    """Pans a serpentine over the monolayer of a `Slide` and yields one frame a field. Implements `CameraSource`.

    `fields` is the number of frames, None for no end. `overlap` 0-0.9 is the share of a field that its neighbour in
    the serpentine repeats. `interval_seconds` is the time between two frames, as a real stage needs it.
    `deadline_seconds` is how long a frozen camera is waited for. Raises UsageError for settings out of range.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        width: int = 1440,
        height: int = 900,
        micrometres_per_pixel: float = 0.22,
        fields: int | None = 40,
        overlap: float = 0.0,
        cells_per_field: float = 4.0,
        composition: Mapping[str, float] = NORMAL_COMPOSITION,
        stain: str = "may-gruenwald-giemsa",
        crowding: float = 0.6,
        optics: Optics | None = None,
        faults: Faults | None = None,
        deadline_seconds: float = 2.0,
        interval_seconds: float = 0.0,
    ) -> None:
        within = {
            "width": 16 <= width <= 8192,
            "height": 16 <= height <= 8192,
            "micrometres_per_pixel": 0.05 <= micrometres_per_pixel <= 2.0,
            "fields": fields is None or fields >= 0,
            "overlap": 0.0 <= overlap <= 0.9,
            "deadline_seconds": deadline_seconds > 0,
            "interval_seconds": interval_seconds >= 0,
        }
        for name, good in within.items():
            if not good:
                raise UsageError(
                    "bad-simulation",
                    f"The simulated camera cannot work with this {name}.",
                    "Sizes are 16-8192 pixels, scale 0.05-2 micrometres a pixel, overlap 0-0.9, times positive.",
                )
        self.slide = Slide(
            seed, composition=composition, stain=stain, cells_per_field=cells_per_field, crowding=crowding
        )
        self.optics = optics if optics is not None else Optics(blank=self.slide.stain.blank)
        self.name = f"simulated:seed={seed}"
        self._empty = Slide(seed, stain=stain, cells_per_field=0.0, crowding=0.0)
        self._seed, self._size, self._scale = seed, (width, height), micrometres_per_pixel
        self._fields, self._overlap = fields, overlap
        self._faults = faults if faults is not None else Faults()
        self._deadline, self._interval = deadline_seconds, interval_seconds
        self._open = False

    @classmethod
    def from_spec(cls, spec: str) -> SimulatedCamera:
        """Make a camera from text such as "simulated:seed=7,fields=40,cells=5".

        The keys are those of `SPEC_KEYS`. A composition is five shares in the order of the labels:
        "composition=60/28/7/4/1".
        Raises UsageError for a key that does not exist or a value that cannot be used.
        """
        kind, _, rest = spec.partition(":")
        if kind != "simulated":
            raise UsageError("bad-camera", f"{spec!r} is not a simulated camera.", "Write simulated:seed=7,fields=40.")
        settings: dict[str, object] = {}
        optics: dict[str, object] = {}
        for item in filter(None, (part.strip() for part in rest.split(","))):
            key, equals, value = item.partition("=")
            reader = SPEC_KEYS.get(key)
            if reader is None or not equals:
                raise UsageError(
                    "unknown-camera-setting",
                    f"The simulated camera has no setting {item!r}.",
                    f"Write key=value; the keys are {', '.join(SPEC_KEYS)}.",
                )
            try:
                reader(settings, optics, value)
            except ValueError as error:
                raise UsageError(
                    "bad-camera-setting",
                    f"{value!r} is no value for {key} of the simulated camera: {error}.",
                    "For example simulated:seed=7,fields=40,cells=5,stain=wright.",
                ) from error
        blank = stain_named(str(settings.get("stain", "may-gruenwald-giemsa"))).blank
        return cls(optics=replace(Optics(blank=blank), **optics), **settings)  # type: ignore[arg-type]

    def __enter__(self) -> SimulatedCamera:
        self._open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False

    def frames(self) -> Iterator[Frame | FieldFailure]:
        """Yield the fields in the order of the pan.

        Raises:
            CameraLostError: the camera vanished, or a frozen one missed its deadline.
            CameraError: "camera-closed" outside the `with` block.
        """
        self._require_open()
        return self._frames()

    def _require_open(self) -> None:
        if not self._open:
            raise CameraError(
                "camera-closed", "The simulated camera is not open.", "Ask for frames inside its `with` block."
            )

    def _frames(self) -> Iterator[Frame | FieldFailure]:
        faults = self._faults
        number = 0
        while self._fields is None or number < self._fields:
            self._require_open()
            if faults.lost_at is not None and number >= faults.lost_at:
                raise CameraLostError(
                    "camera-vanished", f"{self.name} vanished at frame {number}.", "Check its cable and power."
                )
            if faults.frozen_at is not None and number >= faults.frozen_at:
                time.sleep(self._deadline)
                raise CameraLostError(
                    "camera-frozen",
                    f"{self.name} delivered nothing for {self._deadline:g} s at frame {number}.",
                    "Check its cable and power, then start the session again.",
                )
            if number and self._interval:
                time.sleep(self._interval)
            source = f"{self.name}#{number}"
            if number in faults.unreadable:
                yield FieldFailure(source, "damaged-frame", "The frame arrived damaged.")
            else:
                yield Frame(self.grab(number), clock.read(), source, exposure_milliseconds=10.0 * self.optics.exposure)
            number += 1

    def window(self, number: int) -> Window:
        """Where on the slide a field lies: a serpentine of rows of eight, each row a field below the last."""
        row, step = divmod(number, _COLUMNS)
        column = step if row % 2 == 0 else _COLUMNS - 1 - step
        width, height = self._size
        stride = (1.0 - self._overlap) * self._scale
        return Window(round(column * width * stride, 3), round(row * height * stride, 3), width, height, self._scale)

    def truth(self, field: str | int) -> list[CellTruth]:
        """Return the white cells of a field, by its number or by the `source` of its frame.

        Raises UsageError when the frame is not this camera's.
        """
        if isinstance(field, str):
            name, _, number = field.rpartition("#")
            if name != self.name or not number.isdecimal():
                raise UsageError(
                    "not-my-frame", f"{field!r} is not a frame of {self.name}.", "Ask the camera it came from."
                )
            field = int(number)
        return [] if field in self._faults.blank else self.slide.truth(self.window(field))

    def grab(self, number: int) -> Image:
        """Render field `number` as the camera sees it: uint8[height, width, 3] BGR, C-contiguous."""
        faults = self._faults
        optics = self.optics
        if number in faults.blurred:
            optics = replace(optics, defocus_micrometres=6.0)
        if number in faults.dark:
            optics = replace(optics, exposure=0.12 * optics.exposure)
        if number in faults.bright:
            optics = replace(optics, exposure=2.5 * optics.exposure)
        margin = optics.margin_pixels(self._scale)
        window = self.window(number)
        wide = Window(
            (window.left - margin) * self._scale,
            (window.top - margin) * self._scale,
            window.width + 2 * margin,
            window.height + 2 * margin,
            self._scale,
        )
        slide = self._empty if number in faults.blank else self.slide
        rng = np.random.Generator(np.random.PCG64([self._seed, 9, number]))
        return optics.expose(slide.transmittance(wide), self._scale, rng)


_Reader = Callable[[dict[str, object], dict[str, object], str], None]


def _setting(name: str, convert: Callable[[str], object]) -> _Reader:
    def read(settings: dict[str, object], _optics: dict[str, object], value: str) -> None:
        settings[name] = convert(value)

    return read


def _optic(name: str, convert: Callable[[str], object]) -> _Reader:
    def read(_settings: dict[str, object], optics: dict[str, object], value: str) -> None:
        optics[name] = convert(value)

    return read


def _finite(value: str) -> float:
    number = float(value)
    if not np.isfinite(number):
        raise ValueError("it is not finite")
    return number


def _field_count(value: str) -> int | None:
    return None if value == "endless" else int(value)


def _composition(value: str) -> dict[str, float]:
    shares = [_finite(share) for share in value.split("/")]
    if len(shares) != len(LABELS):
        raise ValueError(f"it needs five shares, for {'/'.join(LABELS)}")
    return checked_composition(dict(zip(LABELS, shares, strict=True)))


def _stain(value: str) -> str:
    if value not in STAINS:
        raise ValueError(f"the stains are {', '.join(STAINS)}")
    return value


def _cast(value: str) -> tuple[float, float, float]:
    red, green, blue = (_finite(factor) for factor in value.split("/"))
    return blue, green, red


SPEC_KEYS: Final[Mapping[str, _Reader]] = MappingProxyType(
    {
        "seed": _setting("seed", int),
        "fields": _setting("fields", _field_count),
        "cells": _setting("cells_per_field", _finite),
        "stain": _setting("stain", _stain),
        "composition": _setting("composition", _composition),
        "crowding": _setting("crowding", _finite),
        "width": _setting("width", int),
        "height": _setting("height", int),
        "scale": _setting("micrometres_per_pixel", _finite),
        "overlap": _setting("overlap", _finite),
        "interval": _setting("interval_seconds", _finite),
        "deadline": _setting("deadline_seconds", _finite),
        "defocus": _optic("defocus_micrometres", _finite),
        "aperture": _optic("numerical_aperture", _finite),
        "illumination": _optic("illumination", _finite),
        "vignetting": _optic("vignetting", _finite),
        "cast": _optic("colour_cast", _cast),
        "exposure": _optic("exposure", _finite),
        "glare": _optic("glare", _finite),
        "noise": _optic("noise", _finite),
    }
)
"""The keys of `SimulatedCamera.from_spec`. "cast" is three factors R/G/B, "fields" a number or "endless"."""

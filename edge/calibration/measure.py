"""What is measured for a commissioning record. Pure functions of pictures; each refuses what does not show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from edge.calibration.records import Surface
from edge.core.errors import InputError, NothingToDoError
from edge.core.types import FloatArray, Image, Quality
from edge.imaging import flatfield
from edge.imaging.locate import locate
from edge.imaging.quality import assess
from edge.imaging.sharpness import chord_diameter

LEAST_FIELDS: Final = 3
RED_CELL_MICROMETRES: Final = 7.5
"""Mean diameter of a red cell on a dried smear (the ruler of edge.imaging.locate)."""

_LEAST_LIGHT: Final = 0.35
_MOST_CLIPPED: Final = 0.02
_MOST_TEXTURE: Final = 0.06
_MOST_CHANGE: Final = 0.1
_LEAST_LIKENESS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Blank:
    """What blank fields say of the light."""

    surface: Surface
    background: tuple[float, float, float]
    exposure: float
    clipped_bright: float
    falloff: float

    @property
    def gains(self) -> tuple[float, float, float]:
        """What makes the blank slide neutral: factors of B, G, R, green 1."""
        blue, green, red = self.background
        return green / max(blue, 1.0), 1.0, green / max(red, 1.0)


def blank_problem(image: Image) -> str | None:
    """Say why a picture is not a usable blank field; None when it is one. uint8[H, W, 3] BGR."""
    level = float(image.mean()) / 255
    if level < _LEAST_LIGHT:
        return "too dark"
    if float((image >= 254).mean()) > _MOST_CLIPPED:
        return "too bright: parts are fully white"
    corrected = flatfield.correct(image)
    small = cv2.resize(corrected, (96, 60), interpolation=cv2.INTER_AREA).astype(np.float32)
    # What an even light leaves after its surface is taken off is noise; cells and dirt are darker.
    if float((small.min(axis=2) < flatfield.BLANK * (1 - 2 * _MOST_TEXTURE)).mean()) > 0.002:
        return "not blank: cells or dirt are in it"
    if float(small.std()) > _MOST_TEXTURE * flatfield.BLANK:
        return "not blank"
    return None


def blank(images: Sequence[Image]) -> Blank:
    """Measure the light from blank fields of one size, at least `LEAST_FIELDS`: the median over them.

    Raises NothingToDoError `too-few-fields`, InputError `light-unsteady` when the light changed from field to field.
    """
    if len(images) < LEAST_FIELDS:
        raise NothingToDoError(
            "too-few-fields",
            f"{len(images)} blank fields could be used; {LEAST_FIELDS} are needed.",
            "Move to a clean place beside the smear and take more.",
        )
    levels = np.array([image.reshape(-1, 3).mean(axis=0) for image in images])
    if float((levels.max(axis=0) - levels.min(axis=0)).max()) > _MOST_CHANGE * float(levels.mean()):
        raise InputError(
            "light-unsteady",
            "The light changed between the blank fields.",
            "Let the lamp warm up, switch automatic exposure off, and take them again.",
        )
    # Single specks of dust lie elsewhere in each field: the median over the fields does not know them.
    middle = np.median(np.stack([_small(image) for image in images]), axis=0).astype(np.uint8)
    surface = flatfield.fit(middle)
    luminance = surface.mean(axis=2)
    blue, green, red = np.median(surface.reshape(-1, 3), axis=0).tolist()
    return Blank(
        surface=Surface(surface.shape[1], surface.shape[0], [round(float(value), 3) for value in surface.ravel()]),
        background=(blue, green, red),
        exposure=(blue + green + red) / 3 / 255,
        clipped_bright=float(np.mean([(image >= 254).mean() for image in images])),
        falloff=1.0 - float(np.quantile(luminance, 0.02)) / max(1.0, float(np.quantile(luminance, 0.98))),
    )


def _small(image: Image) -> Image:
    factor = 256 / max(image.shape[:2])
    small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) if factor < 1 else image
    return np.asarray(small, dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class Sweep:
    """A run through focus: the sharpness of each field (None: nothing to judge), the best, and the stain there."""

    sharpness: tuple[float | None, ...]
    best: int
    focus: float
    stain: float | None


def sweep(images: Sequence[Image]) -> Sweep:
    """Measure a run through focus over cells. The best figure becomes the site's focus reference.

    Raises NothingToDoError `no-focus` when no field shows cells.
    """
    measured: list[Quality] = []
    for image in images:
        corrected = flatfield.correct(image)
        measured.append(assess(image, corrected, locate(corrected)))
    known = [(quality.focus, -index) for index, quality in enumerate(measured) if quality.focus is not None]
    if not known:
        raise NothingToDoError(
            "no-focus", "No field shows cells to focus on.", "Go to the monolayer of a stained smear and try again."
        )
    focus, index = max(known)
    best = -index
    return Sweep(tuple(quality.focus for quality in measured), best, focus, measured[best].stain)


def scale_from_lines(image: Image, division: float) -> float:
    """Micrometres a pixel from a stage micrometer whose lines are `division` micrometres apart, upright or level.

    The mean profile across the lines is compared with itself, moved: it is alike again after one period, and after
    every further one, of which the last is the most exact. Raises InputError `no-lines`.
    """
    grey = image.mean(axis=2)
    found = max((_period(grey.mean(axis=axis)) for axis in (0, 1)), key=lambda each: each[0])
    if found[0] < _LEAST_LIKENESS:
        raise InputError(
            "no-lines",
            "No evenly spaced lines are seen.",
            "Focus on the scale of a stage micrometer, lines upright or level, or use --red-cells on a smear.",
        )
    return division / found[1]


def _period(profile: FloatArray) -> tuple[float, float]:
    """How much a profile is alike when it is moved by its period, 0..1, and the period in samples."""
    length = len(profile)
    level = profile - profile.mean()
    power = np.abs(np.fft.rfft(level, 2 * length)) ** 2
    # At least three lines must be in the picture.
    alike = np.fft.irfft(power)[: length // 3] / np.arange(length, length - length // 3, -1)
    if len(alike) < 4 or alike[0] <= 1e-9:
        return 0.0, 1.0
    alike = alike / alike[0]
    apart = int(np.argmax(alike < 0))
    if not apart:
        return 0.0, 1.0
    peaks = [
        lag
        for lag in range(max(2, apart), len(alike) - 1)
        if alike[lag] >= alike[lag - 1] and alike[lag] > alike[lag + 1]
    ]
    if not peaks:
        return 0.0, 1.0
    highest = max(float(alike[lag]) for lag in peaks)
    first = next(lag for lag in peaks if alike[lag] >= 0.8 * highest)
    period = float(first)
    for lag in peaks:
        times = round(lag / period)
        if times >= 1 and abs(lag - times * period) < 0.2 * period and alike[lag] >= 0.6 * highest:
            before, middle, after = (float(alike[lag + step]) for step in (-1, 0, 1))
            bend = before - 2 * middle + after
            period = (lag + (0.5 * (before - after) / bend if bend < 0 else 0.0)) / times
    return highest, period


def scale_from_red_cells(images: Sequence[Image]) -> float:
    """Micrometres a pixel for want of a stage micrometer: red cells measure 7.5 micrometres, within a tenth or so.

    Raises NothingToDoError `no-red-cells`.
    """
    diameters = []
    for image in images:
        green = np.asarray(cv2.extractChannel(flatfield.correct(image), 1), dtype=np.uint8)
        diameter = chord_diameter(green)
        if diameter < 0.2 * max(green.shape):
            diameters.append(diameter)
    if not diameters:
        raise NothingToDoError(
            "no-red-cells", "No red cells are seen.", "Go to the monolayer of a smear, or use a stage micrometer."
        )
    return RED_CELL_MICROMETRES / float(np.median(diameters))

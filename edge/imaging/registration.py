"""How far the stage moved between two fields, from the fields alone.

The cross-power spectrum of two pictures has a peak where they lie over each other (phase correlation: Kuglin and Hines,
IEEE Conference on Cybernetics and Society, 1975). A smear is nearly the same everywhere, so a peak proves nothing by
itself: the best few are checked by the normalised correlation of the parts that would then coincide, which is about 0.9
for the same place of a drawn slide and below 0.3 for two places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from edge.core.types import FloatArray, Image

SIDE: Final = 240
"""Longer side, in pixels, of the copy that is compared: a red cell of an oil objective is then 5 pixels across."""

LEAST_AGREEMENT: Final = 0.55
"""Correlation of the common part from which two fields are taken to show the same place."""

LEAST_OVERLAP: Final = 0.03
"""Share of a field that must coincide: less is too little to tell two places apart."""

_WHITENING: Final = 0.5
"""0 is plain correlation, which large cells dominate; 1 is pure phase correlation, which noise dominates."""

_PEAKS: Final = 3
_DETAIL: Final = 6.0
_PATCH: Final = 24


@dataclass(frozen=True, slots=True)
class Signature:
    """A small high-passed copy of a field, int8[h, w]. `scale` is pixels of the field to one of the copy."""

    plane: npt.NDArray[np.int8]
    scale: float


@dataclass(frozen=True, slots=True)
class Shift:
    """Where the second field's upper left corner lies in the first, in pixels of the first field.

    `agreement` is the correlation -1..1 of the common part, `overlap` its share of the field, 0..1.
    """

    x: float
    y: float
    agreement: float
    overlap: float


def signature(corrected: Image, scale: float = 1.0) -> Signature:
    """Make the signature of a field whose illumination has been corrected, uint8[H, W, 3] BGR.

    `corrected` may be a smaller copy of the field (its preview); `scale` is then copy width / field width.
    """
    green = cv2.extractChannel(corrected, 1)
    factor = min(1.0, SIDE / max(green.shape))
    small = cv2.resize(green, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA).astype(np.float32)
    detail = small - cv2.GaussianBlur(small, (0, 0), _DETAIL)
    # One byte a pixel holds what the high-pass leaves, so that hundreds of fields can be kept.
    plane = np.clip(np.rint(detail), -127, 127).astype(np.int8)
    return Signature(plane, green.shape[1] / scale / small.shape[1])


def register(first: Signature, second: Signature) -> Shift | None:
    """Find the shift of the second field against the first; None where they do not show the same place.

    Both must be of one camera: neither turned nor scaled against each other. Fields of different sizes give None.
    """
    if first.plane.shape != second.plane.shape:
        return None
    one, two = first.plane.astype(np.float32), second.plane.astype(np.float32)
    surface = _correlation(one, two)
    best: Shift | None = None
    for x, y in _peaks(surface):
        agreement, overlap = _agreement(one, two, round(x), round(y))
        if overlap >= LEAST_OVERLAP and agreement >= LEAST_AGREEMENT and (best is None or agreement > best.agreement):
            best = Shift(x * first.scale, y * first.scale, agreement, overlap)
    return best


def patch(field: Signature, x: float, y: float) -> FloatArray:
    """Cut the surroundings of a point (x, y), in pixels of the field, from a signature: float32[n], of length 1.

    Two such vectors of the same cell have a scalar product near 1, since the red cells around a white cell are like a
    fingerprint. Outside of the field the patch is 0.
    """
    half = _PATCH // 2
    column, row = round(x / field.scale) - half, round(y / field.scale) - half
    height, width = field.plane.shape
    cut = np.zeros((_PATCH, _PATCH), np.float32)
    left, top = max(0, column), max(0, row)
    right, bottom = min(width, column + _PATCH), min(height, row + _PATCH)
    if right > left and bottom > top:
        cut[top - row : bottom - row, left - column : right - column] = field.plane[top:bottom, left:right]
    flat = cut.ravel()
    return flat / max(float(np.linalg.norm(flat)), 1e-6)


def _correlation(one: FloatArray, two: FloatArray) -> FloatArray:
    """Correlate two planes at every shift: float32[H, W], periodic, shift (0, 0) at [0, 0]."""
    spectra = []
    for plane in (one, two):
        height, width = (cv2.getOptimalDFTSize(2 * side) for side in plane.shape)
        wide = np.zeros((height, width), np.float32)
        wide[: plane.shape[0], : plane.shape[1]] = plane
        spectra.append(cv2.dft(wide, flags=cv2.DFT_COMPLEX_OUTPUT))
    cross = cv2.mulSpectrums(spectra[0], spectra[1], 0, conjB=True)
    strength = cv2.magnitude(cross[..., 0], cross[..., 1])
    floor = 1e-3 * float(strength.mean()) + 1e-9
    cross = cross / np.power(strength + floor, _WHITENING)[..., None]
    return np.asarray(cv2.idft(cross, flags=cv2.DFT_REAL_OUTPUT | cv2.DFT_SCALE), dtype=np.float32)


def _peaks(surface: FloatArray) -> list[tuple[float, float]]:
    """Give the highest few peaks as shifts (x, y), to a fraction of a pixel."""
    height, width = surface.shape
    left = surface.copy()
    found = []
    for _ in range(_PEAKS):
        _, _, _, (column, row) = cv2.minMaxLoc(left)
        x = column + _summit(surface[row, [(column - 1) % width, column, (column + 1) % width]])
        y = row + _summit(surface[[(row - 1) % height, row, (row + 1) % height], column])
        found.append((x if x <= width / 2 else x - width, y if y <= height / 2 else y - height))
        left[max(0, row - 3) : row + 4, max(0, column - 3) : column + 4] = -np.inf
    return found


def _summit(three: FloatArray) -> float:
    """Offset, -0.5..0.5, of the top of the parabola through three neighbours."""
    before, middle, after = (float(value) for value in three)
    bend = before - 2 * middle + after
    return 0.0 if bend >= 0 else max(-0.5, min(0.5, 0.5 * (before - after) / bend))


def _agreement(one: FloatArray, two: FloatArray, x: int, y: int) -> tuple[float, float]:
    """Normalised correlation of what coincides at a shift, and its share of the plane."""
    height, width = one.shape
    left, right = max(0, x), min(width, width + x)
    top, bottom = max(0, y), min(height, height + y)
    if right - left < 4 or bottom - top < 4:
        return -1.0, 0.0
    a = one[top:bottom, left:right]
    b = two[top - y : bottom - y, left - x : right - x]
    a, b = a - a.mean(), b - b.mean()
    # A part of a blank slide holds noise alone; it coincides with any other.
    power = float(np.sqrt((a * a).sum() * (b * b).sum()))
    share = (right - left) * (bottom - top) / (height * width)
    return float((a * b).sum()) / power if power > 0 else -1.0, share

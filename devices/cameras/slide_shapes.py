"""Shapes and textures that cells are painted from, on a canvas of `STEP` micrometres a pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from edge.core.types import FloatArray

STEP: Final = 0.1
"""Micrometres per canvas pixel: an optical microscope resolves about twice this."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """Coordinates (micrometres from the centre) of a square canvas: `u`, `v` float32[n, n]."""

    u: FloatArray
    v: FloatArray

    @classmethod
    def of(cls, half_width: float) -> Canvas:
        """Make a canvas that reaches `half_width` micrometres to each side of its centre."""
        n = 2 * int(np.ceil(half_width / STEP))
        axis = ((np.arange(n) - n / 2 + 0.5) * STEP).astype(np.float32)
        u, v = np.meshgrid(axis, axis)
        return cls(u, v)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.u.shape[0], self.u.shape[1]

    def warped(self, rng: np.random.Generator, amplitude: float, scale: float) -> Canvas:
        """Return the same canvas with its coordinates bent by smooth noise, so that what is drawn on it looks grown."""
        return Canvas(
            self.u + amplitude * noise(rng, self.shape, scale), self.v + amplitude * noise(rng, self.shape, scale)
        )


def noise(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> FloatArray:
    """Return smooth noise, mean 0 and variance 1; `scale` is the width (sigma) of its smoothing in micrometres."""
    # Coarse noise is made small and enlarged: a wide blur at full size costs most of a cell's painting time.
    shrink = max(1, int(scale / STEP / 2.5))
    small = (shape[0] // shrink + 2, shape[1] // shrink + 2)
    sigma = scale / STEP / shrink
    white = rng.standard_normal(small, dtype=np.float32)
    smooth = cv2.GaussianBlur(white, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    smooth *= 2.0 * np.sqrt(np.pi) * sigma
    if shrink > 1:
        smooth = cv2.resize(smooth, (small[1] * shrink, small[0] * shrink), interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(smooth[: shape[0], : shape[1]], dtype=np.float32)


def inside(distance: FloatArray, softness: float) -> FloatArray:
    """Make a mask 0-1 from a signed distance (negative inside), with an edge `softness` micrometres wide."""
    t = np.clip(0.5 - distance / softness, 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), dtype=np.float32)


def band(distance: FloatArray, offset: float, width: float) -> FloatArray:
    """Draw a soft line 0-1 that runs `offset` micrometres inside an outline, like a membrane seen edge-on."""
    return np.asarray(np.exp(-(((distance + offset) / width) ** 2)), dtype=np.float32)


def outline(
    rng: np.random.Generator, canvas: Canvas, radius: float, irregularity: float, elongation: float = 1.0
) -> FloatArray:
    """Signed distance (micrometres, approximate) to a roundish closed outline about the centre.

    `irregularity` is the relative amplitude of its bulges, `elongation` the ratio of its axes.
    """
    turn = rng.uniform(0, np.pi)
    cos, sin = np.cos(turn), np.sin(turn)
    stretch = np.sqrt(elongation)
    u = (cos * canvas.u + sin * canvas.v) / stretch
    v = (cos * canvas.v - sin * canvas.u) * stretch
    place = (u + 1j * v).astype(np.complex64)
    distance = np.abs(place)
    # Powers of the unit vector are its harmonics: much faster than sines of the angle.
    unit = place / np.maximum(distance, 1e-6)
    power = unit.copy()
    border = np.ones(canvas.shape, dtype=np.float32)
    for k in range(2, 7):
        power *= unit
        border += (
            power * np.complex64(irregularity * rng.normal() / (k - 0.5) * np.exp(2j * np.pi * rng.uniform()))
        ).real
    return np.asarray(distance - radius * np.clip(border, 0.55, 1.5), dtype=np.float32)


def ellipse(canvas: Canvas, centre: tuple[float, float], axes: tuple[float, float], turn: float) -> FloatArray:
    """Signed distance (micrometres, approximate) to an ellipse with half-axes `axes`, turned by `turn` radians."""
    du, dv = canvas.u - np.float32(centre[0]), canvas.v - np.float32(centre[1])
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    x, y = (cos * du + sin * dv) / np.float32(axes[0]), (cos * dv - sin * du) / np.float32(axes[1])
    return np.asarray((np.sqrt(x * x + y * y) - 1.0) * min(axes), dtype=np.float32)


def chain(canvas: Canvas, points: Sequence[tuple[float, float]], widths: Sequence[float]) -> FloatArray:
    """Signed distance (micrometres) to the union of discs along a path: a thread, a band, a horseshoe."""
    distance = np.full(canvas.shape, 1e3, dtype=np.float32)
    for (x, y), width in zip(points, widths, strict=True):
        du, dv = canvas.u - np.float32(x), canvas.v - np.float32(y)
        np.minimum(distance, np.sqrt(du * du + dv * dv) - np.float32(width), out=distance)
    return distance


def granules(
    rng: np.random.Generator,
    canvas: Canvas,
    spacing: float,
    radius: float,
    *,
    density: FloatArray | None = None,
    variation: float = 0.25,
) -> FloatArray:
    """Round granules, 0-1 each, on a jittered grid of `spacing` micrometres; `density` 0-1 thins them locally."""
    n = canvas.shape[0]
    count = int(n * STEP / spacing)
    row, column = np.meshgrid(np.arange(count), np.arange(count), indexing="ij")
    # Every second row is shifted by half a step: a square grid would show through the jitter.
    offset = np.where(row % 2 == 0, 0.0, 0.5)
    y = ((row + rng.uniform(0.1, 0.9, row.shape)) * spacing / STEP).astype(int)
    x = ((column + offset + rng.uniform(0.1, 0.9, row.shape)) * spacing / STEP).astype(int)
    y, x = np.clip(y, 0, n - 1).ravel(), np.clip(x, 0, n - 1).ravel()
    amount = np.clip(1.0 + variation * rng.standard_normal(y.size), 0.2, 2.0).astype(np.float32)
    if density is not None:
        amount[rng.uniform(size=y.size) > density[y, x]] = 0.0
    sizes = rng.integers(0, 3, y.size)
    result = np.zeros(canvas.shape, dtype=np.float32)
    for size, factor in enumerate((0.75, 1.0, 1.3)):
        chosen = sizes == size
        points = np.zeros(canvas.shape, dtype=np.float32)
        points[y[chosen], x[chosen]] = amount[chosen]
        np.maximum(result, cv2.filter2D(points, -1, _disc(radius * factor)), out=result)
    return np.asarray(np.minimum(result, 1.2), dtype=np.float32)


def _disc(radius: float) -> FloatArray:
    """Draw a soft disc as a filter kernel; `radius` in micrometres."""
    reach = int(np.ceil(radius / STEP)) + 1
    axis = np.arange(-reach, reach + 1) * STEP
    return inside((np.hypot(*np.meshgrid(axis, axis)) - radius).astype(np.float32), 0.22)

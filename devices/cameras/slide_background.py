"""What surrounds the white cells of a smear: red cells, platelets, stain precipitate and the dried plasma film."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np

from devices.cameras.slide_shapes import STEP, Canvas, granules, inside, noise, outline
from devices.cameras.slide_stain import BASOPHILIA, CHROMATIN, LILAC
from edge.core.types import FloatArray

_PROFILE_STEPS: Final = 192


@dataclass(frozen=True, slots=True)
class RedCell:
    """One erythrocyte: place and size in micrometres, and the shape of its disc.

    `pallor` 0-1 is how thin the middle is, `pallor_width` its share of the radius, `thickness` the haemoglobin
    concentration at the thick ring. `bend` (amplitude in micrometres, two phases) makes the outline irregular.
    """

    x: float
    y: float
    radius: float
    elongation: float
    turn: float
    thickness: float
    pallor: float
    pallor_width: float
    bend: tuple[float, float, float]

    @classmethod
    def random(cls, rng: np.random.Generator, x: float, y: float) -> RedCell:
        """Draw a cell of a normal smear: 7.5 micrometres on average, mild anisocytosis, some without pallor."""
        u = rng.uniform(size=6)
        n = rng.standard_normal(4)
        return cls(
            x,
            y,
            radius=float(min(max(3.75 + 0.27 * n[0], 2.8), 4.6)),
            elongation=float(1.0 + 0.10 * abs(n[1])),
            turn=float(u[0] * np.pi),
            thickness=float(min(max(0.36 + 0.045 * n[2], 0.22), 0.5)),
            pallor=float(0.35 + 0.5 * u[2]) if u[1] < 0.72 else float(0.2 * u[2]),
            pallor_width=float(0.34 + 0.22 * u[3]),
            bend=(float(0.16 * abs(n[3])), float(u[4] * 2 * np.pi), float(u[5] * 2 * np.pi)),
        )

    def at(self, x: float, y: float) -> RedCell:
        """Return the same cell at another place."""
        return replace(self, x=x, y=y)

    def profile(self) -> FloatArray:
        """Concentration against distance from the centre (0 to 1.2 radii): a biconcave disc's thickness."""
        rho = np.linspace(0.0, 1.2, _PROFILE_STEPS)
        dip = 1.0 - self.pallor * np.exp(-((rho / self.pallor_width) ** 3))
        slope = 0.80 + 0.20 * np.exp(-(((rho - 0.78) / 0.22) ** 2)) + 0.22 * np.exp(-(((rho - 0.96) / 0.05) ** 2))
        edge = np.clip((1.04 - rho) * self.radius / 0.42, 0.0, 1.0)
        return np.asarray(self.thickness * dip * slope * edge * edge * (3.0 - 2.0 * edge), dtype=np.float32)

    def paint(self, du: FloatArray, dv: FloatArray) -> FloatArray:
        """Concentration at offsets `du` (row vector) and `dv` (column vector) from the centre, in micrometres."""
        amplitude, first, second = self.bend
        cos, sin = np.cos(self.turn) / self.radius, np.sin(self.turn) / self.radius
        u = du + np.float32(amplitude) * np.sin(np.float32(0.75) * dv + np.float32(first))
        v = dv + np.float32(amplitude) * np.sin(np.float32(0.75) * du + np.float32(second))
        stretch = np.sqrt(self.elongation)
        a = u * np.float32(cos / stretch) + v * np.float32(sin / stretch)
        b = v * np.float32(cos * stretch) - u * np.float32(sin * stretch)
        a *= a
        b *= b
        a += b
        np.sqrt(a, out=a)
        a *= np.float32((_PROFILE_STEPS - 1) / 1.2)
        return np.asarray(np.take(self.profile(), a.astype(np.int32), mode="clip"))

    @property
    def reach(self) -> float:
        """Half the side of a square that holds the cell, in micrometres."""
        return self.radius * (1.2 * float(np.sqrt(self.elongation))) + self.bend[0]


@dataclass(frozen=True, slots=True)
class Particle:
    """A platelet or a grain of precipitate: place in micrometres, and its painted planes float32[n, n, 3].

    Planes are chromatin, basophilia, lilac, at `STEP` micrometres a pixel.
    """

    x: float
    y: float
    planes: FloatArray


PARTICLE_PLANES: Final = (CHROMATIN, BASOPHILIA, LILAC)


def platelet(rng: np.random.Generator, x: float, y: float) -> Particle:
    """Draw a platelet: 1.5-3.5 micrometres, pale blue with a violet granular middle."""
    radius = float(np.clip(rng.normal(1.15, 0.28), 0.7, 1.9))
    canvas = Canvas.of(radius * 1.7)
    distance = outline(rng, canvas.warped(rng, 0.10, 0.3), radius, 0.12, rng.uniform(1.0, 1.5))
    body = inside(distance, 0.4)
    core = inside(distance + np.float32(0.3 * radius), 0.9)
    grains = np.clip(0.55 + 0.5 * noise(rng, canvas.shape, 0.14), 0.0, 1.6)
    strength = rng.uniform(0.4, 1.1)
    planes = np.dstack((strength * core * grains, 0.15 * body, body * (0.14 + 0.35 * core * grains)))
    return Particle(x, y, np.ascontiguousarray(planes, dtype=np.float32))


def precipitate(rng: np.random.Generator, x: float, y: float) -> Particle:
    """Draw stain precipitate: a loose cluster of tiny violet-black grains."""
    canvas = Canvas.of(float(rng.uniform(1.5, 4.0)))
    fall = np.exp(-((canvas.u**2 + canvas.v**2) / (0.35 * float(canvas.u.max()) ** 2)))
    grains = granules(rng, canvas, 0.7, 0.14, density=np.asarray(0.5 * fall, dtype=np.float32), variation=0.5)
    zero = np.zeros_like(grains)
    return Particle(x, y, np.ascontiguousarray(np.dstack((1.3 * grains, zero, 0.3 * grains)), dtype=np.float32))


def resampled(planes: FloatArray, x: float, y: float, micrometres_per_pixel: float) -> tuple[int, int, FloatArray]:
    """Bring painted planes to the slide's pixel grid: (left, top, planes float32[h, w, k]), whole pixels of the slide.

    Depends on the object and the scale alone, never on the window, so that overlapping windows agree.
    """
    ratio = STEP / micrometres_per_pixel
    n = planes.shape[0]
    half = n / 2 * STEP
    left, top = int(np.floor((x - half) / micrometres_per_pixel)), int(np.floor((y - half) / micrometres_per_pixel))
    size = int(np.ceil(2 * half / micrometres_per_pixel)) + 2
    if ratio < 1.0:
        # Shrinking without this would alias granules: a pixel integrates over its own width.
        sigma = 0.42 * float(np.sqrt(1.0 / ratio**2 - 1.0))
        planes = np.asarray(
            cv2.GaussianBlur(planes, (0, 0), max(0.1, sigma), borderType=cv2.BORDER_CONSTANT), dtype=np.float32
        )
    to_slide = np.array(
        [
            [ratio, 0.0, (x - half) / micrometres_per_pixel - left + 0.5 * ratio - 0.5],
            [0.0, ratio, (y - half) / micrometres_per_pixel - top + 0.5 * ratio - 0.5],
        ]
    )
    interpolation = cv2.INTER_CUBIC if ratio > 1.0 else cv2.INTER_LINEAR
    placed = cv2.warpAffine(planes, to_slide, (size, size), flags=interpolation)
    return left, top, np.asarray(np.maximum(placed, 0.0), dtype=np.float32)


class Film:
    """The plasma film between the cells: faint clouds and a fine grain, fixed to the slide."""

    _GRAIN: Final = 256

    def __init__(self, seed: int) -> None:
        rng = np.random.Generator(np.random.PCG64([seed, 77]))
        self._waves = [
            (rng.uniform(0.01, 0.08), rng.uniform(0.01, 0.08), rng.uniform(0, 6.28), rng.uniform(0, 6.28))
            for _ in range(3)
        ]
        self._grain = noise(rng, (self._GRAIN, self._GRAIN), 0.12)

    def paint(self, columns: slice, rows: slice, micrometres_per_pixel: float, level: float) -> FloatArray:
        """Concentration of the film over a range of slide pixels: float32[rows, columns]."""
        x, y = np.arange(columns.start, columns.stop), np.arange(rows.start, rows.stop)
        field = np.ones((len(y), len(x)), dtype=np.float32)
        for kx, ky, px, py in self._waves:
            # Rounding keeps windows of different size equal to the last bit.
            across = np.round(np.sin(kx * micrometres_per_pixel * x + px), 4).astype(np.float32)
            down = np.round(np.sin(ky * micrometres_per_pixel * y + py), 4).astype(np.float32)
            field += np.float32(0.3) * (down[:, None] * across[None, :])
        field += np.float32(0.35) * self._grain[np.ix_(y % self._GRAIN, x % self._GRAIN)]
        field *= np.float32(level)
        return np.asarray(np.maximum(field, 0.0), dtype=np.float32)

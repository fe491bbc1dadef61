"""A virtual blood smear: endless, fixed by its seed, and known to the last cell.

Objects are placed by tiles whose random numbers depend on the seed and the tile alone, and drawn on a pixel grid fixed
to the slide. So any window can be rendered without its surroundings, and windows that overlap agree pixel for pixel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final

import numpy as np

from devices.cameras.slide_background import (
    PARTICLE_PLANES,
    Film,
    Particle,
    RedCell,
    platelet,
    precipitate,
    resampled,
)
from devices.cameras.slide_cells import PAINTERS, Sprite
from devices.cameras.slide_optics import Optics
from devices.cameras.slide_stain import (
    BASOPHILIA,
    CHROMATIN,
    DYES,
    EOSIN,
    HAEMOGLOBIN,
    LILAC,
    LUT_STEPS_PER_UNIT,
    Stain,
    stain_named,
)
from edge.core.errors import UsageError
from edge.core.labels import LABELS
from edge.core.types import Box, FloatArray, FloatImage, Image

NORMAL_COMPOSITION: Final[Mapping[str, float]] = MappingProxyType(
    {"neutrophil": 0.58, "lymphocyte": 0.29, "monocyte": 0.07, "eosinophil": 0.04, "basophil": 0.02}
)
"""A normal adult differential, as shares."""

REFERENCE_AREA: Final = 1440 * 900 * 0.22**2
"""Square micrometres of the field that `cells_per_field` refers to: 1440 x 900 pixels of 0.22 micrometres."""

_TILE: Final = 48.0
"""Side of a placement tile in micrometres: more than twice the largest cell, so that only neighbours interact."""

_MARGIN: Final = 14.0
"""Micrometres outside a window from which a cell can still reach into it."""


@dataclass(frozen=True, slots=True)
class Window:
    """A view of the slide: upper left corner in micrometres, size in pixels, scale in micrometres a pixel.

    The corner is moved to the nearest whole pixel of the slide's grid at that scale.
    """

    x: float
    y: float
    width: int
    height: int
    micrometres_per_pixel: float = 0.22

    @property
    def left(self) -> int:
        """Column of the slide's pixel grid at the left border."""
        return round(self.x / self.micrometres_per_pixel)

    @property
    def top(self) -> int:
        """Row of the slide's pixel grid at the upper border."""
        return round(self.y / self.micrometres_per_pixel)


@dataclass(frozen=True, slots=True)
class CellTruth:
    """A white cell as it was drawn, in pixels of the window.

    `box` holds the whole cell and `nucleus` its nucleus, both possibly reaching over the border (`whole` is False
    then). `centre` (x, y) is the middle of the cell; `nucleus_diameter` belongs to the disc of the nucleus's area.
    """

    label: str
    box: Box
    centre: tuple[float, float]
    nucleus: Box
    nucleus_diameter: float
    whole: bool


@dataclass(frozen=True, slots=True)
class WhiteCell:
    """A white cell on the slide: what it is, where (micrometres), and the seed of its looks."""

    label: str
    x: float
    y: float
    key: tuple[int, ...]


def checked_composition(composition: Mapping[str, float]) -> dict[str, float]:
    """Shares of the five classes, in the order of the labels, scaled to sum 1.

    Raises UsageError for an unknown class, a negative share, or nothing at all.
    """
    unknown = [name for name in composition if name not in LABELS]
    shares = {label: float(composition.get(label, 0.0)) for label in LABELS}
    total = sum(shares.values())
    if unknown or min(shares.values()) < 0 or not np.isfinite(total) or total <= 0:
        raise UsageError(
            "bad-composition",
            f"The composition {dict(composition)!r} is not a set of shares of the five classes.",
            f"Give shares of at least 0, not all 0, for: {', '.join(LABELS)}.",
        )
    return {label: share / total for label, share in shares.items()}


@lru_cache(maxsize=256)
def _painted(label: str, key: tuple[int, ...]) -> Sprite:
    return PAINTERS[label](np.random.Generator(np.random.PCG64(key)))


def _box(extent: tuple[float, float, float, float], x: float, y: float, window: Window) -> Box:
    scale = window.micrometres_per_pixel
    left, top = int(np.floor((x + extent[0]) / scale)), int(np.floor((y + extent[1]) / scale))
    right, bottom = int(np.ceil((x + extent[2]) / scale)), int(np.ceil((y + extent[3]) / scale))
    return Box(left - window.left, top - window.top, right - left, bottom - top)


class Slide:
    """A deterministic smear.

    `composition` gives the shares of the five classes, `cells_per_field` the mean number of white cells on
    `REFERENCE_AREA` (at most 25: a white cell needs a tile of its own), `crowding` 0-1 how close the red cells lie.
    Raises UsageError for values that cannot be drawn.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        composition: Mapping[str, float] = NORMAL_COMPOSITION,
        stain: str | Stain = "may-gruenwald-giemsa",
        cells_per_field: float = 4.0,
        crowding: float = 0.6,
    ) -> None:
        if not 0 <= cells_per_field <= 25:
            raise UsageError(
                "bad-cells-per-field",
                f"{cells_per_field} white cells per field cannot be placed.",
                "Choose a number from 0 to 25.",
            )
        if seed < 0 or not 0 <= crowding <= 1:
            raise UsageError(
                "bad-slide", f"Seed {seed} or crowding {crowding} is out of range.", "Use seed >= 0, crowding 0 to 1."
            )
        self.seed = seed
        self.composition = checked_composition(composition)
        self.stain = stain_named(stain) if isinstance(stain, str) else stain
        self._occupancy = cells_per_field * _TILE**2 / REFERENCE_AREA
        self._crowding = crowding
        self._film = Film(seed)
        self._tables = self.stain.transmission_tables()
        self._white = lru_cache(maxsize=4096)(self._white_of_tile)
        self._candidates = lru_cache(maxsize=2048)(self._red_candidates_of_tile)
        self._red = lru_cache(maxsize=1024)(self._red_of_tile)
        self._particles = lru_cache(maxsize=512)(self._particles_of_tile)

    def truth(self, window: Window) -> list[CellTruth]:
        """Return the white cells that show in a window, from left to right."""
        found = []
        for cell in self._white_near(window):
            sprite = _painted(cell.label, cell.key)
            box = _box(sprite.cell, cell.x, cell.y, window)
            right, bottom = box.x + box.width, box.y + box.height
            if right <= 0 or bottom <= 0 or box.x >= window.width or box.y >= window.height:
                continue
            scale = window.micrometres_per_pixel
            found.append(
                CellTruth(
                    label=cell.label,
                    box=box,
                    centre=(cell.x / scale - window.left, cell.y / scale - window.top),
                    nucleus=_box(sprite.nucleus, cell.x, cell.y, window),
                    nucleus_diameter=sprite.nucleus_diameter / scale,
                    whole=box.x >= 0 and box.y >= 0 and right <= window.width and bottom <= window.height,
                )
            )
        return sorted(found, key=lambda cell: cell.centre)

    def transmittance(self, window: Window) -> FloatImage:
        """Render the share of light that passes the slide: float32[height, width, 3], 0-1, B G R, before any optics."""
        scale, left, top = window.micrometres_per_pixel, window.left, window.top
        planes = [np.zeros((window.height, window.width), dtype=np.float32) for _ in range(DYES)]
        film = self._film.paint(
            slice(left, left + window.width), slice(top, top + window.height), scale, self.stain.film
        )
        planes[LILAC] += film

        def add(plane: int, x: int, y: int, patch: FloatArray) -> None:
            x, y = x - left, y - top
            x0, y0 = max(0, x), max(0, y)
            x1, y1 = min(window.width, x + patch.shape[1]), min(window.height, y + patch.shape[0])
            if x0 < x1 and y0 < y1:
                here, new = planes[plane][y0:y1, x0:x1], patch[y0 - y : y1 - y, x0 - x : x1 - x]
                # Red cells thin out where they press on each other: two together are not twice as dense.
                here[...] = (
                    here + new - np.float32(0.55) * np.minimum(here, new) if plane == HAEMOGLOBIN else here + new
                )

        for tile in self._tiles(window):
            for red in self._red(*tile):
                x0, x1 = int(np.floor((red.x - red.reach) / scale)), int(np.ceil((red.x + red.reach) / scale))
                y0, y1 = int(np.floor((red.y - red.reach) / scale)), int(np.ceil((red.y + red.reach) / scale))
                if x1 < left or x0 > left + window.width or y1 < top or y0 > top + window.height:
                    continue
                du = ((np.arange(x0, x1 + 1) + 0.5) * scale - red.x).astype(np.float32)[None, :]
                dv = ((np.arange(y0, y1 + 1) + 0.5) * scale - red.y).astype(np.float32)[:, None]
                add(HAEMOGLOBIN, x0, y0, red.paint(du, dv))
            for particle in self._particles(*tile):
                x, y, painted = resampled(particle.planes, particle.x, particle.y, scale)
                for index, plane in enumerate(PARTICLE_PLANES):
                    add(plane, x, y, painted[..., index])
        for cell in self._white_near(window):
            x, y, painted = resampled(_painted(cell.label, cell.key).planes, cell.x, cell.y, scale)
            for index, plane in enumerate((CHROMATIN, BASOPHILIA, LILAC, EOSIN)):
                add(plane, x, y, painted[..., index])
        return self._passed(planes)

    def render(self, window: Window) -> Image:
        """Render the slide under even light, in perfect focus: uint8[height, width, 3] BGR."""
        return (self.transmittance(window) * np.asarray(self.stain.blank, dtype=np.float32) + 0.5).astype(np.uint8)

    def _passed(self, planes: list[FloatArray]) -> FloatImage:
        """Return the light that dye planes let pass. A table keeps overlapping windows equal to the bit."""
        matrix = self.stain.matrix() * np.float32(LUT_STEPS_PER_UNIT)
        result = np.empty((*planes[0].shape, 3), dtype=np.float32)
        for channel in range(3):
            density = planes[0] * matrix[0, channel]
            for plane, weight in zip(planes[1:], matrix[1:, channel], strict=True):
                density += plane * weight
            result[..., channel] = np.take(self._tables[channel], density.astype(np.int32), mode="clip")
        return result

    def _rng(self, purpose: int, tile_x: int, tile_y: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64([self.seed, purpose, tile_x + 2**31, tile_y + 2**31]))

    def _tiles(self, window: Window, margin: float = _MARGIN) -> Iterator[tuple[int, int]]:
        scale = window.micrometres_per_pixel
        x0, y0 = window.left * scale - margin, window.top * scale - margin
        x1 = (window.left + window.width) * scale + margin
        y1 = (window.top + window.height) * scale + margin
        for tile_y in range(int(np.floor(y0 / _TILE)), int(np.floor(y1 / _TILE)) + 1):
            for tile_x in range(int(np.floor(x0 / _TILE)), int(np.floor(x1 / _TILE)) + 1):
                yield tile_x, tile_y

    def _white_near(self, window: Window) -> Iterator[WhiteCell]:
        for tile in self._tiles(window):
            cell = self._white(*tile)
            if cell is not None:
                yield cell

    def _white_of_tile(self, tile_x: int, tile_y: int) -> WhiteCell | None:
        rng = self._rng(1, tile_x, tile_y)
        if rng.uniform() >= self._occupancy:
            return None
        label = str(rng.choice(LABELS, p=list(self.composition.values())))
        x, y = (np.array((tile_x, tile_y)) + rng.uniform(0.21, 0.79, 2)) * _TILE
        return WhiteCell(label, float(x), float(y), (self.seed, 2, tile_x + 2**31, tile_y + 2**31))

    def _white_around(self, tile_x: int, tile_y: int) -> list[tuple[float, float, float]]:
        """Centre and radius, in micrometres, of the white cells in a tile and its neighbours."""
        around = []
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                cell = self._white(tile_x + dx, tile_y + dy)
                if cell is not None:
                    around.append((cell.x, cell.y, _painted(cell.label, cell.key).radius))
        return around

    def _red_candidates_of_tile(self, tile_x: int, tile_y: int) -> tuple[tuple[float, RedCell], ...]:
        """Red cells of a tile with their rank, pushed out of the white cells that lie there."""
        rng = self._rng(3, tile_x, tile_y)
        white = self._white_around(tile_x, tile_y)
        steps = 6
        candidates = []
        for row in range(steps):
            for column in range(steps):
                draw = rng.uniform(size=4)
                jitter = 0.9 * draw[:2] - 0.45
                x = (tile_x + (column + 0.5 + jitter[0] + (0.25 if row % 2 else -0.25)) / steps) * _TILE
                y = (tile_y + (row + 0.5 + jitter[1]) / steps) * _TILE
                rank = float(draw[2])
                cell = RedCell.random(rng, x, y)
                clouds = np.sin(0.031 * x + 1.3 * np.sin(0.017 * y)) * np.sin(0.027 * y + 0.9 * np.sin(0.021 * x))
                if draw[3] > 0.15 + 0.75 * self._crowding + 0.25 * clouds:
                    continue
                for wx, wy, radius in white:
                    gap = float(math.hypot(x - wx, y - wy))
                    needed = radius + 0.88 * cell.radius
                    if gap < needed:
                        x, y = wx + (x - wx) * needed / max(gap, 0.1), wy + (y - wy) * needed / max(gap, 0.1)
                candidates.append((rank, cell.at(x, y)))
        return tuple(candidates)

    def _red_of_tile(self, tile_x: int, tile_y: int) -> tuple[RedCell, ...]:
        """Of red cells that would lie almost on top of each other, only the first in rank stays."""
        near = [c for dy in (-1, 0, 1) for dx in (-1, 0, 1) for c in self._candidates(tile_x + dx, tile_y + dy)]
        ranks = np.array([rank for rank, _ in near])
        places = np.array([(cell.x, cell.y) for _, cell in near]).reshape(-1, 2)
        kept = []
        for rank, cell in self._candidates(tile_x, tile_y):
            gaps = np.hypot(places[:, 0] - cell.x, places[:, 1] - cell.y)
            # One pair in several overlaps deeply, as in a rouleau; the rest touch or keep apart.
            closest = 2.6 if rank > 0.8 else 5.6
            if not np.any((gaps < closest) & (ranks < rank)):
                kept.append(cell)
        return tuple(kept)

    def _particles_of_tile(self, tile_x: int, tile_y: int) -> tuple[Particle, ...]:
        rng = self._rng(4, tile_x, tile_y)
        white = self._white_around(tile_x, tile_y)
        particles = []
        for make, mean in ((platelet, 0.9), (precipitate, 0.03)):
            for _ in range(int(rng.poisson(mean))):
                x, y = (np.array((tile_x, tile_y)) + rng.uniform(0, 1, 2)) * _TILE
                if all(math.hypot(x - wx, y - wy) > radius + 1.5 for wx, wy, radius in white):
                    particles.append(make(rng, float(x), float(y)))
        return tuple(particles)


class _OneCellSlide(Slide):
    """A slide with one white cell in the middle of tile (0, 0), and sometimes another near by."""

    def __init__(
        self, label: str, rng: np.random.Generator, stain: str | Stain, crowding: float, company: bool
    ) -> None:
        super().__init__(int(rng.integers(2**31)), stain=stain, cells_per_field=0.0, crowding=crowding)
        self._label = label
        self._company: WhiteCell | None = None
        if company:
            other = str(rng.choice(LABELS, p=list(self.composition.values())))
            bearing, gap = rng.uniform(0, 2 * np.pi), rng.uniform(17.0, 23.0)
            x, y = _TILE / 2 + gap * np.cos(bearing), _TILE / 2 + gap * np.sin(bearing)
            self._company = WhiteCell(other, float(x), float(y), (self.seed, 6))

    def _white_of_tile(self, tile_x: int, tile_y: int) -> WhiteCell | None:
        return WhiteCell(self._label, _TILE / 2, _TILE / 2, (self.seed, 5)) if (tile_x, tile_y) == (0, 0) else None

    def _white_near(self, window: Window) -> Iterator[WhiteCell]:
        yield from super()._white_near(window)
        if self._company is not None:
            yield self._company

    def _white_around(self, tile_x: int, tile_y: int) -> list[tuple[float, float, float]]:
        around = super()._white_around(tile_x, tile_y)
        if self._company is not None:
            cell = self._company
            around.append((cell.x, cell.y, _painted(cell.label, cell.key).radius))
        return around


def render_cell(
    label: str,
    rng: np.random.Generator,
    size_px: int = 360,
    *,
    micrometres_per_pixel: float = 0.1,
    stain: str | Stain = "may-gruenwald-giemsa",
    optics: Optics | None = None,
    crowding: float | None = None,
    offset_micrometres: float = 0.6,
) -> Image:
    """Render one white cell among its neighbours, about the middle: uint8[size_px, size_px, 3] BGR.

    Without `optics` the picture is sharp, evenly lit and nearly free of noise; without `crowding` that is drawn at
    random. The cell lies within about `offset_micrometres` of the middle. The state of `rng` settles everything.
    Raises UsageError for a label that is not one of the five, or an unknown stain.
    """
    if label not in PAINTERS:
        raise UsageError("unknown-label", f"No cell is named {label!r}.", f"Use one of: {', '.join(LABELS)}.")
    crowded = float(rng.uniform(0.25, 1.0)) if crowding is None else crowding
    slide = _OneCellSlide(label, rng, stain, crowded, company=bool(rng.uniform() < 0.06))
    seen = (
        optics
        if optics is not None
        else Optics(
            numerical_aperture=1.1, blank=slide.stain.blank, vignetting=0.0, noise=1.0, glare=0.0, sharpening=0.55
        )
    )
    size = size_px + 2 * seen.margin_pixels(micrometres_per_pixel)
    corner = _TILE / 2 - size / 2 * micrometres_per_pixel + rng.normal(0, offset_micrometres, 2)
    window = Window(float(corner[0]), float(corner[1]), size, size, micrometres_per_pixel)
    return seen.expose(slide.transmittance(window), micrometres_per_pixel, rng)

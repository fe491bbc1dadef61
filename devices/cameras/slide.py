"""A virtual blood smear: endless, fixed by its seed, and known to the last cell.

Objects are placed by tiles whose random numbers depend on the seed and the tile alone, and drawn on a pixel grid fixed
to the slide. So any window can be rendered without its surroundings, and windows that overlap agree pixel for pixel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from devices.cameras.slide_background import PARTICLE_PLANES, Film, resampled
from devices.cameras.slide_cells import PAINTERS
from devices.cameras.slide_optics import Optics
from devices.cameras.slide_placement import (
    NORMAL_COMPOSITION,
    TILE,
    OneCell,
    Placement,
    WhiteCell,
    checked_composition,
    painted,
)
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

REFERENCE_AREA: Final = 1440 * 900 * 0.22**2
"""Square micrometres of the field that `cells_per_field` refers to: 1440 x 900 pixels of 0.22 micrometres."""

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


def _box(extent: tuple[float, float, float, float], x: float, y: float, window: Window) -> Box:
    scale = window.micrometres_per_pixel
    left, top = int(np.floor((x + extent[0]) / scale)), int(np.floor((y + extent[1]) / scale))
    right, bottom = int(np.ceil((x + extent[2]) / scale)), int(np.ceil((y + extent[3]) / scale))
    return Box(left - window.left, top - window.top, right - left, bottom - top)


class Slide:
    """A deterministic smear.

    `composition` gives the shares of the five classes, `cells_per_field` the mean number of white cells on
    `REFERENCE_AREA` (at most 25: a white cell needs a tile of its own), `crowding` 0-1 how close the red cells lie
    (0: no red cells, no platelets). `placement` replaces all three. Raises UsageError for values that cannot be drawn.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        composition: Mapping[str, float] = NORMAL_COMPOSITION,
        stain: str | Stain = "may-gruenwald-giemsa",
        cells_per_field: float = 4.0,
        crowding: float = 0.6,
        placement: Placement | None = None,
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
        self.composition = checked_composition(composition)
        self.stain = stain_named(stain) if isinstance(stain, str) else stain
        occupancy = cells_per_field * TILE**2 / REFERENCE_AREA
        self._placement = placement or Placement(seed, self.composition, occupancy, crowding)
        self._film = Film(seed)
        self._tables = self.stain.transmission_tables()

    def white_cells(self, window: Window) -> list[WhiteCell]:
        """List the white cells whose centre lies in a window, without drawing them."""
        scale = window.micrometres_per_pixel
        return [
            cell
            for cell in self._white_near(window)
            if 0 <= cell.x / scale - window.left < window.width and 0 <= cell.y / scale - window.top < window.height
        ]

    def truth(self, window: Window) -> list[CellTruth]:
        """Return the white cells that show in a window, from left to right."""
        found = []
        for cell in self._white_near(window):
            sprite = painted(cell.label, cell.key)
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
            for red in self._placement.red(*tile):
                x0, x1 = int(np.floor((red.x - red.reach) / scale)), int(np.ceil((red.x + red.reach) / scale))
                y0, y1 = int(np.floor((red.y - red.reach) / scale)), int(np.ceil((red.y + red.reach) / scale))
                if x1 < left or x0 > left + window.width or y1 < top or y0 > top + window.height:
                    continue
                du = ((np.arange(x0, x1 + 1) + 0.5) * scale - red.x).astype(np.float32)[None, :]
                dv = ((np.arange(y0, y1 + 1) + 0.5) * scale - red.y).astype(np.float32)[:, None]
                add(HAEMOGLOBIN, x0, y0, red.paint(du, dv))
            for particle in self._placement.particles(*tile):
                x, y, placed = resampled(particle.planes, particle.x, particle.y, scale)
                for index, plane in enumerate(PARTICLE_PLANES):
                    add(plane, x, y, placed[..., index])
        for cell in self._white_near(window):
            x, y, placed = resampled(painted(cell.label, cell.key).planes, cell.x, cell.y, scale)
            for index, plane in enumerate((CHROMATIN, BASOPHILIA, LILAC, EOSIN)):
                add(plane, x, y, placed[..., index])
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

    def _tiles(self, window: Window, margin: float = _MARGIN) -> Iterator[tuple[int, int]]:
        scale = window.micrometres_per_pixel
        x0, y0 = window.left * scale - margin, window.top * scale - margin
        x1 = (window.left + window.width) * scale + margin
        y1 = (window.top + window.height) * scale + margin
        for tile_y in range(int(np.floor(y0 / TILE)), int(np.floor(y1 / TILE)) + 1):
            for tile_x in range(int(np.floor(x0 / TILE)), int(np.floor(x1 / TILE)) + 1):
                yield tile_x, tile_y

    def _white_near(self, window: Window) -> Iterator[WhiteCell]:
        for tile in self._tiles(window):
            yield from self._placement.white(*tile)


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
    seed = int(rng.integers(2**31))
    company = None
    if rng.uniform() < 0.06:
        bearing, gap = rng.uniform(0, 2 * np.pi), rng.uniform(17.0, 23.0)
        other = str(rng.choice(LABELS, p=list(NORMAL_COMPOSITION.values())))
        company = (other, float(gap * np.cos(bearing)), float(gap * np.sin(bearing)))
    slide = Slide(seed, stain=stain, placement=OneCell(label, seed, crowded, company))
    seen = (
        optics
        if optics is not None
        else Optics(
            numerical_aperture=1.1, blank=slide.stain.blank, vignetting=0.0, noise=1.0, glare=0.0, sharpening=0.55
        )
    )
    size = size_px + 2 * seen.margin_pixels(micrometres_per_pixel)
    corner = TILE / 2 - size / 2 * micrometres_per_pixel + rng.normal(0, offset_micrometres, 2)
    window = Window(float(corner[0]), float(corner[1]), size, size, micrometres_per_pixel)
    return seen.expose(slide.transmittance(window), micrometres_per_pixel, rng)

"""Where the objects of a smear lie: drawn tile by tile, so that no place depends on what was looked at before."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final

import numpy as np

from devices.cameras.slide_background import Particle, RedCell, platelet, precipitate
from devices.cameras.slide_cells import PAINTERS, Sprite
from edge.core.errors import UsageError
from edge.core.labels import LABELS

NORMAL_COMPOSITION: Final[Mapping[str, float]] = MappingProxyType(
    {"neutrophil": 0.58, "lymphocyte": 0.29, "monocyte": 0.07, "eosinophil": 0.04, "basophil": 0.02}
)
"""A normal adult differential, as shares."""

TILE: Final = 48.0
"""Side of a placement tile in micrometres: more than twice the largest cell, so that only neighbours interact."""


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


@lru_cache(maxsize=32)
def painted(label: str, key: tuple[int, ...]) -> Sprite:
    """Paint a white cell; `key` settles its looks."""
    return PAINTERS[label](np.random.Generator(np.random.PCG64(key)))


class Placement:
    """The objects of each tile, settled by the seed and the tile's own place.

    `occupancy` 0-1 is the share of tiles that hold a white cell, `crowding` 0-1 how close the red
    cells lie; at 0 there are neither red cells nor platelets.
    """

    def __init__(self, seed: int, composition: Mapping[str, float], occupancy: float, crowding: float) -> None:
        self._seed = seed
        self._shares = [composition[label] for label in LABELS]
        self._occupancy = occupancy
        self._crowding = crowding
        self.white = lru_cache(maxsize=4096)(self._white_of_tile)
        self.red = lru_cache(maxsize=1024)(self._red_of_tile)
        self.particles = lru_cache(maxsize=512)(self._particles_of_tile)
        self._candidates = lru_cache(maxsize=2048)(self._red_candidates_of_tile)

    def _rng(self, purpose: int, tile_x: int, tile_y: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64([self._seed, purpose, tile_x + 2**31, tile_y + 2**31]))

    def _white_of_tile(self, tile_x: int, tile_y: int) -> tuple[WhiteCell, ...]:
        rng = self._rng(1, tile_x, tile_y)
        if rng.uniform() >= self._occupancy:
            return ()
        label = str(rng.choice(LABELS, p=self._shares))
        x, y = (np.array((tile_x, tile_y)) + rng.uniform(0.21, 0.79, 2)) * TILE
        return (WhiteCell(label, float(x), float(y), (self._seed, 2, tile_x + 2**31, tile_y + 2**31)),)

    def _white_around(self, tile_x: int, tile_y: int) -> list[tuple[float, float, float]]:
        """Centre and radius, in micrometres, of the white cells in a tile and its neighbours."""
        around = []
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                for cell in self.white(tile_x + dx, tile_y + dy):
                    around.append((cell.x, cell.y, painted(cell.label, cell.key).radius))
        return around

    def _red_candidates_of_tile(self, tile_x: int, tile_y: int) -> tuple[tuple[float, RedCell], ...]:
        """Red cells of a tile with their rank, pushed out of the white cells that lie there."""
        if self._crowding == 0:
            return ()
        rng = self._rng(3, tile_x, tile_y)
        white = self._white_around(tile_x, tile_y)
        steps = 6
        candidates = []
        for row in range(steps):
            for column in range(steps):
                draw = rng.uniform(size=4)
                jitter = 0.9 * draw[:2] - 0.45
                x = (tile_x + (column + 0.5 + jitter[0] + (0.25 if row % 2 else -0.25)) / steps) * TILE
                y = (tile_y + (row + 0.5 + jitter[1]) / steps) * TILE
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
        if self._crowding == 0:
            return ()
        rng = self._rng(4, tile_x, tile_y)
        white = self._white_around(tile_x, tile_y)
        particles = []
        for make, mean in ((platelet, 0.9), (precipitate, 0.03)):
            for _ in range(int(rng.poisson(mean))):
                x, y = (np.array((tile_x, tile_y)) + rng.uniform(0, 1, 2)) * TILE
                if all(math.hypot(x - wx, y - wy) > radius + 1.5 for wx, wy, radius in white):
                    particles.append(make(rng, float(x), float(y)))
        return tuple(particles)


class OneCell(Placement):
    """One white cell in the middle of tile (0, 0), seldom with another near by."""

    def __init__(self, label: str, seed: int, crowding: float, company: tuple[str, float, float] | None) -> None:
        super().__init__(seed, checked_composition(NORMAL_COMPOSITION), 0.0, crowding)
        middle = TILE / 2
        self._cells = [WhiteCell(label, middle, middle, (seed, 5))]
        if company is not None:
            other, right, down = company
            self._cells.append(WhiteCell(other, middle + right, middle + down, (seed, 6)))

    def _white_of_tile(self, tile_x: int, tile_y: int) -> tuple[WhiteCell, ...]:
        return tuple(cell for cell in self._cells if (cell.x // TILE, cell.y // TILE) == (tile_x, tile_y))

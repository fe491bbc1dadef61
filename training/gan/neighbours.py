"""Is a generated cell a copy of one it was learnt from? Its nearest real cells, by three measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edge.core.types import Image
from training.data import splits
from training.gan.data import resized

Distances = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

QUANTILE: Final = 0.01
"""Nearer to a training cell than this share of unseen real cells is: flagged."""

_PIXELS: Final = 24
"""Side in pixels at which pictures are compared value by value: a copy may be softer than its original."""


def symmetries(pictures: Image) -> Image:
    """Give the eight turned and mirrored forms: uint8[8, N, S, S, 3]. Training showed all: each could be copied."""
    turned = [np.rot90(pictures, turns, axes=(1, 2)) for turns in range(4)]
    return np.stack([*turned, *(form[:, :, ::-1] for form in turned)])


def nearest(queries: npt.NDArray[np.floating], keys: npt.NDArray[np.floating]) -> tuple[Distances, Indices]:
    """Euclidean distance float[n] and index int[n] of the nearest key, over all forms of a query.

    `queries` is float[forms, n, d], `keys` float[m, d].
    """
    base = np.asarray(keys, dtype=np.float64)
    squares = (base**2).sum(axis=1)
    best = np.full(queries.shape[1], np.inf)
    index = np.zeros(queries.shape[1], dtype=np.int64)
    for form in np.asarray(queries, dtype=np.float64):
        distance = np.maximum((form**2).sum(axis=1)[:, None] + squares - 2 * form @ base.T, 0.0)
        here = distance.argmin(axis=1)
        value = distance[np.arange(len(form)), here]
        index = np.where(value < best, here, index)
        best = np.minimum(best, value)
    return np.sqrt(best), index


def _values(pictures: Image) -> npt.NDArray[np.float64]:
    """Pictures as rows whose Euclidean distance is the root mean square difference in grey levels."""
    small = resized(pictures, _PIXELS).reshape(len(pictures), -1).astype(np.float64)
    return np.asarray(small / np.sqrt(small.shape[1]))


def _bits(pictures: Image) -> npt.NDArray[np.float64]:
    """Difference hashes as rows of bits: the squared Euclidean distance counts those that differ."""
    hashes = np.array([splits.difference_hash(picture) for picture in pictures], dtype=np.uint64)
    return np.unpackbits(hashes.view(np.uint8).reshape(-1, 8), axis=1).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Nearest:
    """Distances float[n] of n pictures to the nearest of a set, by measure, and its index int[n] by features.

    `features` is Euclidean, `pixels` in grey levels (root mean square), `bits` the number of bits of the hash.
    """

    features: Distances
    pixels: Distances
    bits: Distances
    index: Indices


class Gallery:
    """A set of pictures uint8[M, S, S, 3] in which the nearest is looked for; `embed` gives features float[N, d]."""

    def __init__(self, pictures: Image, embed: Callable[[Image], npt.NDArray[np.floating]]) -> None:
        self._embed = embed
        self._features, self._pixels, self._hash = embed(pictures), _values(pictures), _bits(pictures)

    def nearest(self, forms: Image, embedded: npt.NDArray[np.floating]) -> Nearest:
        """Look for the nearest of pictures in all their forms: uint8[8, N, S, S, 3] and features float[8, N, d]."""
        features, index = nearest(embedded, self._features)
        pixels, _ = nearest(np.stack([_values(form) for form in forms]), self._pixels)
        bits, _ = nearest(np.stack([_bits(form) for form in forms]), self._hash)
        return Nearest(features, pixels, np.rint(bits**2), index)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Below these a picture is nearer to a training cell than 99 in 100 real cells that nobody has seen before."""

    features: float
    pixels: float
    bits: float


def thresholds(unseen: Nearest) -> Thresholds:
    """Take the QUANTILE of the distances of unseen real cells to the training cells; for hashes the split's NEAR."""
    values = [float(np.quantile(each, QUANTILE)) for each in (unseen.features, unseen.pixels)]
    return Thresholds(values[0], values[1], float(splits.NEAR))


def flagged(found: Nearest, limits: Thresholds) -> dict[str, npt.NDArray[np.bool_]]:
    """Which pictures are nearer than the limits, bool[n] by measure; `any` joins the three."""
    by = {
        "features": found.features < limits.features,
        "pixels": found.pixels < limits.pixels,
        "bits": found.bits <= limits.bits,
    }
    return {**by, "any": by["features"] | by["pixels"] | by["bits"]}

"""Stain normalisation of one crop: its nucleus is the reference, since every white cell carries one.

Stains and cameras differ in strength and hue, slide by slide. The nucleus takes the azure dye in each of them, so the
colour it has in this crop tells what this slide, stain and camera make of azure.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from edge.core.types import Image
from edge.imaging.flatfield import BLANK

REFERENCE: Final = (0.55, 1.25, 0.95)
"""Optical density (natural logarithm; blue, green, red) that every nucleus gets: about that of a well-stained smear."""

_LEAST: Final = 0.06
"""A nucleus that is paler than this is not amplified any further: it would only show the noise."""

_DENSITIES: Final = -np.log((np.arange(256) + 1.0) / (BLANK + 1.0))
_DISC: Final = 0.54
_DENSEST: Final = 0.30


def nucleus_density(crop: Image, margin: float) -> npt.NDArray[np.float64]:
    """Measure the nucleus of a crop, uint8[S, S, 3] BGR, `margin` nucleus diameters wide: float64[3].

    The mean optical density per channel of the densest three tenths of the central disc. Density is summed over green
    and red, where azure absorbs and eosin absorbs half as much.
    """
    pixels = np.take(crop.reshape(-1, 3), _disc(crop.shape[0], margin), axis=0)
    total = _DENSITIES[pixels[:, 1]] + _DENSITIES[pixels[:, 2]]
    # With all that are as dense as the last: which pixels of a tie a partition keeps differs between processors.
    count = max(1, round(_DENSEST * len(total)))
    densest = total >= np.partition(total, len(total) - count)[len(total) - count]
    return np.array([np.take(_DENSITIES, pixels[densest, channel]).mean() for channel in range(3)])


@lru_cache(maxsize=16)
def _disc(side: int, margin: float) -> npt.NDArray[np.intp]:
    """Indices of the pixels of the central disc in a flattened crop: int[n]."""
    offset = np.arange(side) - (side - 1) / 2
    inside = np.hypot(offset[:, None], offset[None, :]) < _DISC * side / margin
    return np.flatnonzero(inside)


def normalise(crop: Image, margin: float) -> Image:
    """Give the crop as if its nucleus had the REFERENCE density: uint8[S, S, 3].

    Each channel's optical density is multiplied by one factor, so that the blank slide stays as it is and every
    relation between nucleus and cytoplasm is kept. It is one lookup per value.
    """
    factors = np.asarray(REFERENCE) / np.maximum(nucleus_density(crop, margin), _LEAST)
    density = np.clip(_DENSITIES[:, None] * factors, -0.1, 4.0)
    table = np.clip(np.rint((BLANK + 1.0) * np.exp(-density) - 1.0), 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(crop, table.reshape(1, 256, 3)), dtype=np.uint8)

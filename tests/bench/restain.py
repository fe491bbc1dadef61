"""Show a cell of the training set in the stain of a new site, so that what is rehearsed looks like that site.

A site rarely has all five classes among a few labelled cells: basophils are missing most. The training set has them,
and a stain is nearly linear in optical density (Beer-Lambert), so that one matrix carries a cell from site to site.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from edge.core.types import Image
from edge.imaging.flatfield import BLANK
from training.adaptation.statistics import DENSITY, Matrix, Stain, cell_density
from training.data.augment import Generator

_SPREAD: Final = 0.15
"""Strength of the stain varies by about this share beyond what the site's cells show."""

_BLUR: Final = (0.5, 1.8)
"""Standard deviation in pixels of the blur: the source is a slide scanner, few microscopes are as sharp."""


def _power(matrix: Matrix, exponent: float) -> Matrix:
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.maximum(values, 1e-6) ** exponent) @ vectors.T)


def transport(source: Matrix, target: Matrix) -> Matrix:
    """Find the symmetric matrix T with T S T = G for second moments S of the source and G of the target, float64[3, 3].

    The linear optimal transport between two Gaussians about the blank slide (Pitié and Kokaram, The linear
    Monge-Kantorovitch linear colour mapping for example-based colour transfer, CVMP 2007).
    """
    root, inverse = _power(source, 0.5), _power(source, -0.5)
    return np.asarray(inverse @ _power(root @ target @ root, 0.5) @ inverse)


def _through(crop: Image, matrix: Matrix) -> Image:
    density = np.clip(cv2.transform(DENSITY[crop], matrix.astype(np.float32)), -0.1, 5.0)
    return np.clip((BLANK + 1.0) * np.exp(-density) - 1.0, 0, 255).astype(np.uint8)


class Restainer:
    """Shows cells of a source in the stain of a site: hue by one matrix, strength as one of the site's cells has it."""

    def __init__(self, source: Stain, site: Stain) -> None:
        self._matrix = transport(np.array(source.moment), np.array(site.moment))
        self._strengths = np.array(site.strengths)

    def __call__(self, crop: Image, generator: Generator) -> Image:
        """Give the cell, uint8[S, S, 3] BGR with context, stained as a random cell of the site and a little blurred."""
        # Pale first: where a channel saturates its strength can no longer be read.
        pale = _through(crop, self._matrix * 0.3 / cell_density(crop)[1])
        wanted = float(generator.choice(self._strengths)) * float(np.exp(generator.normal(0, _SPREAD)))
        image = _through(pale, np.eye(3) * wanted / cell_density(pale)[1])
        return np.asarray(cv2.GaussianBlur(image, (0, 0), generator.uniform(*_BLUR)), dtype=np.uint8)

"""Of pictures of one field at several focal planes, which is the sharpest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from edge.core.types import Image
from edge.imaging.sharpness import chord_diameter, edge_sharpness

_FINE = 0.7
"""Edges are looked at more closely than for the quality gate: planes differ by less than good and bad fields do."""


@dataclass(frozen=True, slots=True)
class StackChoice:
    """The best plane of a stack, counted from 0, and the sharpness of each (dimensionless; None: nothing to judge)."""

    best: int
    sharpness: tuple[float | None, ...]


def choose(planes: Sequence[Image]) -> StackChoice:
    """Choose the sharpest of some planes of one field, each uint8[H, W, 3] BGR, all of one size.

    All planes are measured at one scale, that of the cells in the median plane: a blurred cell looks larger, and
    measured at its own size it would look as sharp as another. Where no plane shows anything, the middle one is taken.
    Raises ValueError for an empty stack or planes of several sizes.
    """
    if not planes:
        raise ValueError("a stack has at least one plane")
    if len({plane.shape for plane in planes}) > 1:
        raise ValueError("the planes of a stack have one size")
    greens = [np.asarray(cv2.extractChannel(plane, 1), dtype=np.uint8) for plane in planes]
    diameter = _FINE * float(np.median([chord_diameter(green) for green in greens]))
    sharpness = tuple(edge_sharpness(green, diameter) for green in greens)
    known = [(value, -index) for index, value in enumerate(sharpness) if value is not None]
    return StackChoice(-max(known)[1] if known else len(planes) // 2, sharpness)

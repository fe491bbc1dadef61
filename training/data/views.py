"""From a cached crop to what a network sees of it, whatever size the crops were cut at.

A network may be smaller than the crops: a student learns on the crops of its larger teacher. The view is then made at
the size of the crops and cut down by `edge.imaging.crop.cut`, as the device would cut it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge.core.errors import UsageError
from edge.core.types import Box, FloatArray, Image, LocatedCell
from edge.imaging import crop as imaging
from edge.imaging.preprocess import to_input
from training.config import CONTEXT, RunConfig


def view_size(crops: Image) -> int:
    """Side in pixels of the field of view of cached crops, uint8[..., S, S, 3], which have CONTEXT around it."""
    return round(int(crops.shape[-2]) / CONTEXT)


def require_size(crops: Image, size: int) -> None:
    """Raise UsageError `crops-too-small` when a network of `size` would see more pixels than the crops have."""
    if view_size(crops) < size:
        raise UsageError(
            "crops-too-small",
            f"The crops show {view_size(crops)} pixels, the network takes {size}.",
            "Cut the crops at the network's size, or train a network of a smaller --size.",
        )


def reduced(view: Image, size: int) -> Image:
    """Give a view, uint8[S, S, 3], at `size` pixels, in the one way in which crops are resized."""
    side = view.shape[0]
    if side == size:
        return view
    whole = LocatedCell(Box(0, 0, side, side), (side / 2, side / 2), float(side))
    return imaging.cut(view, whole, size, margin=1.0)


def network_inputs(crops: Sequence[Image] | Image, config: RunConfig) -> FloatArray:
    """Views uint8[size, size, 3] as the network takes them: float32[N, size, size, 3]."""
    return np.stack([to_input(crop, config.preprocessing) for crop in crops])

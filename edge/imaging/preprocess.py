"""The one preprocessing: training, calibration, parity tests and the device all call `to_input`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from edge.core.types import FloatImage, Image
from edge.imaging import stain


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a crop becomes a network's input, as the bundle's manifest states it.

    `size` is the side of the input in pixels, `margin` the side of the crop in nucleus diameters, `colour_order` the
    order of the channels that the network wants; each value becomes `value * scale + offset`. `interpolation` names the
    one way a crop is resized, see `edge.imaging.crop.cut`. `noise_reduction` is a 3x3 median over the crop; `stain`
    gives the nucleus a fixed colour, see `edge.imaging.stain`.
    """

    size: int
    margin: float
    colour_order: Literal["BGR", "RGB"] = "RGB"
    interpolation: Literal["area"] = "area"
    scale: float = 1.0 / 127.5
    offset: float = -1.0
    noise_reduction: Literal["none", "median"] = "none"
    stain: Literal["none", "nucleus"] = "none"


def to_input(crop: Image, preprocessing: Preprocessing) -> FloatImage:
    """Turn a crop, uint8[size, size, 3] BGR, into the network's input, float32[size, size, 3].

    Raises ValueError when the crop has another size: resizing belongs to `edge.imaging.crop.cut` alone.
    """
    size = preprocessing.size
    if crop.shape != (size, size, 3):
        raise ValueError(f"the crop is {crop.shape}, the network takes {(size, size, 3)}")
    if preprocessing.noise_reduction == "median":
        crop = np.asarray(cv2.medianBlur(crop, 3), dtype=np.uint8)
    if preprocessing.stain == "nucleus":
        crop = stain.normalise(crop, preprocessing.margin)
    ordered = cv2.cvtColor(crop, cv2.COLOR_BGR2RGB) if preprocessing.colour_order == "RGB" else crop
    return np.asarray(cv2.LUT(ordered, _levels(preprocessing.scale, preprocessing.offset)), dtype=np.float32)


@lru_cache(maxsize=8)
def _levels(scale: float, offset: float) -> npt.NDArray[np.float32]:
    """The network's value of each grey level: looking it up takes a third of the time of computing it."""
    levels: npt.NDArray[np.float32] = np.arange(256, dtype=np.float32) * np.float32(scale) + np.float32(offset)
    return levels

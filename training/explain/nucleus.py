"""Where the nucleus is in a crop, by its stain alone: what the pointing game is played against."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from edge.core.types import Image
from edge.imaging.locate import nuclear_density
from training.explain.agreement import Mask

_BLUR: Final = 0.012
_REACH: Final = 1.15
"""The nucleus lies in the middle of the crop, in a square of this many of its diameters: beyond are other cells."""

_DARK: Final = 0.9
_SHARE: Final = 0.45


def nucleus_mask(crop: Image, margin: float) -> Mask:
    """The nucleus of a crop, uint8[S, S, 3] BGR, `margin` nucleus diameters wide: bool[S, S], never empty.

    Pixels with more than 0.45 of the azure density of the darkest tenth, the share that the locator uses, in the middle
    of the crop, without holes. Where nothing is stained it is the disc in which the locator saw a nucleus.
    """
    size = crop.shape[0]
    offset = np.abs(np.arange(size) - (size - 1) / 2)
    reach = offset <= _REACH * size / margin / 2
    middle = reach[:, None] & reach[None, :]
    density = nuclear_density(crop, _BLUR * size)
    darkest = float(np.quantile(density[middle], _DARK))
    stained = ((density > _SHARE * darkest) & middle & (darkest > 0)).astype(np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    opened = cv2.morphologyEx(stained, cv2.MORPH_OPEN, kernel)
    contours, _ = cv2.findContours(opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    # A speck is a granule or a platelet.
    large = [contour for contour in contours if cv2.contourArea(contour) >= 0.005 * size * size]
    if not large:
        return np.asarray(np.hypot(offset[:, None], offset[None, :]) <= size / margin / 2)
    filled = cv2.drawContours(np.zeros((size, size), np.uint8), large, -1, 1, cv2.FILLED)
    return np.asarray(filled > 0)

"""How far two maps of one crop agree, and whether a map points at the nucleus."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from edge.core.types import FloatArray

TOP_SHARE: Final = 0.2
"""The highest pixels that are compared cover this share of the crop."""

Mask = npt.NDArray[np.bool_]


def rank_correlation(one: FloatArray, other: FloatArray) -> float | None:
    """Spearman's rank correlation of two maps of one shape, -1..1; None when one of them is the same everywhere."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    from scipy.stats import spearmanr

    return float(spearmanr(one.ravel(), other.ravel()).statistic)


def top(activation: FloatArray, share: float = TOP_SHARE) -> Mask:
    """The highest pixels of a map, `share` of all, as a mask of its shape; fewer where fewer are above zero.

    Of pixels of equal height at the limit, those that come first in the picture are taken.
    """
    count = round(share * activation.size)
    order = np.argsort(-activation.ravel(), kind="stable")[:count]
    mask = np.zeros(activation.size, np.bool_)
    mask[order] = activation.ravel()[order] > 0
    return mask.reshape(activation.shape)


def overlap(one: Mask, other: Mask) -> float | None:
    """Intersection over union of two masks, 0..1; None when both are empty."""
    union = int((one | other).sum())
    return float((one & other).sum() / union) if union else None


def points_inside(activation: FloatArray, mask: Mask) -> float | None:
    """The pointing game: 1 when the peak of a map lies in the mask, else 0 (Zhang et al., IJCV 2018; no tolerance).

    Where several pixels are highest, the share of them that does. None for a map that is zero everywhere.
    """
    peak = activation.max()
    if peak <= 0:
        return None
    return float(mask[activation == peak].mean())

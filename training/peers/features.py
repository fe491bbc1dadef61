"""Shape, colour, edges and texture of a region, as numbers that do not change when the cell is turned.

`mask` is bool[S, S] with at least one pixel, `grey` uint8[S, S], `crop` uint8[S, S, 3] BGR. Lengths are shares of the
crop's side: the device cuts every cell at the same size in nucleus diameters.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from edge.core.types import Image
from training.peers.regions import Mask

Grey = npt.NDArray[np.uint8]
Features = dict[str, float]

_LEVELS: Final = 16
_DISTANCES: Final = (1, 3)
_ANGLES: Final = tuple(index * np.pi / 4 for index in range(4))
_PATTERNS: Final = ((8, 1), (16, 2))
"""Neighbours and radius of the local binary patterns."""


def shape(mask: Mask) -> Features:
    """Area, outline and moments of a region.

    `circularity` is 4 pi area / perimeter squared (Cox, Journal of Paleontology 1, 1927): 1 for a disc, less for all
    else; the perimeter is Crofton's, which does not overrate slanting borders. `parts` counts connected parts after an
    erosion that cuts thin bridges, as between the lobes of a nucleus.
    """
    from skimage.measure import regionprops

    side = mask.shape[0]
    region = regionprops(mask.astype(np.uint8))[0]
    perimeter = float(region.perimeter_crofton)
    area = float(region.area)
    kernel = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    eroded = cv2.erode(mask.astype(np.uint8), kernel, iterations=max(1, side // 40))
    long_axis = float(region.axis_major_length)
    return {
        "area": area / side**2,
        "perimeter": perimeter / side,
        "circularity": 4 * np.pi * area / perimeter**2 if perimeter else 1.0,
        "eccentricity": float(region.eccentricity),
        "solidity": float(region.solidity) if area >= 3 else 1.0,
        "extent": float(region.extent),
        "elongation": float(region.axis_minor_length) / long_axis if long_axis else 1.0,
        "diameter": float(region.equivalent_diameter_area) / side,
        "parts": float(max(1, cv2.connectedComponents(eroded)[0] - 1)),
        **{f"hu{index}": value for index, value in enumerate(_log_moments(region.moments_hu))},
    }


def _log_moments(moments: npt.NDArray[np.float64]) -> list[float]:
    # Hu's seven invariants span twenty orders of magnitude; their logarithms do not.
    return [float(-np.sign(value) * np.log10(max(abs(value), 1e-30)) / 10) for value in moments]


def ratio(nucleus: Mask, cytoplasm: Mask) -> Features:
    """Share of the cell that is nucleus, and how far their centres lie apart."""
    cell = nucleus | cytoplasm
    centres = [np.argwhere(mask).mean(axis=0) for mask in (nucleus, cell)]
    return {
        "nucleus_share": float(nucleus.sum() / cell.sum()),
        "offset": float(np.linalg.norm(centres[0] - centres[1]) / nucleus.shape[0]),
    }


def colour_moments(crop: Image, mask: Mask) -> Features:
    """Mean, deviation and skewness of each channel, RGB and HSV (Stricker and Orengo, SPIE 2420, 1995)."""
    found: Features = {}
    hsv = cv2.cvtColor(crop, cv2.COLOR_BGR2HSV)
    channels = {
        "blue": crop[..., 0],
        "green": crop[..., 1],
        "red": crop[..., 2],
        # The reds of a smear lie on both sides of hue 0; turned by half a circle they lie together.
        "hue": (hsv[..., 0].astype(np.int32) + 90) % 180,
        "saturation": hsv[..., 1],
        "value": hsv[..., 2],
    }
    for name, channel in channels.items():
        values = np.asarray(channel)[mask].astype(np.float64)
        deviation = float(values.std())
        centred = values - values.mean()
        found[f"{name}_mean"] = float(values.mean())
        found[f"{name}_deviation"] = deviation
        found[f"{name}_skewness"] = float((centred**3).mean() / deviation**3) if deviation > 1e-6 else 0.0
    return found


def _window(mask: Mask, around: int) -> tuple[slice, slice]:
    """Give the smallest window that holds the region and some pixels around it."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return (
        slice(max(0, rows[0] - around), rows[-1] + 1 + around),
        slice(max(0, columns[0] - around), columns[-1] + 1 + around),
    )


def cooccurrence(grey: Grey, mask: Mask) -> Features:
    """Contrast, homogeneity, energy, correlation and entropy of pairs of grey levels inside the region.

    Haralick et al. (IEEE Transactions on Systems, Man, and Cybernetics 3, 1973), on 16 levels, mean over four
    directions. Pairs with a pixel outside the region are left out.
    """
    from skimage.feature import graycomatrix, graycoprops

    window = _window(mask, 0)
    levels = np.where(mask, grey // (256 // _LEVELS) + 1, 0)[window].astype(np.uint8)
    counts = graycomatrix(levels, _DISTANCES, _ANGLES, levels=_LEVELS + 1, symmetric=True)[1:, 1:].astype(np.float64)
    found: Features = {}
    for index, distance in enumerate(_DISTANCES):
        pairs = counts[:, :, index : index + 1]
        total = pairs.sum(axis=(0, 1), keepdims=True)
        shares = np.divide(pairs, total, out=np.zeros_like(pairs), where=total > 0)
        for name in ("contrast", "homogeneity", "energy", "correlation"):
            found[f"{name}_{distance}"] = float(graycoprops(shares, name).mean())
        logarithms = np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
        found[f"entropy_{distance}"] = float(-(shares * logarithms).sum(axis=(0, 1)).mean())
    return found


def local_binary_patterns(grey: Grey, mask: Mask) -> Features:
    """Shares of the uniform, rotation-invariant patterns (Ojala et al., IEEE PAMI 24, 2002) inside the region."""
    from skimage.feature import local_binary_pattern

    found: Features = {}
    window = _window(mask, max(radius for _, radius in _PATTERNS))
    for neighbours, radius in _PATTERNS:
        codes = local_binary_pattern(grey[window], neighbours, radius, method="uniform")[mask[window]].astype(np.int64)
        shares = np.bincount(codes, minlength=neighbours + 2) / len(codes)
        found |= {f"pattern{neighbours}_{code}": float(share) for code, share in enumerate(shares)}
    return found


def edges(grey: Grey, mask: Mask) -> Features:
    """Mean strength of Sobel's gradient inside the region, and the share of its pixels on an edge of Canny's."""
    from skimage.feature import canny
    from skimage.filters import sobel

    window = _window(mask, 4)
    smooth, inside = grey[window] / 255.0, mask[window]
    return {
        "gradient": float(sobel(smooth)[inside].mean()),
        "edge_share": float(canny(smooth, sigma=1.0)[inside].mean()),
    }


def grey_of(crop: Image) -> Grey:
    """The green channel: where the dyes of nuclei and granules absorb most."""
    return np.ascontiguousarray(crop[..., 1])


def named(prefix: str, found: Features) -> Features:
    """Put the name of a region before each feature's name."""
    return {f"{prefix}_{name}": value for name, value in found.items()}

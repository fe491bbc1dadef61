"""Where the nucleus and the cytoplasm of a cropped cell are: three published ways to find them.

All take a crop as the device cuts it, uint8[S, S, 3] BGR, white-balanced, the nucleus in its middle, and give masks
bool[S, S]. Where a way finds nothing, a disc in the middle stands in for it: every cell must get its features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from edge.core.types import Image

Mask = npt.NDArray[np.bool_]

_NEAR: Final = 0.36
"""Parts of a nucleus have their centre within this share of the crop's side from its middle."""

_LEAST_PART: Final = 0.06
"""Parts smaller than this share of the largest are debris or platelets."""

_LEAST_AREA: Final = 0.01
"""A nucleus covers this share of the crop at least."""

_FALLBACK_RADIUS: Final = 0.22
_SNAKE_STEPS: Final = 8
_CYTOPLASM_REACH: Final = 0.18
"""Cytoplasm is looked for up to this share of the side around the nucleus: beyond lie the neighbours."""


@dataclass(frozen=True, slots=True)
class Regions:
    """Two masks bool[S, S] that do not overlap."""

    nucleus: Mask
    cytoplasm: Mask

    @property
    def cell(self) -> Mask:
        """Nucleus and cytoplasm."""
        return self.nucleus | self.cytoplasm


def disc(side: int, radius: float) -> Mask:
    """Give the disc of `radius` times `side` in the middle."""
    rows, columns = np.ogrid[:side, :side]
    middle = (side - 1) / 2
    return np.asarray((rows - middle) ** 2 + (columns - middle) ** 2 <= (radius * side) ** 2)


def central_parts(mask: Mask) -> Mask:
    """Keep the connected parts that can be lobes of the nucleus in the middle; the fallback disc when none can."""
    side = mask.shape[0]
    _, labels, stats, centres = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    areas = stats[:, cv2.CC_STAT_AREA].astype(np.float64)
    areas[np.hypot(*(centres - (side - 1) / 2).T) > _NEAR * side] = 0
    areas[0] = 0  # the background
    if areas.max() < _LEAST_AREA * side**2:
        return disc(side, _FALLBACK_RADIUS)
    return np.asarray((areas >= _LEAST_PART * areas.max())[labels])


def _smoothed(crop: Image) -> npt.NDArray[np.float64]:
    return cv2.GaussianBlur(crop, (0, 0), 1.0).astype(np.float64)


def _opened(mask: Mask, radius: int) -> Mask:
    """Remove what is thinner than twice the radius; a diamond as the structuring element."""
    kernel = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    return cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, kernel, iterations=radius) > 0


def _dilated(mask: Mask, radius: int) -> Mask:
    kernel = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    return cv2.dilate(mask.astype(np.uint8), kernel, iterations=radius) > 0


def _distance(mask: Mask) -> npt.NDArray[np.float32]:
    """Distance in pixels of each True to the nearest False."""
    return np.asarray(cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE))


def _cleaned(mask: Mask) -> Mask:
    """Remove single pixels and fill holes."""
    opened = _opened(mask, 1).astype(np.uint8)
    outlines, _ = cv2.findContours(opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(opened, outlines, -1, 1, cv2.FILLED) > 0


def by_threshold(crop: Image) -> Regions:
    """Threshold twice: the nucleus is the darkest of three classes of green, the cell the two darker ones near it.

    Otsu's threshold (IEEE Transactions on Systems, Man, and Cybernetics 9, 1979) for several classes (Liao et al.,
    Journal of Information Science and Engineering 17, 2001). Green is where nuclei absorb most.
    """
    from skimage.filters import threshold_multiotsu

    green = _smoothed(crop)[..., 1]
    try:
        dark, middle = threshold_multiotsu(green, classes=3, nbins=64)
    except ValueError:  # fewer than three levels: a blank picture
        return _fallback(crop.shape[0])
    nucleus = central_parts(_cleaned(green < dark))
    return _with_cytoplasm(nucleus, _cleaned(green < middle))


def _fallback(side: int) -> Regions:
    nucleus = disc(side, _FALLBACK_RADIUS)
    return Regions(nucleus, disc(side, _FALLBACK_RADIUS + _CYTOPLASM_REACH) & ~nucleus)


def _with_cytoplasm(nucleus: Mask, cell: Mask) -> Regions:
    """Take as cytoplasm what of `cell` is joined broadly with the nucleus and near it; a ring where that is nothing."""
    side = nucleus.shape[0]
    distance = _distance(~nucleus)
    near = distance <= _CYTOPLASM_REACH * side
    # Red cells that touch hang on by a thin bridge; the opening cuts it.
    opened = _opened(cell | nucleus, max(1, side // 24)) | nucleus
    _, labels = cv2.connectedComponents(opened.astype(np.uint8), connectivity=4)
    connected = np.isin(labels, np.unique(labels[nucleus]))
    cytoplasm = connected & near & ~nucleus
    if cytoplasm.sum() < 0.02 * nucleus.sum() + 8:
        cytoplasm = ~nucleus & (distance <= 0.05 * side)
    return Regions(nucleus, np.asarray(cytoplasm))


def gram_schmidt(wanted: npt.NDArray[Any], unwanted: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Give the part of the colour `wanted`, float[3], that no mixture of `unwanted`, float[K, 3], K < 3, has.

    The projection of a pixel on it is 0 for each unwanted colour and 1 for the wanted one.
    """
    basis: list[npt.NDArray[np.float64]] = []
    for colour in [*unwanted, wanted]:
        rest = np.asarray(colour, dtype=np.float64)
        for vector in basis:
            rest = rest - (rest @ vector) * vector
        length = float(np.linalg.norm(rest))
        if length > 1e-9:
            basis.append(rest / length)
        last = rest
    return np.asarray(last / max(float(last @ last), 1e-9))


def by_gram_schmidt(crop: Image) -> Regions:
    """Amplify the colour of the nucleus against the others, threshold it, and let a snake find the cell's border.

    Gram-Schmidt orthogonalisation as Rezatofighi and Soltanian-Zadeh use it. They take the colours from samples marked
    by hand; here they are the means of three classes of the crop's own green. Their snake is parametric; here it is a
    morphological one without edges (Marquez-Neila et al., IEEE PAMI 36, 2014), which splits and joins by itself.
    """
    from skimage.filters import threshold_multiotsu, threshold_otsu

    smooth = _smoothed(crop)
    green = smooth[..., 1]
    try:
        dark, bright = threshold_multiotsu(green, classes=3, nbins=64)
    except ValueError:
        return _fallback(crop.shape[0])
    near = disc(crop.shape[0], _NEAR)
    absorbed = 255.0 - smooth
    classes = [green < dark, (green >= dark) & (green < bright), green >= bright]
    if not (classes[0] & near).any():
        return _fallback(crop.shape[0])
    means = [absorbed[mask].mean(axis=0) for mask in (classes[0] & near, classes[1], classes[2])]
    amplified = np.clip(absorbed @ gram_schmidt(means[0], np.stack(means[1:])), -0.5, 1.5)
    nucleus = central_parts(_cleaned((amplified > threshold_otsu(amplified)) & (green < bright)))
    return _with_cytoplasm(nucleus, _snake(green, nucleus))


def _snake(green: npt.NDArray[np.float64], nucleus: Mask) -> Mask:
    from skimage.segmentation import morphological_chan_vese

    start = _dilated(nucleus, max(2, nucleus.shape[0] // 16))
    # Darker than the nucleus' surroundings counts as the surroundings: the snake must not end at the nucleus itself.
    flat = np.maximum(green, np.quantile(green[start & ~nucleus], 0.25)) if (start & ~nucleus).any() else green
    # Every second pixel is enough for a border this smooth, at a quarter of the time.
    found = morphological_chan_vese(flat[::2, ::2], _SNAKE_STEPS, init_level_set=start[::2, ::2], smoothing=1)
    side = nucleus.shape[0]
    return np.asarray(found.repeat(2, axis=0).repeat(2, axis=1)[:side, :side], dtype=bool)


def by_watershed(crop: Image) -> Regions:
    """Cut the cell from its neighbours at the watersheds of the distance to the background.

    Markers are the nucleus and, outside it, the middles of the neighbours (Vincent and Soille, IEEE PAMI 13, 1991;
    the distance as landscape is the usual way for cells that touch).
    """
    from skimage.feature import peak_local_max
    from skimage.filters import threshold_multiotsu
    from skimage.segmentation import watershed

    smooth = _smoothed(crop)
    nucleus = by_threshold(crop).nucleus
    darkest = smooth.min(axis=2)
    try:
        _, bright = threshold_multiotsu(darkest, classes=3, nbins=64)
    except ValueError:
        return _fallback(crop.shape[0])
    foreground = _cleaned(darkest < bright) | nucleus
    distance = _distance(foreground)
    guarded = _dilated(nucleus, max(3, crop.shape[0] // 12))
    peaks = peak_local_max(
        distance, min_distance=max(4, crop.shape[0] // 16), labels=(foreground & ~guarded).astype(int)
    )
    markers = np.zeros(nucleus.shape, dtype=np.int32)
    for index, (row, column) in enumerate(peaks, start=2):
        markers[row, column] = index
    markers[nucleus] = 1
    cell = watershed(-distance, markers, mask=foreground) == 1
    return _with_cytoplasm(nucleus, np.asarray(cell))

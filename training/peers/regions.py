"""Where the nucleus and the cytoplasm of a cropped cell are: three published ways to find them.

All take a crop as the device cuts it, uint8[S, S, 3] BGR, white-balanced, the nucleus in its middle, and give masks
bool[S, S]. Where a way finds nothing, a disc in the middle stands in for it: every cell must get its features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

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
    from skimage.measure import label, regionprops

    side = mask.shape[0]
    labels = label(mask, connectivity=2)
    parts = []
    for part in regionprops(labels):
        row, column = part.centroid
        if np.hypot(row - (side - 1) / 2, column - (side - 1) / 2) <= _NEAR * side:
            parts.append(part)
    largest = max((part.area for part in parts), default=0)
    if largest < _LEAST_AREA * side**2:
        return disc(side, _FALLBACK_RADIUS)
    kept = [part.label for part in parts if part.area >= _LEAST_PART * largest]
    return np.asarray(np.isin(labels, kept))


def _smoothed(crop: Image) -> npt.NDArray[np.float64]:
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(crop.astype(np.float64), (1.0, 1.0, 0.0)))


def _cleaned(mask: Mask) -> Mask:
    from scipy.ndimage import binary_fill_holes, binary_opening

    opened = binary_opening(mask, iterations=1)
    return np.asarray(binary_fill_holes(opened))


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
    from scipy.ndimage import binary_opening, distance_transform_edt
    from skimage.measure import label

    side = nucleus.shape[0]
    distance = distance_transform_edt(~nucleus)
    near = distance <= _CYTOPLASM_REACH * side
    # Red cells that touch hang on by a thin bridge; the opening cuts it.
    opened = binary_opening(cell | nucleus, iterations=max(1, side // 24)) | nucleus
    labels = label(opened, connectivity=1)
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
    from scipy.ndimage import binary_dilation
    from skimage.segmentation import morphological_chan_vese

    start = binary_dilation(nucleus, iterations=max(2, nucleus.shape[0] // 16))
    # Darker than the nucleus' surroundings counts as the surroundings: the snake must not end at the nucleus itself.
    flat = np.maximum(green, np.quantile(green[start & ~nucleus], 0.25)) if (start & ~nucleus).any() else green
    return np.asarray(morphological_chan_vese(flat, _SNAKE_STEPS, init_level_set=start, smoothing=1), dtype=bool)


def by_watershed(crop: Image) -> Regions:
    """Cut the cell from its neighbours at the watersheds of the distance to the background.

    Markers are the nucleus and, outside it, the middles of the neighbours (Vincent and Soille, IEEE PAMI 13, 1991;
    the distance as landscape is the usual way for cells that touch).
    """
    from scipy.ndimage import binary_dilation, distance_transform_edt
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
    distance = distance_transform_edt(foreground)
    guarded = binary_dilation(nucleus, iterations=max(3, crop.shape[0] // 12))
    peaks = peak_local_max(
        distance, min_distance=max(4, crop.shape[0] // 16), labels=(foreground & ~guarded).astype(int)
    )
    markers = np.zeros(nucleus.shape, dtype=np.int32)
    for index, (row, column) in enumerate(peaks, start=2):
        markers[row, column] = index
    markers[nucleus] = 1
    cell = watershed(-distance, markers, mask=foreground) == 1
    return _with_cytoplasm(nucleus, np.asarray(cell))

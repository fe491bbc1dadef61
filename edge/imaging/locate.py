"""The cell locator: finds nucleated cells in a field whose illumination has been corrected.

Nuclei take up azure dye: they absorb red light, which red cells and blank slide let through, and absorb green more than
blue. That opponent signal, in optical density, is thresholded relative to the darkest nuclei but never below an
absolute floor, so that an empty field stays empty. The red cells of the same field are the ruler: at 7.5 micrometres
across they set the area that a nucleus must have, the gap that may lie between its lobes, the length at which touching
cells are split, and the density that no overlap of theirs can reach. So the same settings serve every magnification.

One counting rule for the border: a cell belongs to the field that holds the centre of its nucleus (the associated-point
rule of stereology), judged by how deep the nucleus reaches into the field.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edge.core.types import Box, FloatArray, Image, LocatedCell
from edge.imaging.flatfield import BLANK

_WORKING_SIDES = (480, 960, 1920)
"""Longer side, in pixels, of the copy that cells are searched on; the next where red cells would be too small."""

_CROWDED = 0.7
"""Share of the field above which whatever is darker than the slide counts as crowded."""

_STAINED = 24
"""Density above which a pixel is not blank slide, in 400ths."""

_SMALLEST_RED_CELL = 4.0
"""Radius of a red cell, in pixels of the working copy, below which lobes can no longer be told apart."""

_DENSITY = (-np.log10((np.arange(256) + 1.0) / (BLANK + 1.0))).astype(np.float32)
"""Optical density of each grey level of a corrected picture."""

_GREEN_BLUE_WEIGHT = 0.5
_DENSITY_FLOOR = 0.09
_DENSITY_SHARE = 0.40
"""Pixels above this share of the darkest nuclei's density, and above the floor, are nucleus."""

_PEAK_FLOOR = 0.11
_PEAK_SHARE = 0.70
"""The darkest quarter of a nucleus reaches this share of the darkest nuclei's density."""

_PEAK_ENOUGH = 0.4
"""A nucleus this dense need not match the darkest: a basophil in the field must not hide a pale monocyte."""

_OVERLAP = 3.0
"""The darkest quarter of a nucleus is this many times as dense as red cells; an overlap of two is twice as dense."""

# Areas are in units of a red cell's, lengths in units of its radius.
_LOBE_AREA = 0.15
_NUCLEUS_AREA = 0.45
_NUCLEUS_FIELD_SHARE = 0.0048
_LARGEST_AREA = 30.0
_LOBE_GAP = 0.9
_NUCLEUS_EXTENT = 4.0
_TOUCHING_LENGTH = 4.7
_TOUCHING_ASPECT = 1.8
_WAIST = 0.7
_FILLED = 0.30
"""A nucleus fills at least this share of its box: a ring of background around red cells does not."""

_SLENDER = 0.4
_VISIBLE_DEPTH = 0.45
"""At the border, a nucleus reaches at least this share of its length along the border into the field: one half would be
exact for a disc."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Lobes that belong to one nucleus: their common extent in pixels, summed area and highest density."""

    left: int
    top: int
    right: int
    bottom: int
    area: float
    peak: float

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def extent(self) -> int:
        return max(self.width, self.height)

    @property
    def centre(self) -> tuple[float, float]:
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    def join(self, other: _Group) -> _Group:
        return _Group(
            min(self.left, other.left),
            min(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
            self.area + other.area,
            max(self.peak, other.peak),
        )

    def gap(self, other: _Group) -> float:
        across = max(0, max(self.left, other.left) - min(self.right, other.right))
        down = max(0, max(self.top, other.top) - min(self.bottom, other.bottom))
        return float(np.hypot(across, down))


def nuclear_density(corrected: Image, blur: float) -> FloatArray:
    """The azure signal of every pixel, in optical density: float32[H, W]; about 0 on blank slide and red cells.

    `blur` is the standard deviation, in pixels, of the Gaussian that comes first.
    """
    blue, green, red = cv2.split(cv2.LUT(cv2.GaussianBlur(corrected, (0, 0), max(0.7, blur)), _DENSITY))
    return np.asarray(np.maximum(red, 0) + _GREEN_BLUE_WEIGHT * (green - blue), dtype=np.float32)


def locate(corrected: Image) -> tuple[LocatedCell, ...]:
    """Find the nucleated cells of a field, uint8[H, W, 3] with its illumination corrected, from left to right."""
    for side in _WORKING_SIDES:
        small, scale = _working_copy(corrected, side)
        red_cell, dark = red_cells(small)
        if red_cell >= _SMALLEST_RED_CELL or scale == 1.0:
            break
    density = nuclear_density(small, 0.15 * red_cell)
    disc = float(np.pi * red_cell**2)
    # Half a red cell's area is the smallest share of the field that a nucleus can cover.
    darkest = float(np.quantile(density, max(0.0, 1.0 - 0.5 * disc / density.size)))
    stained = (density > max(_DENSITY_FLOOR, _DENSITY_SHARE * darkest)).astype(np.uint8)
    opened = cv2.morphologyEx(stained, cv2.MORPH_OPEN, _disc(0.2 * red_cell))
    mask = cv2.morphologyEx(opened, cv2.MORPH_CLOSE, _disc(0.3 * red_cell)).astype(np.uint8)
    # Where red cells lie in clumps the ruler is too long: no nucleus need be larger than a small share of the field.
    smallest = min(_NUCLEUS_AREA * disc, _NUCLEUS_FIELD_SHARE * density.size)
    lobes = _lobes(mask, density, min(red_cell, float(np.sqrt(smallest / (_NUCLEUS_AREA * np.pi)))))
    red_cells_alone = density[(dark > 0) & (mask == 0)]
    red_cell_density = float(np.median(red_cells_alone)) if len(red_cells_alone) else 0.0
    least_peak = max(_PEAK_FLOOR, min(_PEAK_SHARE * darkest, _PEAK_ENOUGH), _OVERLAP * red_cell_density)
    nuclei = _join_lobes([lobe for lobe in lobes if lobe.peak >= least_peak], red_cell)
    height, width = small.shape[:2]
    kept = [
        nucleus
        for nucleus in nuclei
        if smallest <= nucleus.area <= _LARGEST_AREA * disc
        and nucleus.area >= _FILLED * nucleus.width * nucleus.height
        and _is_counted(nucleus, width, height)
    ]
    kept.sort(key=lambda nucleus: nucleus.centre)
    return tuple(_located(nucleus, scale, corrected.shape[1], corrected.shape[0]) for nucleus in kept)


def red_cells(corrected: Image) -> tuple[float, npt.NDArray[np.uint8]]:
    """The typical radius of a field's red cells, in pixels, and the mask of whatever is darker than the slide.

    The radius comes from the largest inscribed circles of whatever is darker than the slide, with the pale centres
    filled; in a crowded field only the darker part of the cells counts, so that they come apart. It is guessed from the
    field's size where there are no cells.
    """
    blue, green, red = cv2.split(cv2.GaussianBlur(corrected, (0, 0), 1.0))
    # The densest of the three colours is the darkest one.
    density = cv2.LUT(cv2.min(cv2.min(blue, green), red), _DENSITY)
    grey = np.clip(density * 400, 0, 255).astype(np.uint8)
    threshold, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_OTSU)
    dark = (grey > min(_STAINED, 0.75 * threshold)).astype(np.uint8)
    for share in (0.75, 1.0, 1.3, 1.6):
        cells = _fill_holes((grey > max(10.0, share * threshold)).astype(np.uint8))
        if cells.mean() <= _CROWDED:
            break
    # Without a border of background the distances would have no beginning.
    distance = cv2.distanceTransform(cells, cv2.DIST_L2, 5) if not cells.all() else np.zeros(cells.shape, np.float32)
    highest = cv2.dilate(distance, np.ones((7, 7), np.uint8))
    radii = np.sort(distance[(distance >= highest - 1e-6) & (distance > 2.0)])
    if len(radii) < 3:
        return 0.04 * max(corrected.shape[:2]), dark
    # Weighted by volume, so that platelets and debris, many but small, do not set the size.
    weight = np.cumsum(radii**3)
    return float(radii[np.searchsorted(weight, 0.3 * weight[-1])]), dark


def _fill_holes(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Fill the gaps that are enclosed and no larger than a hundredth of the picture: the pale centres of red cells."""
    outside = cv2.copyMakeBorder(1 - mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(outside, connectivity=4)
    hole = stats[:, cv2.CC_STAT_AREA] <= 0.01 * mask.size
    hole[0] = False
    return np.asarray(mask | hole[labels][1:-1, 1:-1], dtype=np.uint8)


def _lobes(mask: npt.NDArray[np.uint8], density: FloatArray, red_cell: float) -> list[_Group]:
    """The connected parts of the mask, touching cells split, without those that are too small for a lobe."""
    smallest = _LOBE_AREA * np.pi * red_cell**2
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    lobes: list[_Group] = []
    for label, (x, y, width, height, area) in enumerate(stats[1:].tolist(), start=1):
        if area < smallest:
            continue
        window = np.s_[y : y + height, x : x + width]
        part = (labels[window] == label).astype(np.uint8)
        for piece in _split_touching(part, red_cell):
            lobes.append(_group(piece, density[window], x, y))
    return lobes


def _group(part: npt.NDArray[np.uint8], density: FloatArray, x: int, y: int) -> _Group:
    left, top, width, height = cv2.boundingRect(part)
    values = density[part > 0]
    quarter = max(1, len(values) // 4)
    peak = float(np.partition(values, -quarter)[-quarter])
    return _Group(x + left, y + top, x + left + width, y + top + height, float(len(values)), peak)


def _split_touching(part: npt.NDArray[np.uint8], red_cell: float) -> list[npt.NDArray[np.uint8]]:
    """Split touching nuclei at their waist: the watershed between the cores of the map of distances to the edge.

    Only a long, slender part is split: the lobes of one nucleus lie closer together than two cells can.
    """
    contours, _ = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    _, sides, _ = cv2.minAreaRect(np.concatenate(contours))
    if max(sides) < _TOUCHING_LENGTH * red_cell or max(sides) < _TOUCHING_ASPECT * min(sides):
        return [part]
    padded = cv2.copyMakeBorder(part, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
    cores = (distance > _WAIST * distance.max()).astype(np.uint8)
    count, core_of = cv2.connectedComponents(cores)
    if count < 3:
        return [part]
    _, nearest = cv2.distanceTransformWithLabels(1 - cores, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_CCOMP)
    # The labels of the distance transform are its own: each core tells which label means it.
    pieces = [part * (nearest == nearest[core_of == core][0]).astype(np.uint8) for core in range(1, count)]
    smallest = _NUCLEUS_AREA * np.pi * red_cell**2
    return pieces if all(piece.sum() >= smallest for piece in pieces) else [part]


def _join_lobes(lobes: list[_Group], red_cell: float) -> list[_Group]:
    """Join lobes to nuclei, the closest-fitting pair first, as long as the whole is no larger than a nucleus can be."""
    groups = list(lobes)
    while True:
        candidates = [
            (joined.extent, first, second, joined)
            for second in range(len(groups))
            for first in range(second)
            if (joined := groups[first].join(groups[second])).extent <= _NUCLEUS_EXTENT * red_cell
            and groups[first].gap(groups[second]) <= _LOBE_GAP * red_cell
            and min(groups[first].peak, groups[second].peak) >= _PEAK_SHARE * joined.peak
        ]
        if not candidates:
            return groups
        _, first, second, joined = min(candidates, key=lambda candidate: candidate[:3])
        groups = [group for index, group in enumerate(groups) if index not in (first, second)] + [joined]


def _is_counted(nucleus: _Group, width: int, height: int) -> bool:
    """The border rule, and at the same time the refusal of slender artefacts inside the field."""
    beside = nucleus.left <= 1 or nucleus.right >= width - 1
    above = nucleus.top <= 1 or nucleus.bottom >= height - 1
    if not (beside or above):
        return min(nucleus.width, nucleus.height) >= _SLENDER * nucleus.extent
    if beside and nucleus.width < _VISIBLE_DEPTH * nucleus.height:
        return False
    return not (above and nucleus.height < _VISIBLE_DEPTH * nucleus.width)


def _disc(radius: float) -> npt.NDArray[np.uint8]:
    side = 2 * max(1, round(radius)) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)).astype(np.uint8)


def _working_copy(corrected: Image, side: int) -> tuple[Image, float]:
    scale = min(1.0, side / max(corrected.shape[:2]))
    if scale == 1.0:
        return corrected, 1.0
    return cv2.resize(corrected, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.uint8), scale


_SINGLE_SIDE = 160


def single_cell(corrected: Image) -> LocatedCell:
    """Find the one cell that a single-cell picture shows; the whole picture is the cell where no nucleus stands out.

    The picture is expected to be centred on its cell, roughly: of several nuclei the large and central one is taken.
    """
    height, width = corrected.shape[:2]
    small, scale = _working_copy(corrected, _SINGLE_SIDE)
    side = max(small.shape[:2])
    density = nuclear_density(small, 0.012 * side)
    darkest = float(np.quantile(density, 0.97))
    mask = (density > max(_DENSITY_FLOOR, 0.45 * darkest)).astype(np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, _disc(0.015 * side)).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask)
    groups = [
        _Group(x, y, x + across, y + down, area, 0.0)
        for x, y, across, down, area in stats[1:].tolist()
        if area >= 0.003 * side * side
    ]
    if not groups:
        return LocatedCell(Box(0, 0, width, height), (width / 2, height / 2), 0.5 * min(width, height))
    middle = (small.shape[1] / 2, small.shape[0] / 2)

    def prominence(group: _Group) -> float:
        distance = np.hypot(group.centre[0] - middle[0], group.centre[1] - middle[1])
        return float(group.area * np.exp(-((distance / (0.3 * side)) ** 2)))

    groups.sort(key=prominence, reverse=True)
    nucleus = groups[0]
    for lobe in groups[1:]:
        joined = nucleus.join(lobe)
        if joined.extent <= max(1.25 * nucleus.extent, 0.45 * side):
            nucleus = joined
    return _located(nucleus, scale, width, height)


def _located(nucleus: _Group, scale: float, width: int, height: int) -> LocatedCell:
    """Put a nucleus of the working copy back into the full picture, with the box of its whole cell around it.

    A cell is rounder than its nucleus: the box is never narrower than the nucleus is long.
    """
    box_width = max(1.3 * nucleus.width, 1.08 * nucleus.extent)
    box_height = max(1.3 * nucleus.height, 1.08 * nucleus.extent)
    x, y = nucleus.centre
    left = max(0, round((x - box_width / 2) / scale))
    top = max(0, round((y - box_height / 2) / scale))
    right = min(width, round((x + box_width / 2) / scale))
    bottom = min(height, round((y + box_height / 2) / scale))
    diameter = float(np.sqrt(nucleus.width * nucleus.height))
    return LocatedCell(Box(left, top, right - left, bottom - top), (x / scale, y / scale), diameter / scale)

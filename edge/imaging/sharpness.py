"""How sharp the edges of a picture are, whatever its magnification, gain, contrast and crowding."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.uint8]
"""uint8[H, W], one channel; green, since both dyes absorb it and half of a colour sensor's sites see it."""

_STANDARD_DIAMETER = 24
"""Cells are looked at with this many pixels across: 0.3 micrometres a pixel, as an oil objective resolves."""

_WINDOW = 0.35
"""Side of the window in which an edge is set against its contrast, in cell diameters."""

_SMOOTHING = 1 / 30
"""Standard deviation, in cell diameters, of the Gaussian that takes the pixel noise away."""

_LEAST_OBJECT = 6.5
_MOST_PIXELS = (480, 720)

_LEAST_CONTRAST = 0.03
_NOISE_FACTOR = 2.5


def chord_diameter(plane: Plane) -> float:
    """Estimate the diameter of the dark objects, in pixels; the longer side of the picture where there are none.

    By Cauchy and Crofton the mean chord of a planar body is pi * area / perimeter, pi / 4 of the diameter for a disc,
    and the perimeter follows from how often lines enter and leave: nothing has to be segmented or separated. What is
    only a few pixels across is noise, not an object.
    """
    smooth = cv2.GaussianBlur(plane, (0, 0), 1.0)
    # Nuclei would draw the threshold away from the red cells, which are the more numerous.
    floor = int(np.quantile(smooth[::4, ::4], 0.08))
    level, _ = cv2.threshold(np.maximum(smooth, floor).astype(np.uint8), 0, 255, cv2.THRESH_OTSU)
    dark = smooth < level
    crossings = np.count_nonzero(dark[1:] != dark[:-1]) + np.count_nonzero(dark[:, 1:] != dark[:, :-1])
    area = np.count_nonzero(dark)
    longest = float(max(plane.shape))
    if not crossings or not area:
        return longest
    # Both directions together enter and leave a body 2 * (height + width) times: 4 * diameter for a disc.
    diameter = 16 / np.pi * area / crossings
    return float(min(longest, diameter)) if diameter >= _LEAST_OBJECT else longest


def _at_standard_scale(plane: Plane, diameter: float) -> Plane:
    """Resize so that `diameter` becomes the standard one; of a very large result the middle is enough."""
    factor = _STANDARD_DIAMETER / diameter
    height, width = (min(side, round(most / factor)) for side, most in zip(plane.shape, _MOST_PIXELS, strict=True))
    top, left = (plane.shape[0] - height) // 2, (plane.shape[1] - width) // 2
    plane = plane[top : top + height, left : left + width]
    whole = int(1 / factor)
    if whole > 1:
        plane = plane[: height // whole * whole, : width // whole * whole]
        plane = _resize(plane, width // whole, height // whole, cv2.INTER_AREA)
    return _resize(plane, max(1, round(width * factor)), max(1, round(height * factor)), cv2.INTER_LINEAR)


def _resize(plane: Plane, width: int, height: int, way: int) -> Plane:
    return cv2.resize(plane, (width, height), interpolation=way).astype(np.uint8, copy=False)


def edge_sharpness(plane: Plane, diameter: float) -> float | None:
    """Measure the sharpness of the edges of cells that are `diameter` pixels across.

    In every window with an edge the steepest slope is divided by the range of grey levels and multiplied by the width
    of the window: how many times the edge would fit into it, less one. It is 0 for a ramp across the whole window, 1.4
    to 2 for cells in focus, and None where there is no texture to judge. Gain, contrast and the number of cells drop
    out; magnification does because the window, and the smoothing against noise, scale with the cells.
    """
    plane = _at_standard_scale(plane, min(max(diameter, 4.0), min(plane.shape) / 2))
    window = round(_WINDOW * _STANDARD_DIAMETER) | 1
    if min(plane.shape) < 2 * window:
        return None
    smooth = cv2.GaussianBlur(plane.astype(np.uint16) * 128, (0, 0), _SMOOTHING * _STANDARD_DIAMETER)
    across, down = (cv2.Sobel(smooth, cv2.CV_32F, dx, 1 - dx) for dx in (1, 0))
    slope = (cv2.magnitude(across, down) / 8).astype(np.uint16)
    kernel = np.ones((window, window), np.uint8)
    step = window // 2
    inner = (slice(window // 2, -(window // 2), step), slice(window // 2, -(window // 2), step))
    bright = cv2.dilate(smooth, kernel)[inner].astype(np.float32)
    extent = bright - cv2.erode(smooth, kernel)[inner].astype(np.float32)
    steepest = cv2.dilate(slope, kernel)[inner].astype(np.float32)
    least, most = np.quantile(extent, (0.05, 0.98)).tolist()
    contrast = float(np.median(bright))
    # A field of noise has the same range everywhere; a field of cells has blank slide and the inside of cells.
    edges = extent >= max(0.35 * most, _LEAST_CONTRAST * contrast, 128.0 * 3)
    if most < _NOISE_FACTOR * least or np.count_nonzero(edges) < max(8, 0.002 * edges.size):
        return None
    return max(0.0, float(np.median(steepest[edges] / extent[edges])) * (window - 1) - 1.0)


def edge_convexity(plane: Plane, diameter: float) -> float | None:
    """Measure the share, 0..1, of edge pixels that bend around what is dark; None where there is no edge.

    The curvature of the level line through a pixel, (Ixx Iy^2 - 2 Ix Iy Ixy + Iyy Ix^2) / |grad I|^3, is positive where
    the dark side is the convex one.
    """
    factor = max(1, int(diameter / 12))
    if factor > 1:
        plane = cv2.resize(plane, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA).astype(np.uint8)
    smooth = cv2.GaussianBlur(plane.astype(np.float32), (0, 0), 1.5)
    first_x, first_y = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    slope = cv2.magnitude(first_x, first_y)
    edges = slope > max(0.35 * float(np.quantile(slope[::2, ::2], 0.98)), 8.0)
    if np.count_nonzero(edges) < 20:
        return None
    second_x, second_y = cv2.Sobel(smooth, cv2.CV_32F, 2, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 2)
    mixed = cv2.Sobel(smooth, cv2.CV_32F, 1, 1)
    bend = second_x * first_y**2 - 2 * first_x * first_y * mixed + second_y * first_x**2
    return float((bend[edges] > 0).mean())

"""Flat-field and white-balance correction: the blank slide becomes an even, neutral light grey.

Cheap cameras vignette badly and cast colour, often each channel in its own way. A smear carries its own reference: the
blank slide between the cells is the brightest thing in the field, so its colour can be followed across the picture.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from edge.core.types import FloatImage, Image

BLANK = 230.0
"""Grey level that the blank slide has after correction; room above it keeps highlights from clipping."""

_BLACK = 16
"""No channel of a black bar is brighter; the darkest nucleus lets more light through in red or blue."""

_BAR = 0.98
"""A line of the picture belongs to a bar when more than this share of it is black."""

_GRID = 64
"""Longer side, in pixels, of the copy that the surface is fitted on."""


def _basis(height: int, width: int, degree: int) -> npt.NDArray[np.float64]:
    """All monomials x^i y^j, i + j <= degree, over -1..1: float64[height * width, terms]."""
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    return np.stack([(x**i * y**j).ravel() for i in range(degree + 1) for j in range(degree + 1 - i)], axis=1)


def fit(image: Image, degree: int = 4) -> FloatImage:
    """Fit the blank slide's colour over one field: float32[h, w, 3], a small copy of the field in 0-255.

    An asymmetric least-squares fit of a polynomial to the logarithm of each channel: pixels darker than the surface
    (cells) lose their weight, brighter ones keep it, so that the surface settles on the blank slide between the cells.
    """
    height, width = image.shape[:2]
    ratio = _GRID / max(height, width)
    small_size = (max(8, round(width * ratio)), max(8, round(height * ratio)))
    small = cv2.resize(image, small_size, interpolation=cv2.INTER_AREA)
    logarithm = np.log(small.reshape(-1, 3).astype(np.float64) + 1.0)
    basis = _basis(small_size[1], small_size[0], degree)
    # Start from a constant at the bright end, so that a crowded field does not start among its red cells.
    surface = np.broadcast_to(np.quantile(logarithm, 0.9, axis=0), logarithm.shape)
    for _ in range(12):
        # All channels of a pixel are weighted together: a pixel is blank or it is not.
        residual = (logarithm - surface).mean(axis=1)
        weight = np.where(residual > 0, 1.0, 1.0 / (1.0 + (residual / 0.03) ** 2))
        weighted = basis * weight[:, None]
        normal = basis.T @ weighted + 1e-6 * len(basis) * np.eye(basis.shape[1])
        surface = basis @ np.linalg.solve(normal, weighted.T @ logarithm)
    return np.asarray(np.exp(surface).reshape(small.shape) - 1.0, dtype=np.float32)


def white_balance(image: Image) -> Image:
    """Correct a single-cell picture, uint8[H, W, 3]: one gain per channel, since the cell hides any gradient.

    Black bars at the border, which a cropping program adds where the cell lay at the edge of its field, become blank
    slide: they are no part of the picture, and nothing on a smear is as dark.
    """
    top, bottom, left, right = padding(image)
    inner = image[top : image.shape[0] - bottom, left : image.shape[1] - right]
    corrected = correct(inner, fit(inner, degree=0))
    if not any((top, bottom, left, right)):
        return corrected
    blank = (BLANK, BLANK, BLANK)
    framed = cv2.copyMakeBorder(corrected, top, bottom, left, right, cv2.BORDER_CONSTANT, value=blank)
    return np.asarray(framed, dtype=np.uint8)


def padding(image: Image) -> tuple[int, int, int, int]:
    """Measure the black bars of a picture, uint8[H, W, 3]: rows at top and bottom, columns at left and right.

    One row or column more is taken where there is a bar: compression lets the picture bleed into it. A picture that is
    black almost everywhere has no bars.
    """
    dark = image.max(axis=2) <= _BLACK

    def bar(lines: npt.NDArray[np.bool_]) -> int:
        depth = len(lines) if lines.all() else int(np.argmin(lines))
        return depth + 1 if depth else 0

    rows, columns = dark.mean(axis=1) > _BAR, dark.mean(axis=0) > _BAR
    found = bar(rows), bar(rows[::-1]), bar(columns), bar(columns[::-1])
    height, width = image.shape[0] - found[0] - found[1], image.shape[1] - found[2] - found[3]
    return found if height >= 8 and width >= 8 else (0, 0, 0, 0)


def correct(image: Image, surface: FloatImage | None = None) -> Image:
    """Divide a field by its illumination, so that the blank slide is an even grey of `BLANK`: uint8[H, W, 3].

    `surface` comes from a commissioning record, at any size; without one it is fitted to this field.
    """
    surface = fit(image) if surface is None else surface
    height, width = image.shape[:2]
    gain = cv2.resize(BLANK / np.maximum(surface, 8.0), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.multiply(image, gain, dtype=cv2.CV_8U), dtype=np.uint8)

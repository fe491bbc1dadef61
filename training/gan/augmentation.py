"""Differentiable augmentation (Zhao et al., Differentiable augmentation for data-efficient GAN training, NeurIPS 2020).

The discriminator sees real and generated pictures through the same random changes, and their gradient reaches the
generator: with few pictures it cannot learn them by heart, and the generator does not learn to draw the changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import keras
from keras import ops, random

_SHIFT = 0.125
_HOLE = 0.5


def brightness(images: Any, amount: Any) -> Any:
    """Add `amount` float[N] to every value of an image float[N, H, W, C]."""
    return images + amount[:, None, None, None]


def saturation(images: Any, factor: Any) -> Any:
    """Scale the distance of each pixel from its own grey by `factor` float[N]."""
    grey = ops.mean(images, axis=3, keepdims=True)
    return (images - grey) * factor[:, None, None, None] + grey


def contrast(images: Any, factor: Any) -> Any:
    """Scale the distance of each value from the image's mean by `factor` float[N]."""
    mean = ops.mean(images, axis=(1, 2, 3), keepdims=True)
    return (images - mean) * factor[:, None, None, None] + mean


def _moved(length: int, shift: Any) -> Any:
    # A product with a shifted unit matrix instead of a gather: it has a gradient on every backend.
    rows, columns = ops.arange(length)[None, :, None], ops.arange(length)[None, None, :]
    return ops.cast(ops.equal(columns, rows - shift[:, None, None]), "float32")


def translate(images: Any, down: Any, right: Any) -> Any:
    """Move images by whole pixels, `down` and `right` int32[N]; what comes in from outside is 0."""
    _, height, width, _ = images.shape
    moved = ops.einsum("nij,njwc->niwc", _moved(height, down), images)
    return ops.einsum("nij,nhjc->nhic", _moved(width, right), moved)


def cut_out(images: Any, top: Any, left: Any, side: int) -> Any:
    """Set the square of `side` pixels whose corner is at `top`, `left` int32[N] to 0; it may reach over the border."""
    _, height, width, _ = images.shape
    y, x = ops.arange(height)[None, :], ops.arange(width)[None, :]
    rows = ops.logical_and(y >= top[:, None], y < top[:, None] + side)
    columns = ops.logical_and(x >= left[:, None], x < left[:, None] + side)
    hole = ops.logical_and(rows[:, :, None], columns[:, None, :])
    return images * (1.0 - ops.cast(hole, "float32"))[..., None]


def _colour(images: Any, seed: keras.random.SeedGenerator) -> Any:
    n = ops.shape(images)[0]
    images = brightness(images, random.uniform((n,), -0.5, 0.5, seed=seed))
    images = saturation(images, random.uniform((n,), 0.0, 2.0, seed=seed))
    return contrast(images, random.uniform((n,), 0.5, 1.5, seed=seed))


def _translation(images: Any, seed: keras.random.SeedGenerator) -> Any:
    n, reach = ops.shape(images)[0], int(images.shape[1] * _SHIFT + 0.5)
    down, right = (ops.cast(random.randint((n,), -reach, reach + 1, seed=seed), "int32") for _ in range(2))
    return translate(images, down, right)


def _cutout(images: Any, seed: keras.random.SeedGenerator) -> Any:
    n, side = ops.shape(images)[0], images.shape[1]
    hole = int(side * _HOLE + 0.5)
    low, high = -(hole // 2), side - hole // 2
    top, left = (ops.cast(random.randint((n,), low, high, seed=seed), "int32") for _ in range(2))
    return cut_out(images, top, left, hole)


POLICIES: Final[dict[str, Callable[[Any, keras.random.SeedGenerator], Any]]] = {
    "colour": _colour,
    "translation": _translation,
    "cutout": _cutout,
}
"""Each by its name, with the strengths of the paper: brightness +-0.5, saturation 0-2, contrast 0.5-1.5, an eighth of
the side, half of the side."""


def augment(images: Any, policies: tuple[str, ...], seed: keras.random.SeedGenerator) -> Any:
    """Apply policies in order to float[N, S, S, C] in [-1, 1]. Raises KeyError for a name that is not in POLICIES."""
    for name in policies:
        images = POLICIES[name](images, seed)
    return images

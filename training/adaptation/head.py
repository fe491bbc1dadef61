"""The head alone, from few cells: a logistic regression that leaves the old head only where the site asks for it.

The problem is convex and small, so it is solved to its end: no learning rate, no early stop, no chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from scipy import optimize

from edge.inference.classifier import softmax
from training.adaptation.tail import CUT, Features, Pool, soften

Matrix = npt.NDArray[np.float64]

_ITERATIONS = 100


@dataclass(frozen=True, slots=True)
class Ridge:
    """`penalty` is the weight of the squared distance from the old head; `smoothing` that of the labels."""

    penalty: float
    smoothing: float = 0.05


def pooling(model: keras.Model) -> keras.Model:
    """Give the part of a student from the kept features to what its head weighs: float32[N, C]."""
    before = model.get_layer("head").input
    return keras.Model(model.get_layer(CUT).output, keras.layers.GlobalAveragePooling2D()(before))


def pooled(part: keras.Model, features: Features) -> npt.NDArray[np.float32]:
    """Pool features float16[..., h, w, C] into float32[..., C']."""
    flat = features.reshape(-1, *features.shape[-3:]).astype(np.float32)
    found = np.asarray(part.predict(flat, batch_size=128, verbose=0), dtype=np.float32)
    return found.reshape(*features.shape[:-3], -1)


def weights_of(head: keras.layers.Layer) -> Matrix:
    """Kernel and bias of a head as one matrix float64[C + 1, 6]."""
    return np.vstack([np.asarray(head.kernel)[0, 0], np.asarray(head.bias)]).astype(np.float64)


def assign(head: keras.layers.Layer, weights: Matrix) -> None:
    """Put such a matrix into a head."""
    head.kernel.assign(weights[None, None, :-1].astype(np.float32))
    head.bias.assign(weights[-1].astype(np.float32))


def with_one(features: npt.NDArray[Any]) -> Matrix:
    """Features float64[..., C + 1] whose last is 1, so that the bias is a weight like the others."""
    return np.concatenate([features, np.ones((*features.shape[:-1], 1))], axis=-1).astype(np.float64)


def solve(pools: Sequence[Pool], old: Matrix, ridge: Ridge) -> Matrix:
    """Find the head float64[C + 1, 6] with the smallest loss on all views of the pools, near the `old` one.

    `pools` hold pooled features float[V, N, C]. The loss is the cross-entropy, classes alike within a pool, pools by
    their share, each over the classes that it has; plus penalty times the squared distance from `old`: a Gaussian prior
    around the source's weights (Chelba and Acero, Adaptation of maximum entropy capitalizer, EMNLP 2004).
    """
    features = np.concatenate([with_one(pool.features).reshape(-1, len(old)) for pool in pools])
    parts = [soften(pool, np.tile(pool.labels, len(pool.features)), ridge.smoothing) for pool in pools]
    targets, offsets = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    weights = np.concatenate(
        [np.tile(pool.chances, len(pool.features)) / len(pool.features) * pool.share for pool in pools]
    )

    def loss(flat: Matrix) -> tuple[float, Matrix]:
        change = flat.reshape(old.shape)
        chance = softmax(features @ (old + change) + offsets)
        value = -(weights * (targets * np.log(chance + 1e-12)).sum(axis=1)).sum() + ridge.penalty * (change**2).sum()
        slope = features.T @ ((chance - targets) * weights[:, None]) + 2 * ridge.penalty * change
        return float(value), slope.ravel()

    found = optimize.minimize(loss, np.zeros(old.size), jac=True, method="L-BFGS-B", options={"maxiter": _ITERATIONS})
    return np.asarray(old + found.x.reshape(old.shape))

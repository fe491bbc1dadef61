"""Features of pictures from a pretrained network: what the distances between sets are measured in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt

from edge.core.types import Image
from training.gan.data import resized, to_network
from training.models import backbones

WIDTH = 0.35
"""Width of the MobileNetV2 whose features are taken."""

_SIDE = 96
"""Pictures are shown to the network with so many pixels a side."""

Embedding = Callable[[Image], npt.NDArray[np.float32]]


def embedding(weights: Path | None) -> Embedding:
    """Give a function from pictures uint8[N, S, S, 3] BGR to features float32[N, 1280].

    They are the pooled last features of MobileNetV2, width 0.35, with ImageNet weights: not those of Inception-v3,
    whose distances have another scale. Raises InputError `weights-do-not-fit`.
    """
    backbone = backbones.pretrained(f"mobilenet_v2_{WIDTH}", _SIDE, weights)
    network = keras.Model(backbone.input, keras.layers.GlobalAveragePooling2D()(backbone.output))

    def embed(pictures: Image) -> npt.NDArray[np.float32]:
        inputs = to_network(resized(pictures, _SIDE))
        return np.asarray(network.predict(inputs, batch_size=128, verbose=0), dtype=np.float32)

    return embed


def describe(weights: Path | None) -> str:
    """Name the network of the features, with the hash of its weights, for a report."""
    network = f"MobileNetV2 width {WIDTH}, pooled features at {_SIDE} px"
    if weights is None:
        return f"{network}, Keras' ImageNet weights"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()[:16]
    return f"{network}, weights {weights.name} (sha256 {digest})"

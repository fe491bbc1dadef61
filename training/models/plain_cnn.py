"""The plain convolutional network (the row `Tek`): five stages of two normalised convolutions, from random weights.

The row is named by its author alone; the published layer sizes are not known to us. This is the plain network of its
kind (as VGG, Simonyan and Zisserman, ICLR 2015, with batch normalisation), ended by the head that all rows share.
"""

from __future__ import annotations

from pathlib import Path

import keras

from training.config import RunConfig
from training.models.stages import plain_network


def build(config: RunConfig, weights: Path | None) -> keras.Model:
    """Build the network; it has no pretrained base, so `weights` is not read."""
    return build_untrained(config)


def build_untrained(config: RunConfig) -> keras.Model:
    """Build the network: float[N, S, S, 3] in [-1, 1] to `logits` and `class_activation`."""
    return plain_network(config, "plain_cnn", widths=(16, 32, 64, 96, 128), convolutions=2, normalised=True)


def base_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Nothing came with weights, so nothing is frozen."""
    return []

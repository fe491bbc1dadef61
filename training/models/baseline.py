"""The baseline: a small plain network from random weights, one convolution to a stage and nothing to help it."""

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
    return plain_network(config, "baseline", widths=(16, 32, 64, 128), convolutions=1, normalised=False)


def base_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Nothing came with weights, so nothing is frozen."""
    return []

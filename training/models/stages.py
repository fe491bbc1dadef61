"""Stages of plain convolutions, of which the networks without a pretrained base are made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from training.config import RunConfig
from training.models import backbones
from training.models.head import with_head


def plain_network(
    config: RunConfig, name: str, widths: Sequence[int], convolutions: int, normalised: bool
) -> keras.Model:
    """Build stages of 3x3 convolutions with ReLU, halved by a maximum after each but the last, and the head.

    float[N, S, S, 3] in [-1, 1] to `logits` and `class_activation`; `widths` are the channels of the stages, each of
    `convolutions` layers, with batch normalisation when `normalised`.
    """
    inputs = keras.Input((config.size, config.size, 3), name="crop")
    features: Any = inputs
    for stage, width in enumerate(widths):
        if stage:
            features = layers.MaxPooling2D(2, name=f"stage{stage}_pool")(features)
        for index in range(convolutions):
            part = f"stage{stage}_{index}"
            features = layers.Conv2D(
                width,
                3,
                padding="same",
                use_bias=not normalised,
                kernel_initializer="he_normal",
                name=f"{part}_conv",
            )(features)
            if normalised:
                features = layers.BatchNormalization(momentum=backbones.MOMENTUM, name=f"{part}_bn")(features)
            features = layers.ReLU(name=f"{part}_relu")(features)
    return with_head(inputs, features, config.dropout, name)

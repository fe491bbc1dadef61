"""A student of two convolutions, with the names and outputs of the real one: its tests take seconds."""

from __future__ import annotations

from pathlib import Path

import keras
from keras import layers

from training.config import CLASSES, RunConfig
from training.models.cbam import cbam
from training.models.head import ClassActivationHead


def build(config: RunConfig, weights: Path | None) -> keras.Model:
    """Build it with random weights; there are none to take."""
    return build_untrained(config)


def build_untrained(config: RunConfig) -> keras.Model:
    """Build it with random weights."""
    inputs = keras.Input((config.size, config.size, 3), name="crop")
    features = layers.Conv2D(16, 5, strides=4, padding="same", use_bias=False, name="first")(inputs)
    features = layers.BatchNormalization(name="first_bn")(features)
    features = layers.ReLU(6.0, name="block_12_add")(features)
    features = layers.Conv2D(config.last, 3, padding="same", use_bias=False, name="last")(features)
    features = layers.BatchNormalization(name="last_bn")(features)
    features = cbam(layers.ReLU(6.0, name="last_relu")(features))
    logits, activation = ClassActivationHead(len(CLASSES), config.dropout, name="head")(features)
    return keras.Model(
        inputs,
        {
            "logits": layers.Identity(name="logits")(logits),
            "class_activation": layers.Identity(name="class_activation")(activation),
        },
        name="student",
    )


def base_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Give none: nothing is pretrained."""
    return []

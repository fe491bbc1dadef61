"""The generator: noise and a class to a picture."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from edge.core.labels import LABELS
from training.gan.config import GanConfig

_EMBEDDING = 32


def _conditional_normalisation(features: Any, condition: Any, name: str) -> Any:
    """Batch normalisation whose gain and bias come from the condition (Dumoulin et al., ICLR 2017)."""
    channels = features.shape[-1]
    shape = (1, 1, channels)
    normal = layers.BatchNormalization(center=False, scale=False, momentum=0.95, name=f"{name}_normal")(features)
    gain = layers.Reshape(shape)(layers.Dense(channels, bias_initializer="ones", name=f"{name}_gain")(condition))
    bias = layers.Reshape(shape)(layers.Dense(channels, name=f"{name}_bias")(condition))
    return layers.Add()([layers.Multiply()([normal, gain]), bias])


def build(config: GanConfig) -> keras.Model:
    """Noise float[N, latent] and label int[N] to pictures float[N, R, R, 3] RGB in [-1, 1].

    Transposed convolutions of kernel 4 and stride 2: an even kernel covers every pixel alike.
    """
    noise = keras.Input((config.latent,), name="noise")
    label = keras.Input((), dtype="int32", name="label")
    embedded = layers.Embedding(len(LABELS), _EMBEDDING, embeddings_initializer="normal", name="classes")(label)
    condition = layers.Concatenate(name="condition")([noise, embedded])
    base, widest = config.resolution // 8, config.widths[-1]
    features = layers.Reshape((base, base, widest))(layers.Dense(base * base * widest, name="seed")(condition))
    for index, channels in enumerate((*config.widths[-2::-1], config.widths[0] // 2)):
        features = layers.ReLU()(_conditional_normalisation(features, condition, f"block_{index}"))
        grow = layers.Conv2DTranspose(channels, 4, strides=2, padding="same", name=f"block_{index}_up")
        features = grow(features)
    features = layers.ReLU()(_conditional_normalisation(features, condition, "last"))
    # At stride 1 the last layer can smooth out the checkerboard that transposed convolutions leave.
    picture = layers.Conv2D(3, 3, padding="same", activation="tanh", name="picture")(features)
    return keras.Model([noise, label], picture, name="generator")

"""The discriminator: is this a real picture of this class?"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from edge.core.labels import LABELS
from training.gan.config import GanConfig


def _normalised(layer: Any) -> Any:
    """Spectral normalisation (Miyato et al., ICLR 2018): the layer's largest singular value is 1."""
    return layers.SpectralNormalization(layer, name=f"{layer.name}_spectral")


def build(config: GanConfig) -> keras.Model:
    """Pictures float[N, R, R, 3] in [-1, 1] and label int[N] to a score float[N, 1], higher for real.

    The score is a linear one of the features plus their product with the embedded class: a projection discriminator
    (Miyato and Koyama, ICLR 2018).
    """
    picture = keras.Input((config.resolution, config.resolution, 3), name="picture")
    label = keras.Input((), dtype="int32", name="label")
    features = picture
    for index, width in enumerate(config.widths):
        convolution = layers.Conv2D(width, 4, strides=2, padding="same", name=f"block_{index}")
        features = layers.LeakyReLU(0.2)(_normalised(convolution)(features))
    flat = layers.Flatten(name="features")(features)
    score = _normalised(layers.Dense(1, name="score"))(flat)
    # Keras' spectral normalisation would cast the embedding's output to the integers of its input.
    embedded = layers.Embedding(len(LABELS), flat.shape[-1], embeddings_initializer="glorot_uniform", name="classes")
    agreement = layers.Dot(axes=1, name="agreement")([embedded(label), flat])
    return keras.Model([picture, label], layers.Add(name="verdict")([score, agreement]), name="discriminator")

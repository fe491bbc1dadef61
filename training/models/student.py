"""The student: MobileNetV2 with a finer last stage, CBAM, and a head that shows where it looked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers

from training.config import RunConfig
from training.models import backbones
from training.models.cbam import cbam
from training.models.head import with_head

_REPLACED = ("Conv_1", "Conv_1_bn", "out_relu")
"""The last convolution of MobileNetV2: 1280 channels would cost a fifth of the time at the finer resolution."""

_LAST_STRIDE = ("block_13_pad", "block_13_depthwise")
"""With these at stride 1 the last map is 6x6 for 96 pixels, not 3x3: class activation can then point at a nucleus."""


def _features(source: keras.Model) -> tuple[Any, Any]:
    """Rebuild the backbone up to its last block with the finer last stage; returns (input, features)."""
    inputs = keras.Input(source.input_shape[1:], name="crop")
    current = block = inputs
    for layer in source.layers[1:]:
        if layer.name in (*_REPLACED, _LAST_STRIDE[0]):
            continue
        if layer.name.endswith("_expand"):
            block = current
        config = layer.get_config()
        if layer.name == _LAST_STRIDE[1]:
            config |= {"strides": (1, 1), "padding": "same"}
        copy = type(layer).from_config(config)
        current = copy([block, current]) if isinstance(layer, layers.Add) else copy(current)
        copy.set_weights(layer.get_weights())
    return inputs, current


def _narrow(source: keras.Model, width: int) -> tuple[list[npt.NDArray[Any]], list[npt.NDArray[Any]]]:
    """Take the pretrained last convolution and its normalisation, of the `width` channels with the largest gain."""
    kernel = source.get_layer("Conv_1").get_weights()[0]
    normalisation = source.get_layer("Conv_1_bn").get_weights()
    kept = np.sort(np.argsort(-np.abs(normalisation[0]), kind="stable")[:width])
    return [kernel[..., kept]], [weight[kept] for weight in normalisation]


def build(config: RunConfig, weights: Path | None) -> keras.Model:
    """Build the student on a pretrained backbone: float[N, size, size, 3] in [-1, 1] to its two named outputs.

    `logits` float[N, 6] and `class_activation` float[N, h, w, 6], in the order of CLASSES. Raises what
    `training.models.backbones.pretrained` raises.
    """
    return _assemble(backbones.pretrained(f"mobilenet_v2_{config.alpha}", config.size, weights), config)


def build_untrained(config: RunConfig) -> keras.Model:
    """Build the same network with random weights, for weights that are loaded afterwards."""
    return _assemble(backbones.untrained(f"mobilenet_v2_{config.alpha}", config.size), config)


def base_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Give the layers that came with ImageNet weights, all but those of the last convolution."""
    names = [layer.name for layer in model.layers]
    return list(model.layers[: names.index("last")])


def _assemble(source: keras.Model, config: RunConfig) -> keras.Model:
    inputs, features = _features(source)
    convolution = layers.Conv2D(config.last, 1, use_bias=False, name="last")
    normalisation = layers.BatchNormalization(epsilon=1e-3, momentum=backbones.MOMENTUM, name="last_bn")
    features = normalisation(convolution(features))
    kernel, statistics = _narrow(source, config.last)
    convolution.set_weights(kernel)
    normalisation.set_weights(statistics)
    features = layers.ReLU(6.0, name="last_relu")(features)
    if config.attention:
        features = cbam(features)
    return with_head(inputs, features, config.dropout, "student")

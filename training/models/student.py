"""The student: MobileNetV2 with a finer last stage, CBAM, and a head that shows where it looked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops

from edge.core.errors import InputError
from training.config import CLASSES, RunConfig
from training.models.cbam import cbam

_REPLACED = ("Conv_1", "Conv_1_bn", "out_relu")
"""The last convolution of MobileNetV2: 1280 channels would cost a fifth of the time at the finer resolution."""

_LAST_STRIDE = ("block_13_pad", "block_13_depthwise")
"""With these at stride 1 the last map is 6x6 for 96 pixels, not 3x3: class activation can then point at a nucleus."""


@keras.saving.register_keras_serializable(package="leukoscope")
class ClassActivationHead(layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Logits of the globally averaged features, and the same kernel at each position.

    In: float[N, h, w, C]. Out: logits float[N, K], class activation float[N, h, w, K]; the mean of the activation plus
    the bias is the logit (Zhou et al., Learning deep features for discriminative localization, CVPR 2016).
    """

    def __init__(self, units: int, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.rate = dropout

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights once the input is known."""
        self.kernel = self.add_weight(shape=(1, 1, input_shape[-1], self.units), name="kernel")
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")
        self.dropout = layers.Dropout(self.rate, seed=0)
        super().build(input_shape)

    def call(self, inputs: Any, training: bool | None = None) -> tuple[Any, Any]:
        """Apply the layer."""
        pooled = self.dropout(ops.mean(inputs, axis=(1, 2), keepdims=True), training=training)
        logits = ops.reshape(ops.conv(pooled, self.kernel), (-1, self.units)) + self.bias
        return logits, ops.conv(inputs, self.kernel)

    def get_config(self) -> dict[str, Any]:
        """Give what it takes to make the layer again."""
        return {**super().get_config(), "units": self.units, "dropout": self.rate}


def backbone(size: int, alpha: float, weights: Path | None) -> keras.Model:
    """MobileNetV2 without its top: float[N, size, size, 3] in [-1, 1] to float[N, size/32, size/32, 1280].

    `weights` is an npz file whose keys are `layer|weight` or `layer/weight` in Keras' names; without one, Keras
    downloads its own. Raises InputError `weights-do-not-fit` when a weight is missing or has another shape.
    """
    if weights is None:
        return keras.applications.MobileNetV2((size, size, 3), alpha=alpha, include_top=False, weights="imagenet")
    model = keras.applications.MobileNetV2((size, size, 3), alpha=alpha, include_top=False, weights=None)
    with np.load(weights) as archive:
        stored = {key.replace("|", "/"): archive[key] for key in archive.files}
    for layer in model.layers:
        for variable in layer.weights:
            # Keras 2 called the kernel of a depthwise convolution depthwise_kernel.
            value = stored.get(f"{layer.name}/{variable.name}", stored.get(f"{layer.name}/depthwise_{variable.name}"))
            if value is None or value.shape != tuple(variable.shape):
                raise InputError(
                    "weights-do-not-fit",
                    f"{weights} has no fitting {layer.name}/{variable.name}.",
                    f"Take ImageNet weights of MobileNetV2, alpha {alpha}, without the top.",
                )
            variable.assign(value.astype(np.float32))
    return model


def _features(source: keras.Model, momentum: float) -> tuple[Any, Any]:
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
        if isinstance(layer, layers.BatchNormalization):
            # Keras' 0.999 would need tens of epochs to forget ImageNet's statistics.
            config["momentum"] = momentum
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


def build(config: RunConfig, weights: Path | None, momentum: float = 0.99) -> keras.Model:
    """Build the student on a pretrained backbone: float[N, size, size, 3] in [-1, 1] to its two named outputs.

    `logits` float[N, 6] and `class_activation` float[N, h, w, 6], in the order of CLASSES.
    """
    return _assemble(backbone(config.size, config.alpha, weights), config, momentum)


def build_untrained(config: RunConfig, momentum: float = 0.99) -> keras.Model:
    """Build the same network with random weights, for weights that are loaded afterwards."""
    shape = (config.size, config.size, 3)
    source = keras.applications.MobileNetV2(shape, alpha=config.alpha, include_top=False, weights=None)
    return _assemble(source, config, momentum)


def _assemble(source: keras.Model, config: RunConfig, momentum: float) -> keras.Model:
    inputs, features = _features(source, momentum)
    convolution = layers.Conv2D(config.last, 1, use_bias=False, name="last")
    normalisation = layers.BatchNormalization(epsilon=1e-3, momentum=momentum, name="last_bn")
    features = normalisation(convolution(features))
    kernel, statistics = _narrow(source, config.last)
    convolution.set_weights(kernel)
    normalisation.set_weights(statistics)
    features = cbam(layers.ReLU(6.0, name="last_relu")(features))
    logits, activation = ClassActivationHead(len(CLASSES), config.dropout, name="head")(features)
    # Named identities fix the names of the outputs in every exported file.
    return keras.Model(
        inputs,
        {
            "logits": layers.Identity(name="logits")(logits),
            "class_activation": layers.Identity(name="class_activation")(activation),
        },
        name="student",
    )

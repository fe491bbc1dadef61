"""Pretrained bases by name. Each takes RGB in [-1, 1]; what its ImageNet weights want instead is done inside."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops

from edge.core.errors import InputError, UsageError
from training.models.efficientnet_lite import efficientnet_lite0

MOMENTUM: Final = 0.99
"""Of every normalisation: Keras' 0.999 in MobileNetV2 would need tens of epochs to forget ImageNet's statistics."""

_MEAN: Final = (0.485, 0.456, 0.406)
_DEVIATION: Final = (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's channels, RGB in [0, 1]."""

_CAFFE_MEAN: Final = (103.939, 116.779, 123.68)
"""Mean of ImageNet's channels, BGR in [0, 255]: what keras.applications.ResNet50 was trained with."""

_STANDARD: Final = {
    "scale": [0.5 / deviation for deviation in _DEVIATION],
    "offset": [(0.5 - mean) / deviation for mean, deviation in zip(_MEAN, _DEVIATION, strict=True)],
}


def _mobilenet_v2(alpha: float) -> Callable[[Any, str | None], keras.Model]:
    def make(inputs: Any, weights: str | None) -> keras.Model:
        return keras.applications.MobileNetV2(
            input_tensor=inputs, alpha=alpha, include_top=False, weights=weights, name=f"mobilenet_v2_{alpha}"
        )

    return make


def _efficientnet_lite0(inputs: Any, weights: str | None) -> keras.Model:
    if weights is not None:
        raise InputError(
            "weights-not-available",
            "Keras has no weights of EfficientNet-Lite0 to download.",
            "Name a file of them with --weights FILE, or choose another --backbone.",
        )
    return efficientnet_lite0(inputs)


def _resnet50(inputs: Any, weights: str | None) -> keras.Model:
    blue_first = ops.flip(inputs, axis=-1)
    scaled = layers.Rescaling(127.5, [127.5 - mean for mean in _CAFFE_MEAN], name="caffe_scale")(blue_first)
    return keras.applications.ResNet50(input_tensor=scaled, include_top=False, weights=weights)


def _efficientnet_b0(inputs: Any, weights: str | None) -> keras.Model:
    # Keras' own first layers divide twice by a root of the deviation, and only when they come with weights; their
    # Normalization does not survive an export to ONNX either. One rescaling says the same.
    def replaced(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, layers.Rescaling):
            return layers.Rescaling(**_STANDARD, name="standard_scale")
        if isinstance(layer, layers.Normalization):
            return layers.Identity(name=layer.name)
        return type(layer).from_config(layer.get_config())

    original = keras.applications.EfficientNetB0(
        input_tensor=inputs, include_top=False, weights=None, name="efficientnet_b0"
    )
    model = keras.models.clone_model(original, clone_function=replaced)
    if weights is not None:
        source = keras.applications.EfficientNetB0(include_top=False, weights=weights)
        for layer in model.layers:
            if layer.weights:
                layer.set_weights(source.get_layer(layer.name).get_weights())
    return model


def _efficientnet_v2_b0(inputs: Any, weights: str | None) -> keras.Model:
    scaled = layers.Rescaling(**_STANDARD, name="standard_scale")(inputs)
    return keras.applications.EfficientNetV2B0(
        input_tensor=scaled, include_top=False, weights=weights, include_preprocessing=False
    )


_BASES: Final[dict[str, Callable[[Any, str | None], keras.Model]]] = {
    **{f"mobilenet_v2_{alpha}": _mobilenet_v2(alpha) for alpha in (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)},
    "efficientnet_lite0": _efficientnet_lite0,
    "resnet50": _resnet50,
    "efficientnet_b0": _efficientnet_b0,
    "efficientnet_v2_b0": _efficientnet_v2_b0,
}

NAMES: Final = tuple(_BASES)


def untrained(name: str, size: int) -> keras.Model:
    """Build a base with random weights: float[N, size, size, 3] in [-1, 1] to float[N, size/32, size/32, C].

    Raises UsageError `unknown-backbone`.
    """
    return _make(name, size, None)


def pretrained(name: str, size: int, weights: Path | None) -> keras.Model:
    """Build the same base with ImageNet weights, from an npz file, or without one from Keras' own download.

    The keys of the file are `layer|weight` or `layer/weight` in the names that Keras gives them; keys that the base
    has no place for, as those of a classifier, are ignored. Raises UsageError `unknown-backbone`, InputError
    `weights-unreadable`, `weights-do-not-fit` or `weights-not-available`.
    """
    if weights is None:
        return _make(name, size, "imagenet")
    model = _make(name, size, None)
    assign(model, read(weights), weights, name)
    return model


def _make(name: str, size: int, weights: str | None) -> keras.Model:
    if name not in _BASES:
        raise UsageError("unknown-backbone", f"There is no backbone {name!r}.", f"Choose one of: {', '.join(NAMES)}.")
    inputs = keras.Input((size, size, 3), name="crop")
    try:
        model = _BASES[name](inputs, weights)
    except InputError:
        raise
    except Exception as error:
        # Keras reports a failed download as a bare Exception, among others.
        if weights is None:
            raise
        raise InputError(
            "weights-not-available",
            f"The ImageNet weights of {name} could not be downloaded: {error}.",
            "Connect to the network, or name a file of them with --weights FILE.",
        ) from error
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = MOMENTUM
    return model


def read(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read a file of weights, with keys `layer/weight`. Raises InputError `weights-unreadable`."""
    try:
        with np.load(path) as archive:
            return {key.replace("|", "/"): archive[key] for key in archive.files}
    except (OSError, ValueError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(
            "weights-unreadable", f"{path} cannot be read as a file of weights: {error}.", "Name an .npz file."
        ) from error


def assign(model: keras.Model, stored: dict[str, npt.NDArray[Any]], path: Path, name: str) -> None:
    """Give every weight of a model its stored value; raises InputError `weights-do-not-fit` before it changes any."""
    values = []
    for layer in model.layers:
        for variable in layer.weights:
            # Keras 2 called the kernel of a depthwise convolution depthwise_kernel.
            value = stored.get(f"{layer.name}/{variable.name}", stored.get(f"{layer.name}/depthwise_{variable.name}"))
            if value is None or value.shape != tuple(variable.shape):
                raise InputError(
                    "weights-do-not-fit",
                    f"{path} has no fitting {layer.name}/{variable.name}.",
                    f"Take ImageNet weights of {name}.",
                )
            values.append((variable, value.astype(np.float32)))
    for variable, value in values:
        variable.assign(value)

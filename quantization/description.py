"""A Keras 3 network as plain data, from which another Keras can build it again.

Quantization-aware training needs the older `tf_keras`, which cannot read a Keras 3 network. The network is described
once, where it is defined, so that there is no second definition that could drift from the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from quantization.errors import QuantizationError

if TYPE_CHECKING:
    import keras

_KEPT: Final[Mapping[str, tuple[str, ...]]] = {
    "InputLayer": (),
    "Conv2D": ("filters", "kernel_size", "strides", "padding", "use_bias"),
    "DepthwiseConv2D": ("kernel_size", "strides", "padding", "use_bias", "depth_multiplier"),
    "BatchNormalization": ("epsilon", "momentum"),
    "ReLU": ("max_value",),
    "Add": (),
    "ZeroPadding2D": ("padding",),
    "Identity": (),
    "ChannelAttention": (),
    "SpatialAttention": ("kernel_size",),
    "ClassActivationHead": ("units",),
}
"""The layers that can be built again, and what must be known of each besides its weights."""


@dataclass(frozen=True, slots=True)
class Node:
    """One layer: its class, its name, the names of the layers it reads, and its settings."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    settings: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Give plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Description:
    """The layers in an order in which each comes after what it reads; `weights` are keyed `layer/number`."""

    side: int
    nodes: tuple[Node, ...]
    weights: Mapping[str, npt.NDArray[np.float32]]


def describe(model: keras.Model) -> Description:
    """Describe a network of `training.models`: float[N, S, S, 3] to `logits` and `class_activation`.

    Raises QuantizationError `layer-not-supported` when it has a layer for which there is no quantization-aware form.
    """
    nodes: list[Node] = []
    weights: dict[str, npt.NDArray[np.float32]] = {}
    for layer in model.layers:
        kind = type(layer).__name__
        if kind not in _KEPT:
            raise QuantizationError(
                "layer-not-supported",
                f"The layer {layer.name} ({kind}) has no form for quantization-aware training.",
                "Quantize this network after its training: --method ptq.",
            )
        config = layer.get_config()
        if config.get("activation", "linear") != "linear":
            raise QuantizationError(
                "layer-not-supported",
                f"The layer {layer.name} has its activation {config['activation']} inside.",
                "Give the activation a layer of its own, or use --method ptq.",
            )
        read = () if kind == "InputLayer" else _read_by(layer)
        nodes.append(Node(kind, layer.name, read, {name: config[name] for name in _KEPT[kind]}))
        for number, value in enumerate(layer.get_weights()):
            # The state of a dropout's random numbers is among the weights of the head; it is no float.
            if np.issubdtype(value.dtype, np.floating):
                weights[f"{layer.name}/{number}"] = np.asarray(value, np.float32)
    return Description(int(model.input_shape[1]), tuple(nodes), weights)


def _read_by(layer: keras.layers.Layer) -> tuple[str, ...]:
    tensors = layer.input if isinstance(layer.input, list) else [layer.input]
    return tuple(tensor._keras_history.operation.name for tensor in tensors)

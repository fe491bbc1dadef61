"""Convolutional block attention (Woo et al., CBAM, ECCV 2018), in the form that survives INT8."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable(package="leukoscope")
class ChannelAttention(layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Scale each channel by sigmoid(MLP(mean) + MLP(max)) over the map; one MLP with one hidden layer serves both.

    In and out: float[N, h, w, C]. `reduction` divides C to give the hidden width, 8 at least.
    """

    def __init__(self, reduction: int = 16, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reduction = reduction

    def build(self, input_shape: tuple[Any, ...]) -> None:
        """Make the weights once the input is known."""
        channels = input_shape[-1]
        # 1x1 convolutions keep the map four-dimensional: as dense layers the converter would add reshapes.
        self.hidden = layers.Conv2D(max(channels // self.reduction, 8), 1, activation="relu", name="hidden")
        self.gate = layers.Conv2D(channels, 1, name="gate")
        self.hidden.build((None, 1, 1, channels))
        self.gate.build((None, 1, 1, max(channels // self.reduction, 8)))
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        """Apply the layer."""
        mean = ops.mean(inputs, axis=(1, 2), keepdims=True)
        largest = ops.max(inputs, axis=(1, 2), keepdims=True)
        return inputs * ops.sigmoid(self.gate(self.hidden(mean)) + self.gate(self.hidden(largest)))

    def get_config(self) -> dict[str, Any]:
        """Give what it takes to make the layer again."""
        return {**super().get_config(), "reduction": self.reduction}


@keras.saving.register_keras_serializable(package="leukoscope")
class SpatialAttention(layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Scale each position by sigmoid(conv(mean over channels) + conv(max over channels)).

    In and out: float[N, h, w, C]. The same as one convolution over the two maps concatenated, with its kernel split: a
    concatenation would force one INT8 scale on both, and the mean drowns beside the max.
    """

    def __init__(self, kernel_size: int = 7, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kernel_size = kernel_size

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights once the input is known."""
        self.of_mean = layers.Conv2D(1, self.kernel_size, padding="same", use_bias=False, name="of_mean")
        self.of_max = layers.Conv2D(1, self.kernel_size, padding="same", use_bias=True, name="of_max")
        for convolution in (self.of_mean, self.of_max):
            convolution.build((*input_shape[:-1], 1))
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        """Apply the layer."""
        mean = ops.mean(inputs, axis=-1, keepdims=True)
        largest = ops.max(inputs, axis=-1, keepdims=True)
        return inputs * ops.sigmoid(self.of_mean(mean) + self.of_max(largest))

    def get_config(self) -> dict[str, Any]:
        """Give what it takes to make the layer again."""
        return {**super().get_config(), "kernel_size": self.kernel_size}


def cbam(features: Any, reduction: int = 16, kernel_size: int = 7, name: str = "cbam") -> Any:
    """Channel attention, then spatial attention, on features that have passed a ReLU6: float[N, h, w, C]."""
    gated = ChannelAttention(reduction, name=f"{name}_channel")(features)
    return SpatialAttention(kernel_size, name=f"{name}_spatial")(gated)

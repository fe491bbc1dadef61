"""The head that all networks share: logits, and a map of where each class was seen."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from training.config import CLASSES


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
        self.dropout = layers.Dropout(self.rate, seed=0, dtype=self.dtype_policy)
        super().build(input_shape)

    def call(self, inputs: Any, training: bool | None = None) -> tuple[Any, Any]:
        """Apply the layer."""
        pooled = self.dropout(ops.mean(inputs, axis=(1, 2), keepdims=True), training=training)
        logits = ops.reshape(ops.conv(pooled, self.kernel), (-1, self.units)) + self.bias
        return logits, ops.conv(inputs, self.kernel)

    def get_config(self) -> dict[str, Any]:
        """Give what it takes to make the layer again."""
        return {**super().get_config(), "units": self.units, "dropout": self.rate}


def with_head(inputs: Any, features: Any, dropout: float, name: str) -> keras.Model:
    """Close a network: `features` float[N, h, w, C] of `inputs` to its two named outputs.

    `logits` float[N, 6] and `class_activation` float[N, h, w, 6], in the order of CLASSES; both float32, also under
    mixed precision, whose half floats are too coarse for a loss.
    """
    logits, activation = ClassActivationHead(len(CLASSES), dropout, name="head", dtype="float32")(features)
    # Named identities fix the names of the outputs in every exported file.
    return keras.Model(
        inputs,
        {
            "logits": layers.Identity(name="logits", dtype="float32")(logits),
            "class_activation": layers.Identity(name="class_activation", dtype="float32")(activation),
        },
        name=name,
    )

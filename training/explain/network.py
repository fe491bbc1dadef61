"""The question that every method is asked: how much more does this crop look like the class than like the others?"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import keras
import numpy as np

from edge.core.errors import UsageError
from edge.core.types import FloatArray
from edge.inference.classifier import evidence, softmax
from training.explain.perturbation import Score, Scores

_BATCH = 64


class Network:
    """A Keras model with the outputs `logits` float[N, K] and `class_activation` float[N, h, w, K], to be explained.

    The score of a class is its logit less the mean of all logits: softmax ignores what is added to all alike, and the
    device's map takes that mean off as well (`edge.inference.classifier.evidence`).
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model

    @property
    def size(self) -> int:
        """Side of the input in pixels."""
        return int(self._model.input_shape[1])

    def outputs(self, inputs: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Logits float32[N, K] and class-activation maps float32[N, h, w, K] of inputs float32[N, S, S, 3]."""
        given = self._model.predict(inputs, batch_size=_BATCH, verbose=0)
        return np.asarray(given["logits"], np.float32), np.asarray(given["class_activation"], np.float32)

    def logits(self, inputs: FloatArray) -> FloatArray:
        """Logits float32[N, K]."""
        return self.outputs(inputs)[0]

    def score(self, target: int) -> Score:
        """The score of a class, to be asked of many inputs."""

        def scores(inputs: FloatArray) -> Scores:
            logits = self.logits(inputs).astype(np.float64)
            return np.asarray(logits[:, target] - logits.mean(axis=1))

        return scores

    def probability(self, target: int) -> Score:
        """The softmax of a class among all outputs, to be asked of many inputs: 0..1."""

        def probabilities(inputs: FloatArray) -> Scores:
            return np.asarray(softmax(self.logits(inputs))[:, target])

        return probabilities

    def device_map(self, inputs: FloatArray, target: int) -> FloatArray:
        """The map that the device shows, float32[h, w] in 0..1, of one input float32[S, S, 3]."""
        _, maps = self.outputs(inputs[None])
        return np.asarray(evidence(maps, np.array([target]))[0])

    @cached_property
    def _to_logits(self) -> keras.Model:
        # Only the layers that the logits depend on: the last map among them is what the head looks at.
        return keras.Model(self._model.input, self._model.output["logits"])

    @property
    def feature_layers(self) -> list[str]:
        """The layers whose output is a map that the logits come from, from input to head."""
        found = []
        for layer in self._to_logits.layers:
            shape: tuple[int, ...] = tuple(getattr(layer.output, "shape", ()))
            if len(shape) == 4 and shape[1] * shape[2] > 1 and not isinstance(layer, keras.layers.InputLayer):
                found.append(str(layer.name))
        return found

    def gradients(self, inputs: FloatArray, target: int) -> FloatArray:
        """Gradient of the score with respect to each input value, float32[N, S, S, 3].

        Raises UsageError `gradients-need-tensorflow` on another backend of Keras.
        """
        tf = _tensorflow()
        watched = tf.convert_to_tensor(inputs)
        with tf.GradientTape() as tape:
            tape.watch(watched)
            score = _score(self._to_logits(watched, training=False), target)
        return np.asarray(tape.gradient(score, watched), np.float32)

    def features(self, inputs: FloatArray, target: int, layer: str | None = None) -> tuple[FloatArray, FloatArray]:
        """Features of a layer and the gradients of the score with respect to them, both float32[N, h, w, C].

        `layer` is the last one before the logits where none is named. Raises UsageError `unknown-layer` for one that
        gives no map or leads to no logit, `gradients-need-tensorflow` on another backend of Keras.
        """
        tf = _tensorflow()
        layers = self.feature_layers
        name = layer or (layers[-1] if layers else "")
        if name not in layers:
            raise UsageError(
                "unknown-layer",
                f"The network has no layer {name!r} whose output is a map that its logits come from.",
                f"Choose one of its layers, such as {', '.join(layers[-6:])}." if layers else "Choose another network.",
            )
        both = keras.Model(self._model.input, [self._to_logits.get_layer(name).output, self._to_logits.output])
        with tf.GradientTape() as tape:
            features, logits = both(tf.convert_to_tensor(inputs), training=False)
            score = _score(logits, target)
        return np.asarray(features, np.float32), np.asarray(tape.gradient(score, features), np.float32)


def _score(logits: Any, target: int) -> Any:
    logits = keras.ops.cast(logits, "float32")
    # Summed over the batch: inputs do not influence one another, so each keeps its own gradient.
    return keras.ops.sum(logits[:, target] - keras.ops.mean(logits, axis=1))


def _tensorflow() -> Any:
    if keras.backend.backend() != "tensorflow":
        raise UsageError(
            "gradients-need-tensorflow",
            f"Gradients are taken by TensorFlow, and Keras runs on {keras.backend.backend()}.",
            "Run it with KERAS_BACKEND=tensorflow, or choose --method occlusion or --method lime.",
        )
    import tensorflow as tf

    return tf

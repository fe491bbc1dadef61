"""Losses of soft targets from logits, and the weights that make rare classes count.

All losses take targets float[N, K] whose rows sum to 1 and logits float[N, K], and give one value per sample,
float[N]; sample weights and the mean over the batch are applied by Keras.
"""

from __future__ import annotations

from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from edge.core.types import FloatArray

BETA: Final = 0.999
"""Of the effective number of samples: the class-balanced weights of Cui et al. for long-tailed sets."""

GAMMA: Final = 2.0
"""Focusing exponent of the focal loss, the one that Lin et al. recommend."""


def inverse_frequency(counts: npt.NDArray[np.int64]) -> FloatArray:
    """Weights n / (K n_k) of K classes that occur, float32[classes]; a class without a cell gets 0.

    The mean over the samples is 1, as in scikit-learn's `class_weight="balanced"`.
    """
    occurs = counts > 0
    weights = np.where(occurs, counts.sum() / (max(1, occurs.sum()) * np.maximum(counts, 1)), 0.0)
    return weights.astype(np.float32)


def effective_number(counts: npt.NDArray[np.int64], beta: float = BETA) -> FloatArray:
    """Weights (1 - beta) / (1 - beta^n_k), scaled to sum to the number of classes that occur, float32[classes].

    Cui et al., Class-balanced loss based on effective number of samples, CVPR 2019. A class without a cell gets 0.
    """
    occurs = counts > 0
    raw = np.where(occurs, (1 - beta) / (1 - beta ** np.maximum(counts, 1).astype(np.float64)), 0.0)
    return np.asarray(raw * occurs.sum() / raw.sum(), dtype=np.float32)


def class_weights(loss: str, counts: npt.NDArray[np.int64]) -> FloatArray:
    """Give the weight of each class under a loss of RunConfig, from the number of training cells int64[K]."""
    if loss == "weighted":
        return inverse_frequency(counts)
    if loss == "class-balanced":
        return effective_number(counts)
    return np.ones(len(counts), dtype=np.float32)


def cross_entropy(targets: Any, logits: Any, weights: Any) -> Any:
    """Compute -sum_k w_k t_k log p_k: float[N]. A hard target gives its class's weight times its cross-entropy."""
    return -ops.sum(weights * targets * ops.log_softmax(logits, axis=-1), axis=-1)


def focal(targets: Any, logits: Any, gamma: float = GAMMA) -> Any:
    """Compute -sum_k t_k (1 - p_k)^gamma log p_k: float[N].

    Lin et al., Focal loss for dense object detection, ICCV 2017, with the target's share in place of the indicator.
    """
    logarithm = ops.log_softmax(logits, axis=-1)
    return -ops.sum(targets * ops.power(1 - ops.exp(logarithm), gamma) * logarithm, axis=-1)


def divergence(teacher: Any, student: Any, temperature: float) -> Any:
    """Compute T^2 KL(softmax(teacher / T) || softmax(student / T)) of two sets of logits: float[N].

    Hinton et al., Distilling the knowledge in a neural network, 2015: T^2 keeps the size of the gradient.
    """
    expected = ops.log_softmax(teacher / temperature, axis=-1)
    given = ops.log_softmax(student / temperature, axis=-1)
    return temperature**2 * ops.sum(ops.exp(expected) * (expected - given), axis=-1)


@keras.saving.register_keras_serializable(package="leukoscope")
class TrainingLoss(keras.losses.Loss):  # type: ignore[misc]  # Keras has no types
    """The loss of a run: float[N] of targets float[N, K], or float[N, 2K] where a teacher's logits follow them.

    With a teacher it is (1 - share) * loss + share * `divergence`.
    """

    def __init__(
        self, name: str, weights: npt.NDArray[Any], share: float = 0.0, temperature: float = 1.0, **kwargs: Any
    ) -> None:
        super().__init__(name="loss", dtype="float32", **kwargs)
        self._kind = name
        self._weights = np.asarray(weights, dtype=np.float32)
        self._share = share
        self._temperature = temperature

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Give the loss of each sample."""
        classes = len(self._weights)
        targets = y_true[:, :classes]
        hard = focal(targets, y_pred) if self._kind == "focal" else cross_entropy(targets, y_pred, self._weights)
        if self._share == 0:
            return hard
        soft = divergence(y_true[:, classes:], y_pred, self._temperature)
        return (1 - self._share) * hard + self._share * soft

    def get_config(self) -> dict[str, Any]:
        """Give what it takes to make the loss again."""
        return {
            "name": self._kind,
            "weights": self._weights.tolist(),
            "share": self._share,
            "temperature": self._temperature,
        }

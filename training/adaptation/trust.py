"""How far the probabilities at a site can be trusted: temperature from labelled cells, and what it leaves."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from edge.core.labels import LABELS
from edge.core.types import FloatArray
from edge.inference.classifier import softmax
from quantization.calibration import fit_temperature

BINS: Final = 10

Probabilities = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def calibration_error(probabilities: Probabilities, labels: Integers) -> float:
    """Expected calibration error over `BINS` bins of equal width, 0..1 (Guo et al., ICML 2017).

    `probabilities` float64[N, K], `labels` int64[N] in 0..K-1. Of few cells it is too high by chance: seventy perfectly
    calibrated ones, mostly sure, still show 0.05 to 0.13.
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    return float(
        sum(
            abs(confidence[bins == number].mean() - correct[bins == number].mean()) * (bins == number).mean()
            for number in np.unique(bins)
        )
    )


def held_out_probabilities(logits: FloatArray, labels: Integers, fold_of: Integers) -> Probabilities:
    """Probabilities float64[N, 5] of cells of the five classes, each by a temperature fitted on the other folds.

    `logits` float32[N, 6] are already those of networks that saw no cell of the group.
    """
    five = logits[:, : len(LABELS)]
    found = np.zeros(five.shape)
    for fold in np.unique(fold_of):
        others = fold_of != fold
        weights = np.full(int(others.sum()), 1.0 / others.sum())
        temperature = fit_temperature(five[others], labels[others], weights)
        found[~others] = softmax(five[~others] / temperature)
    return found

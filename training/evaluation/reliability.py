"""Are the probabilities true: expected calibration error, reliability diagram, Brier score, log-likelihood."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BINS = 15
"""Bins of equal width over 0..1, as in Guo et al., On Calibration of Modern Neural Networks, ICML 2017."""

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Bin:
    """Cells whose confidence lies in (`low`, `high`]: how many, their mean confidence, and the share that is right."""

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None


def reliability(confidence: Floats, correct: Booleans, bins: int = BINS) -> tuple[Bin, ...]:
    """Sort cells by `confidence` float64[N] in 0..1 into bins of equal width; a confidence of 0 is in the first."""
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.ceil(np.asarray(confidence) * bins).astype(int) - 1, 0, bins - 1)
    found = []
    for index in range(bins):
        inside = place == index
        n = int(inside.sum())
        found.append(
            Bin(
                float(edges[index]),
                float(edges[index + 1]),
                n,
                float(confidence[inside].mean()) if n else None,
                float(correct[inside].mean()) if n else None,
            )
        )
    return tuple(found)


def expected_calibration_error(bins: tuple[Bin, ...]) -> float:
    """Mean distance of confidence and accuracy over the bins, weighted by their cells (Guo et al., 2017, eq. 3).

    Raises ValueError when there is no cell.
    """
    n = sum(item.n for item in bins)
    if n == 0:
        raise ValueError("no cells to calibrate on")
    gaps = (
        item.n * abs(item.confidence - item.accuracy)
        for item in bins
        if item.confidence is not None and item.accuracy is not None
    )
    return sum(gaps) / n


def brier(probabilities: Floats, labels: Integers) -> float:
    """Mean squared distance of probabilities float64[N, C] from the truth, summed over classes: 0..2 (Brier, 1950)."""
    truth = np.eye(probabilities.shape[1])[labels]
    return float(np.mean(np.sum((probabilities - truth) ** 2, axis=1)))


def negative_log_likelihood(probabilities: Floats, labels: Integers) -> float:
    """Mean of -ln of the probability of the truth, in nats; a probability below 1e-12 counts as that."""
    chance = probabilities[np.arange(len(labels)), labels]
    return float(-np.mean(np.log(np.maximum(chance, 1e-12))))

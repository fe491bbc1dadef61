"""Temperature and abstention threshold, fitted on validation cells only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize

from edge.core.labels import LABELS
from edge.core.types import FloatArray
from edge.inference.classifier import softmax

RISK_TARGET = 0.05
"""Among the cells that are counted, at most this share may be called wrongly on validation, sources weighted alike."""

_HIGHEST = 0.9
"""No threshold above this: a bundle that would need one should not be shipped, and its card says what it reached."""


@dataclass(frozen=True, slots=True)
class Fit:
    """The fitted values. `risk` and `coverage` are what the threshold reaches on validation, 0..1."""

    temperature: float
    threshold: float
    risk: float
    coverage: float


def source_weights(sources: npt.NDArray[np.str_]) -> npt.NDArray[np.float64]:
    """Give weights float64[N], sum 1: a source counts by the root of its cells, so a small site is heard, not alone."""
    names, index, counts = np.unique(sources, return_inverse=True, return_counts=True)
    share = np.sqrt(counts) / np.sqrt(counts).sum()
    weights: npt.NDArray[np.float64] = (share / counts)[index]
    return weights if len(names) else np.zeros(0)


def fit_temperature(logits: FloatArray, labels: npt.NDArray[np.int64], weights: npt.NDArray[np.float64]) -> float:
    """Find the temperature that minimises the weighted negative log-likelihood of the five (Guo et al., ICML 2017).

    `logits` float32[N, 5 or 6]; only the five are used. The answer lies within 0.3-5.
    """
    five = logits[:, : len(LABELS)].astype(np.float64)

    def loss(log_temperature: float) -> float:
        chance = softmax(five / np.exp(log_temperature))[np.arange(len(labels)), labels]
        return float(-(weights * np.log(np.maximum(chance, 1e-12))).sum())

    found = optimize.minimize_scalar(loss, bounds=(np.log(0.3), np.log(5.0)), method="bounded")
    return float(np.exp(found.x))


def fit_threshold(
    confidence: npt.NDArray[np.float64],
    correct: npt.NDArray[np.bool_],
    weights: npt.NDArray[np.float64],
    target: float = RISK_TARGET,
) -> tuple[float, float, float]:
    """Find the lowest threshold whose accepted cells err no more than `target`: (threshold, risk, coverage).

    `confidence` is the probability of the best of the five. When no threshold up to 0.9 reaches the target, that one
    is taken and its risk says so. Where it accepts no cell, or none that weighs anything, nothing is known of it: its
    risk is then 1 and its coverage 0. Thresholds are steps of 0.01.
    """
    threshold, risk, coverage = 0.0, 1.0, 0.0
    whole = float(weights.sum())
    for threshold in np.round(np.arange(0.20, _HIGHEST + 0.005, 0.01), 2):
        accepted = confidence >= threshold
        counted = float(weights[accepted].sum())
        if counted <= 0:
            return _HIGHEST, 1.0, 0.0
        coverage = counted / whole
        risk = float(weights[accepted & ~correct].sum()) / counted
        if risk <= target:
            break
    return float(threshold), risk, coverage


def fit(
    logits: FloatArray, labels: npt.NDArray[np.int64], sources: npt.NDArray[np.str_], target: float = RISK_TARGET
) -> Fit:
    """Fit both on validation logits float32[N, 6] with truth int64[N] in 0..5 and the source of each cell.

    Only cells of the five classes count for the temperature; for the threshold an object that is none of the five but
    is called one of them is an error, and a call of `other` is not a counted cell.
    """
    five = labels < len(LABELS)
    temperature = fit_temperature(logits[five], labels[five], source_weights(sources[five]))
    called = logits.argmax(axis=1)
    counted = called < len(LABELS)
    confidence = softmax(logits[counted, : len(LABELS)] / temperature).max(axis=1)
    weights = source_weights(sources)[counted]
    threshold, risk, coverage = fit_threshold(confidence, called[counted] == labels[counted], weights, target)
    return Fit(temperature, threshold, risk, coverage)

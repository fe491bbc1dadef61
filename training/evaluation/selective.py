"""What is gained by leaving doubtful cells to a person: risk against coverage."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]


def risk_coverage(confidence: Floats, correct: Booleans) -> tuple[Floats, Floats]:
    """Coverage k/N and risk (share of errors) of the k most confident cells, k = 1..N: two float64[N].

    El-Yaniv and Wiener, On the Foundations of Noise-free Selective Classification, JMLR 2010. Cells of equal
    confidence are taken in random order, and the risk is the mean over the orders: the order of the cells in a file
    says nothing. Raises ValueError when there is no cell.
    """
    n = len(confidence)
    if n == 0:
        raise ValueError("no cells to cover")
    levels, group, sizes = np.unique(-np.asarray(confidence), return_inverse=True, return_counts=True)
    errors = np.bincount(group, weights=~np.asarray(correct), minlength=len(levels))
    # Inside a group of equal confidence the expected errors grow evenly.
    cells = np.concatenate([[0], np.cumsum(sizes)])
    cumulated = np.interp(np.arange(1, n + 1), cells, np.concatenate([[0], np.cumsum(errors)]))
    taken = np.arange(1, n + 1)
    return taken / n, cumulated / taken


def area(risk: Floats) -> float:
    """Area under the risk-coverage curve, as the mean of its N risks (Geifman et al., ICLR 2019)."""
    return float(np.mean(risk))


def risk_at(coverage: Floats, risk: Floats, wanted: float) -> float:
    """Risk of the fewest cells whose coverage is at least `wanted`, 0..1."""
    return float(risk[np.searchsorted(coverage, wanted - 1e-9)])

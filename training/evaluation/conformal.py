"""Conformal sets: instead of one class, the classes that cannot be excluded at a stated error rate.

All methods take probabilities of calibration cells and give sets with a coverage of at least 1 - alpha for cells that
are exchangeable with them. Cells of another site are not: the coverage per source is measured, not promised.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]

Method = Literal["lac", "class-conditional", "raps"]
METHODS: Final = cast(tuple[Method, ...], get_args(Method))

RAPS_PENALTY: Final = 0.1
RAPS_FREE: Final = 1
"""Classes beyond the first RAPS_FREE cost RAPS_PENALTY each, so that sets stay small."""


def quantile(scores: Floats, alpha: float) -> float:
    """Give the ceil((n + 1)(1 - alpha))-th smallest score, infinite when n is too small for it to exist.

    Vovk et al., Algorithmic Learning in a Random World, 2005; Angelopoulos and Bates, A Gentle Introduction to
    Conformal Prediction, 2021, section 1.
    """
    rank = math.ceil((len(scores) + 1) * (1 - alpha) - 1e-9)
    return float(np.sort(scores)[rank - 1]) if 1 <= rank <= len(scores) else math.inf


def _raps_scores(probabilities: Floats) -> Floats:
    # Deterministic: the whole probability of a class counts. Sets are a little larger than with a random part of it.
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.broadcast_to(np.arange(1, order.shape[1] + 1), order.shape), axis=1)
    summed = np.cumsum(np.take_along_axis(probabilities, order, axis=1), axis=1)
    scores = np.take_along_axis(summed, ranks - 1, axis=1)
    return np.asarray(scores + RAPS_PENALTY * np.maximum(ranks - RAPS_FREE, 0))


def scores(probabilities: Floats, method: Method) -> Floats:
    """How badly each class fits each cell: float64[N, C]. 1 - p, or for "raps" the mass of what is likelier.

    LAC: Sadinle et al., Least Ambiguous Set-valued Classifiers, JASA 2019. RAPS: Angelopoulos et al., Uncertainty Sets
    for Image Classifiers using Conformal Prediction, ICLR 2021.
    """
    return _raps_scores(probabilities) if method == "raps" else 1.0 - probabilities


@dataclass(frozen=True, slots=True)
class Conformal:
    """A fitted method: a class is in the set when its score is at most its threshold. `thresholds` has one per class.

    An infinite threshold belongs to a class with too few calibration cells to be excluded at this alpha.
    """

    method: Method
    alpha: float
    thresholds: tuple[float, ...]

    def sets(self, probabilities: Floats) -> Booleans:
        """Tell which classes are in the set of each cell: bool[N, C] for probabilities float64[N, C]."""
        # A hair above, so that a calibration score is not lost by its last bit.
        return np.asarray(scores(probabilities, self.method) <= np.array(self.thresholds) + 1e-12)


def fit(probabilities: Floats, labels: Integers, alpha: float, method: Method) -> Conformal:
    """Fit on calibration cells: probabilities float64[N, C], truth int64[N]; `alpha` in (0, 1) is the error allowed.

    "class-conditional" (Mondrian) holds the coverage for each class by itself.
    """
    classes = probabilities.shape[1]
    of_truth = scores(probabilities, method)[np.arange(len(labels)), labels]
    if method == "class-conditional":
        return Conformal(method, alpha, tuple(quantile(of_truth[labels == index], alpha) for index in range(classes)))
    return Conformal(method, alpha, (quantile(of_truth, alpha),) * classes)


@dataclass(frozen=True, slots=True)
class Coverage:
    """What sets reach on `n` cells: share that holds the truth, mean size, shares of one class alone and of none."""

    method: Method
    alpha: float
    n: int
    coverage: float
    size: float
    single: float
    empty: float
    class_coverage: tuple[float | None, ...]


def measure(fitted: Conformal, probabilities: Floats, labels: Integers) -> Coverage:
    """Measure sets on cells that were not fitted on."""
    sets = fitted.sets(probabilities)
    held = sets[np.arange(len(labels)), labels]
    sizes = sets.sum(axis=1)
    per_class = tuple(
        float(held[labels == index].mean()) if (labels == index).any() else None
        for index in range(probabilities.shape[1])
    )
    return Coverage(
        method=fitted.method,
        alpha=fitted.alpha,
        n=len(labels),
        coverage=float(held.mean()),
        size=float(sizes.mean()),
        single=float((sizes == 1).mean()),
        empty=float((sizes == 0).mean()),
        class_coverage=per_class,
    )

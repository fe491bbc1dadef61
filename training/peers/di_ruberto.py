"""Thresholds, edges, colour and texture with a nearest-neighbour or a support vector machine (the row `Di Ruberto`).

After Putzu, Caocci and Di Ruberto, Leucocyte classification for leukaemia detection using image processing techniques,
Artificial Intelligence in Medicine 62 (2014) 179-191: the cell and its nucleus by thresholds, then descriptors of
shape, colour and texture, then a comparison of classifiers of which an SVM with a Gaussian kernel was best. Departures:
the five classes instead of blast and not; the cell is already cut out by the device's locator; Otsu's thresholds on
green for both regions; local binary patterns and edges beside the co-occurrence matrix. The classifier is chosen by
cross-validation over groups of the training split.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.core.types import Image
from training.data.cells import Cells
from training.peers import features, regions
from training.peers.features import Features
from training.peers.learning import Outcome, as_logits, learnt_from, table


def extract(crop: Image) -> Features:
    """Describe one cell, uint8[S, S, 3] BGR: shape, colour, texture and edges of nucleus and cytoplasm."""
    found = regions.by_threshold(crop)
    grey = features.grey_of(crop)
    described = features.named("nucleus", features.shape(found.nucleus))
    described |= features.named("cell", features.shape(found.cell))
    described |= features.ratio(found.nucleus, found.cytoplasm)
    for name, mask in (("nucleus", found.nucleus), ("cytoplasm", found.cytoplasm)):
        described |= features.named(name, features.colour_moments(crop, mask))
        described |= features.named(name, features.cooccurrence(grey, mask))
        described |= features.named(name, features.local_binary_patterns(grey, mask))
    return described | features.named("cell", features.edges(grey, found.cell))


def candidates(seed: int) -> dict[str, Any]:
    """Give the classifiers that are compared, by name, each on standard scores."""
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    machines = {
        **{f"svm C={c:g}": SVC(C=c, class_weight="balanced", break_ties=True, random_state=seed) for c in (1.0, 10.0)},
        **{f"knn k={k}": KNeighborsClassifier(k, weights="distance", n_jobs=1) for k in (5, 15)},
    }
    return {name: make_pipeline(StandardScaler(), machine) for name, machine in machines.items()}


def scores_of(machine: Any, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Give one score per cell and class, larger for the likelier: float64[N, 5].

    The decision function of an SVM, the logarithm of the neighbours' weighted vote.
    """
    if hasattr(machine, "decision_function"):
        return np.asarray(machine.decision_function(values))
    return np.asarray(np.log(np.maximum(machine.predict_proba(values), 1e-3)))


def classify(cells: Cells, size: int, leave_out: Sequence[str], seed: int) -> Outcome:
    """Learn from the training split, and judge every cell."""
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_score

    described = table(cells, size, extract)
    mask = learnt_from(cells, leave_out)
    values, labels, groups = described.values[mask], cells.labels[mask], cells.group[mask]
    folds = StratifiedGroupKFold(3, shuffle=True, random_state=seed)
    judged = {
        name: float(
            np.mean(
                cross_val_score(
                    machine, values, labels, groups=groups, cv=folds, scoring="balanced_accuracy", error_score="raise"
                )
            )
        )
        for name, machine in candidates(seed).items()
    }
    best = max(judged, key=lambda name: judged[name])
    machine = candidates(seed)[best].fit(values, labels)
    scores = scores_of(machine, described.values)
    notes = {"classifier": best, "cross_validated": judged, "features": len(described.names), "cells": int(mask.sum())}
    return Outcome(as_logits(scores, cells, leave_out), notes)

"""Shape and texture of nucleus and cytoplasm with a support vector machine (the row `Rezatofighi`).

After Rezatofighi and Soltanian-Zadeh, Automatic recognition of five types of white blood cells in peripheral blood,
Computerized Medical Imaging and Graphics 35 (2011) 333-343: Gram-Schmidt orthogonalisation and a snake find nucleus and
cytoplasm, shape, co-occurrence and local binary patterns describe them, sequential forward selection keeps the most
telling features, and an SVM decides. Departures: see `training.peers.regions.by_gram_schmidt`; a feature is selected by
what it adds to a linear discriminant, which costs seconds where the SVM itself would cost hours, among those that
separate the classes best one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from edge.core.types import Image
from training.data.cells import Cells
from training.peers import features, regions
from training.peers.features import Features
from training.peers.learning import Outcome, as_logits, learnt_from, table

_CANDIDATES: Final = 2
"""The selection chooses among this many times as many features as it keeps."""

_FOR_SELECTION: Final = 1500
"""Cells that the selection looks at: more change the order of the features little."""


def extract(crop: Image) -> Features:
    """Describe one cell, uint8[S, S, 3] BGR: shape of nucleus and cell, grey level and texture of both regions."""
    found = regions.by_gram_schmidt(crop)
    grey = features.grey_of(crop)
    described = features.named("nucleus", features.shape(found.nucleus))
    described |= features.named("cell", features.shape(found.cell))
    described |= features.ratio(found.nucleus, found.cytoplasm)
    for name, mask in (("nucleus", found.nucleus), ("cytoplasm", found.cytoplasm)):
        described[f"{name}_grey"] = float(grey[mask].mean())
        described |= features.named(name, features.cooccurrence(grey, mask))
        described |= features.named(name, features.local_binary_patterns(grey, mask))
    return described


def classify(cells: Cells, size: int, leave_out: Sequence[str], seed: int, selected: int) -> Outcome:
    """Select that many features and learn on the training split, and judge every cell."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.feature_selection import SelectKBest, SequentialFeatureSelector, f_classif
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    described = table(cells, size, extract)
    mask = learnt_from(cells, leave_out)
    scaler = StandardScaler().fit(described.values[mask])
    values, labels = scaler.transform(described.values), cells.labels
    learnt = np.flatnonzero(mask)
    shown = np.random.default_rng(seed).permutation(learnt)[:_FOR_SELECTION]
    folds = list(
        StratifiedGroupKFold(3, shuffle=True, random_state=seed).split(values[shown], labels[shown], cells.group[shown])
    )
    separating = SelectKBest(f_classif, k=min(_CANDIDATES * selected, len(described.names)))
    candidates = np.flatnonzero(separating.fit(values[shown], labels[shown]).get_support())
    selector = SequentialFeatureSelector(
        LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.01),
        n_features_to_select=min(selected, len(candidates) - 1),
        scoring="balanced_accuracy",
        cv=folds,
        n_jobs=1,
    ).fit(values[shown][:, candidates], labels[shown])
    kept = candidates[selector.get_support()]
    machine = make_pipeline(
        StandardScaler(), SVC(C=10.0, class_weight="balanced", break_ties=True, random_state=seed)
    ).fit(values[mask][:, kept], labels[mask])
    scores = machine.decision_function(values[:, kept])
    notes = {
        "selected": [described.names[index] for index in kept],
        "features": len(described.names),
        "cells": int(mask.sum()),
    }
    return Outcome(as_logits(scores, cells, leave_out), notes)

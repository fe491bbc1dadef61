"""Folds of few labelled cells: whole groups, every class spread as evenly as its groups allow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]


def assign(labels: Integers, groups: Sequence[str] | npt.NDArray[np.str_], folds: int, seed: int) -> Integers:
    """Give each cell its fold, int64[N] in 0..`folds` - 1; the cells of a group share one.

    Greedy, the largest group first, ties in seeded random order: each goes where its classes are rarest so far, counted
    in shares of a class. Raises ValueError when there are fewer groups than folds.
    """
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < folds or folds < 2:
        raise ValueError(f"{len(names)} groups cannot be spread over {folds} folds")
    totals = np.bincount(labels).astype(np.float64)
    members = np.stack([np.bincount(labels[index == group], minlength=len(totals)) for group in range(len(names))])
    shares = members / np.maximum(totals, 1)
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-members[order].sum(axis=1), kind="stable")]
    held = np.zeros((folds, len(totals)))
    chosen = np.zeros(len(names), dtype=np.int64)
    for group in order:
        # An empty fold first, or a small set could leave one without any cell.
        cost = [
            (bool(held[fold].any()), float(held[fold] @ shares[group]), float(held[fold].sum()))
            for fold in range(folds)
        ]
        best = min(range(folds), key=cost.__getitem__)
        chosen[group] = best
        held[best] += shares[group]
    return np.asarray(chosen[index], dtype=np.int64)

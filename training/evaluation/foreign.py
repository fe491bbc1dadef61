"""Telling the five classes from everything else: scores of "none of the five", and their AUROC for each kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import special

from edge.core.labels import LABELS
from training.predictions import Predictions

FIVE: Final = len(LABELS)
Floats = npt.NDArray[np.float64]


def _entropy(logits: Floats) -> Floats:
    return np.asarray(special.entr(special.softmax(logits[:, :FIVE], axis=1)).sum(axis=1))


SCORES: Final[dict[str, Callable[[Floats], Floats]]] = {
    "other margin": lambda logits: logits[:, FIVE] - logits[:, :FIVE].max(axis=1),
    "other softmax": lambda logits: special.softmax(logits, axis=1)[:, FIVE],
    "max softmax": lambda logits: -special.softmax(logits[:, :FIVE], axis=1).max(axis=1),
    "max logit": lambda logits: -logits[:, :FIVE].max(axis=1),
    "energy": lambda logits: -special.logsumexp(logits[:, :FIVE], axis=1),
    "entropy": _entropy,
}
"""Scores float64[N] of logits float64[N, 6], the larger the less like one of the five. The first two use the output
`other`. Maximum softmax: Hendrycks and Gimpel, ICLR 2017; maximum logit: Hendrycks et al., ICML 2022; energy: Liu et
al., NeurIPS 2020. All cost a device nothing beside the logits."""


@dataclass(frozen=True, slots=True)
class Kind:
    """AUROC of each score for `n` foreign objects of one kind against `against` cells of the five classes.

    `refused` is the share of them whose largest of the six logits is `other`, as a device decides.
    """

    source: str
    kind: str
    n: int
    against: int
    auroc: dict[str, float]
    refused: float


def auroc(positive: Floats, negative: Floats) -> float:
    """Chance that a foreign object scores above a cell, ties half (the Mann-Whitney statistic over its maximum)."""
    from sklearn.metrics import roc_auc_score

    truth = np.concatenate([np.ones(len(positive)), np.zeros(len(negative))])
    return float(roc_auc_score(truth, np.concatenate([positive, negative])))


def kinds(predictions: Predictions) -> list[Kind]:
    """Judge each kind of foreign object of each source, by `subtype`, against the five-class cells of the same source.

    A source without cells of the five classes is judged against those of all sources. Sources with several kinds have
    a row "all" as well. Give it the cells of one split.
    """
    foreign = predictions.labels == FIVE
    logits = predictions.logits.astype(np.float64)
    found = []
    for source in np.unique(predictions.source[foreign]):
        here = predictions.source == source
        own = here & ~foreign
        against = own if own.any() else ~foreign
        if not against.any():
            continue
        names = np.unique(predictions.subtype[here & foreign])
        chosen = [(str(name), here & foreign & (predictions.subtype == name)) for name in names]
        if len(names) > 1:
            chosen.append(("all", here & foreign))
        for name, mask in chosen:
            values = {
                score: auroc(function(logits[mask]), function(logits[against])) for score, function in SCORES.items()
            }
            refused = float((logits[mask].argmax(axis=1) == FIVE).mean())
            found.append(Kind(str(source), name, int(mask.sum()), int(against.sum()), values, refused))
    return found


def best_score(rows: list[Kind]) -> str | None:
    """Name the score with the largest mean AUROC over kinds (rows of validation cells), None when there is no row.

    Each kind counts alike, "all" not at all where a source has several.
    """
    single = [row for row in rows if row.kind != "all"] or rows
    if not single:
        return None
    return max(SCORES, key=lambda score: float(np.mean([row.auroc[score] for row in single])))

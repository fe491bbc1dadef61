"""Which cells a system is judged on, and how they were kept from its training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edge.core.labels import LABELS
from training.data.cells import EVALUATION, Cells
from training.predictions import Predictions

Booleans = npt.NDArray[np.bool_]

RENDERED: Final = "rendered"

_CAVEATS: Final = {
    "pbc": "the set names no patients, so cells of one patient may stand in training and test",
    "bloodmnist": "the set names no patients, so cells of one patient may stand in training and test",
    "bccd": "labels of the set are noisy",
    "embedded": "split by view; views share slides with training",
}
"""What a reader should know of a test split."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The cells of one row: `name`, `source`, `note` on how they were kept from training, and `mask` bool[N]."""

    name: str
    source: str
    note: str
    mask: Booleans


def held_out(predictions: Predictions | Cells, leave_out: Sequence[str]) -> Booleans:
    """Tell which cells neither taught nor chose anything: bool[N].

    The test split of a source that was trained on; all cells of one that was left out or is for evaluation only.
    """
    whole = np.isin(predictions.source, list(leave_out)) | (predictions.split == EVALUATION)
    return np.asarray((whole | (predictions.split == "test")) & (predictions.source != RENDERED))


def validation(predictions: Predictions | Cells, leave_out: Sequence[str]) -> Booleans:
    """Tell which cells may fit a temperature, a threshold or a quantile, and choose a score: bool[N]."""
    used = ~np.isin(predictions.source, [*leave_out, RENDERED])
    return np.asarray(used & (predictions.split == "validation"))


def note(source: str, splits: Sequence[str], leave_out: Sequence[str]) -> str:
    """Say which cells of a source are judged and how they were kept from training."""
    if source in leave_out:
        return "all cells; the source was left out: neither trained on nor used to choose"
    if EVALUATION in splits:
        return "all cells; for evaluation only: never trained on, chose nothing"
    caveat = f"; {_CAVEATS[source]}" if source in _CAVEATS else ""
    return f"test split by group: not trained on, chose and calibrated nothing{caveat}"


def rows(predictions: Predictions, leave_out: Sequence[str] = ()) -> list[Chosen]:
    """One row per source of single-cell pictures, and one, `source, in fields`, of cells cut from whole fields.

    Objects of whole fields that are no white cells have no row: `training.evaluation.foreign` judges them. A row
    without a cell of the five classes is left out.
    """
    free = held_out(predictions, leave_out)
    found = []
    for source in np.unique(predictions.source[free]).tolist():
        here = free & (predictions.source == source)
        text = note(source, np.unique(predictions.split[here]).tolist(), leave_out)
        for name, kind in ((source, "cell"), (f"{source}, in fields", "field")):
            mask = here & (predictions.kind == kind)
            if (predictions.labels[mask] < len(LABELS)).any():
                found.append(Chosen(name, source, text, np.asarray(mask)))
    return found

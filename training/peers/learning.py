"""What the classical peers share: which cells they learn from, their table of features, and scores as logits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge.core.errors import UsageError
from edge.core.labels import LABELS
from edge.core.types import FloatArray, Image
from quantization.calibration import fit_temperature, source_weights
from training.data import sources
from training.data.augment import centre
from training.data.cells import Cells
from training.peers.features import Features

_LOG = logging.getLogger(__name__)

Extract = Callable[[Image], Features]
Booleans = npt.NDArray[np.bool_]

NEVER: Final = 30.0
"""The logit of `other` lies this far below the least of the five: these systems know five classes only."""


@dataclass(frozen=True, slots=True)
class Table:
    """`values` float64[N, F], finite, with the `names` of its F columns."""

    values: npt.NDArray[np.float64]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a peer made of all cells: `logits` float32[N, 6] in the order of CLASSES, and `notes` on how, for JSON."""

    logits: FloatArray
    notes: dict[str, Any]


def one_of_five(cells: Cells) -> Booleans:
    """Tell which cells are one of the five: bool[N]."""
    return np.asarray(cells.labels < len(LABELS))


def learnt_from(cells: Cells, leave_out: Sequence[str] = ()) -> Booleans:
    """Tell which cells a five-class system may learn from: bool[N].

    Raises UsageError `nothing-to-train-on` when a class has no cell left, `licence-forbids-training` when a source may
    not be trained on.
    """
    mask = _allowed(cells, leave_out, "train")
    missing = [name for index, name in enumerate(LABELS) if not (cells.labels[mask] == index).any()]
    if missing:
        raise UsageError(
            "nothing-to-train-on",
            f"The training split has no {', '.join(missing)}.",
            "Check --data and --leave-out.",
        )
    sources.require_trainable(str(name) for name in np.unique(cells.source[mask]))
    return mask


def _allowed(cells: Cells, leave_out: Sequence[str], split: str) -> Booleans:
    return np.asarray(one_of_five(cells) & (cells.split == split) & ~np.isin(cells.source, leave_out))


def table(cells: Cells, size: int, extract: Extract) -> Table:
    """Give the features of the middle, `size` pixels wide, of every crop."""
    rows: list[list[float]] = []
    names: tuple[str, ...] = ()
    for index, crop in enumerate(cells.crops):
        found = extract(centre(crop, size))
        names = tuple(found)
        rows.append(list(found.values()))
        if (index + 1) % 1000 == 0:
            _LOG.info("features of %d of %d cells", index + 1, len(cells))
    return Table(np.nan_to_num(np.array(rows, dtype=np.float64)), names)


def as_logits(scores: npt.NDArray[np.float64], cells: Cells, leave_out: Sequence[str]) -> FloatArray:
    """Turn scores float64[N, 5], larger for the likelier class, into logits float32[N, 6].

    One temperature for all, fitted on the validation cells where there are any, makes probabilities of them; `other` is
    never called.
    """
    chosen = _allowed(cells, leave_out, "validation")
    logits = scores.astype(np.float32)
    if chosen.any():
        weights = source_weights(cells.source[chosen])
        logits = logits / np.float32(fit_temperature(logits[chosen], cells.labels[chosen], weights))
    return np.column_stack([logits, logits.min(axis=1) - np.float32(NEVER)]).astype(np.float32)

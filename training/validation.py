"""How a run judges itself after each epoch, and the score that chooses its checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edge.core.errors import UsageError
from edge.core.types import FloatArray
from edge.imaging.preprocess import to_input
from edge.inference.second_look import Wider
from training.config import RunConfig
from training.data.augment import centre, generator_for, random_view
from training.data.cells import Cells
from training.data.views import network_inputs
from training.metrics import Figures, figures

if TYPE_CHECKING:
    import keras

OTHER_CAMERAS = "pbc, random cameras"
"""A validation source made of the PBC validation cells, each through one fixed random microscope."""


@dataclass(frozen=True, slots=True)
class ValidationSet:
    """`inputs` float32[N, S, S, 3] and `labels` int64[N] of one source's validation cells.

    `wider` gives the input of a cell, by its row, cut so many times as wide, for a device's second look; None where
    there is no wider picture of the cell.
    """

    name: str
    inputs: FloatArray
    labels: npt.NDArray[np.int64]
    wider: Wider | None = None


def _of(name: str, chosen: Cells, config: RunConfig) -> ValidationSet:
    def seen(row: int, width: float = 1.0) -> FloatArray:
        return to_input(centre(chosen.crops[row], config.size, width), config.preprocessing)

    return ValidationSet(name, np.stack([seen(row) for row in range(len(chosen))]), chosen.labels, seen)


def validation_sets(cells: Cells, config: RunConfig) -> list[ValidationSet]:
    """One set per source, and one of PBC seen by other cameras; a source that is left out gives all its cells."""
    sets = []
    whole = cells.kind != "background"
    for name in np.unique(cells.source[whole & (cells.source != "rendered")]):
        mask = whole & (cells.source == name)
        if name not in config.leave_out:
            mask &= cells.split == "validation"
        chosen = cells.select(mask)
        if len(chosen):
            sets.append(_of(str(name), chosen, config))
    pbc = cells.select((cells.source == "pbc") & (cells.split == "validation"))
    if len(pbc) and "pbc" not in config.leave_out:
        seen = [random_view(crop, config.size, generator_for(77, index)) for index, crop in enumerate(pbc.crops)]
        sets.append(ValidationSet(OTHER_CAMERAS, network_inputs(seen, config), pbc.labels))
    return sets


def held_out_sets(cells: Cells, config: RunConfig) -> list[ValidationSet]:
    """One set per source of the cells that neither trained the network nor chose anything."""
    sets = []
    mask = (cells.kind != "background") & ~np.isin(cells.split, ("train", "validation")) & (cells.source != "rendered")
    for name in np.unique(cells.source[mask]):
        chosen = cells.select(mask & (cells.source == name))
        sets.append(_of(str(name), chosen, config))
    return sets


def judge(model: keras.Model, sets: Sequence[ValidationSet]) -> list[Figures]:
    """Figures of a model whose one output are the logits, on each validation set."""
    rows = []
    for item in sets:
        logits = np.asarray(model.predict(item.inputs, batch_size=128, verbose=0))
        rows.append(figures(item.name, item.labels, logits.argmax(axis=1).astype(np.int64)))
    return rows


def score(rows: Sequence[Figures], leave_out: Sequence[str]) -> float:
    """Weigh a checkpoint: the mean over sources of balanced accuracy, each weighted by the root of its cells.

    The root keeps eleven cells of one site from deciding alone. A source that is left out has no say. Raises UsageError
    `nothing-to-validate-on` when no source is left.
    """
    used = [row for row in rows if row.source not in leave_out]
    if not used:
        raise UsageError(
            "nothing-to-validate-on", "No validation cell is left to choose by.", "Check --data and --leave-out."
        )
    weights = np.sqrt([min(row.n, 150) for row in used])
    return float(np.average([row.balanced_accuracy for row in used], weights=weights))

"""What corruptions cost: balanced accuracy of the same cells, clean and corrupted."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from edge.core.labels import LABELS
from edge.core.types import FloatArray, Image
from training.data.augment import centre, generator_for
from training.data.cells import Cells
from training.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from training.metrics import Integers, figures

_LOG = logging.getLogger(__name__)

_SEED: Final = 4711
"""Every system sees the same corrupted pictures."""


@dataclass(frozen=True, slots=True)
class Robustness:
    """Balanced accuracy over the five classes (the largest of five logits) on `n` cells of one source.

    `corrupted` has one value per severity 1-5 for each corruption. `relative` is each corruption's mean over the
    severities divided by `clean`, `mean_relative` the mean of those over the corruptions.
    """

    source: str
    n: int
    clean: float
    corrupted: dict[str, tuple[float, ...]]

    @property
    def relative(self) -> dict[str, float]:
        """Mean over severities, as a share of the clean figure; empty when that is 0."""
        return {name: float(np.mean(values)) / self.clean for name, values in self.corrupted.items() if self.clean}

    @property
    def mean_relative(self) -> float | None:
        """Mean of `relative`."""
        return float(np.mean(list(self.relative.values()))) if self.relative else None


def sample(cells: Cells, per_class: int) -> Cells:
    """Draw at most `per_class` cells of each of the five classes, the same ones each time."""
    chosen: list[int] = []
    for index in range(len(LABELS)):
        places = np.flatnonzero(cells.labels == index)
        chosen += np.sort(generator_for(_SEED, index).permutation(places)[:per_class]).tolist()
    return cells.select(np.array(chosen, dtype=np.int64))


def measure(source: str, cells: Cells, size: int, logits: Callable[[list[Image]], FloatArray]) -> Robustness:
    """Judge cells through every corruption; `size` is the network's, `logits` gives float32[N, 6] of crops.

    Raises ValueError when there is no cell.
    """
    crops = [centre(crop, size) for crop in cells.crops]
    labels: Integers = cells.labels

    def judged(pictures: list[Image]) -> float:
        called = logits(pictures)[:, : len(LABELS)].argmax(axis=1).astype(np.int64)
        return figures(source, labels, called).balanced_accuracy

    clean = judged(crops)
    corrupted = {}
    for number, corruption in enumerate(CORRUPTIONS):
        values = []
        for severity in SEVERITIES:
            seen = [
                corrupt(crop, corruption, severity, generator_for(_SEED, number, severity, index))
                for index, crop in enumerate(crops)
            ]
            values.append(judged(seen))
        corrupted[corruption.name] = tuple(values)
        _LOG.info("%s, %s: %s", source, corruption.name, " ".join(f"{value:.3f}" for value in values))
    return Robustness(source, len(labels), clean, corrupted)

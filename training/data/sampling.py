"""Batches that are balanced over classes and sources, made in the background, the same for the same seed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.core.labels import LABELS
from edge.core.types import FloatArray
from edge.imaging.preprocess import to_input
from training.config import CLASSES, RunConfig
from training.data.augment import augment, generator_for
from training.data.cells import Cells
from training.data.sources import SOURCES

_SOURCE_POWER = 0.5
"""A source's share within a class grows with the root of its cells: none drowns, none is repeated beyond sense."""


@dataclass(frozen=True, slots=True)
class Batch:
    """`inputs` float32[N, S, S, 3] as the network wants them, soft `targets` float32[N, 6], `weights` float32[N]."""

    inputs: FloatArray
    targets: FloatArray
    weights: FloatArray


def probabilities(cells: Cells, config: RunConfig) -> npt.NDArray[np.float64]:
    """Give the chance of each cell to be drawn: float64[N], sum 1.

    `other` gets its configured share, the five classes split the rest evenly. Of each class rendered cells get their
    share first, and generated ones where the class has any; real sources split what is left by the root of their
    number of cells.
    """
    chance = np.zeros(len(cells))
    rendered, generated = cells.source == "rendered", cells.source == "generated"
    rendered_share = config.rendered_share if rendered.any() else 0.0
    for label in range(len(CLASSES)):
        share = config.other_share if label == len(LABELS) else (1.0 - config.other_share) / len(LABELS)
        generated_share = config.generated_share if (generated & (cells.labels == label)).any() else 0.0
        real_share = 1.0 - rendered_share - generated_share
        pools = ((~rendered & ~generated, real_share), (rendered, rendered_share), (generated, generated_share))
        for pool, pool_share in pools:
            mask = pool & (cells.labels == label)
            names, counts = np.unique(cells.source[mask], return_counts=True)
            if len(names) == 0:
                continue
            roots = counts.astype(np.float64) ** _SOURCE_POWER
            for name, count, root in zip(names, counts, roots, strict=True):
                chance[mask & (cells.source == name)] = share * pool_share * root / roots.sum() / count
    return np.asarray(chance / chance.sum())


def soft_targets(cells: Cells, config: RunConfig) -> tuple[FloatArray, FloatArray]:
    """Targets float32[N, 6] and weights float32[N]: sources with doubtful labels get softer targets and count less."""
    trusted = [SOURCES[name] for name in cells.source]
    # The doubt is about which of the five it is; that a red cell's box holds no white cell is not in doubt.
    doubtful = cells.labels < len(LABELS)
    smoothing = config.label_smoothing + np.array([source.smoothing for source in trusted]) * doubtful
    weights = np.where(doubtful, [source.label_weight for source in trusted], 1.0)
    targets = np.eye(len(CLASSES))[cells.labels] * (1 - smoothing)[:, None] + (smoothing / len(CLASSES))[:, None]
    return targets.astype(np.float32), weights.astype(np.float32)


class BatchMaker:
    """Makes batch `index` of `epoch`: a pure function of the seed and the two numbers."""

    def __init__(self, cells: Cells, config: RunConfig) -> None:
        self._cells = cells
        self._config = config
        self._chance = probabilities(cells, config)
        self._targets, self._weights = soft_targets(cells, config)

    def make(self, epoch: int, index: int) -> Batch:
        """Draw, augment and normalise one batch."""
        config = self._config
        generator = generator_for(config.seed, epoch, index)
        drawn = generator.choice(len(self._cells), config.batch, p=self._chance)
        crops = [augment(self._cells.crops[i], config.size, generator) for i in drawn]
        inputs = np.stack([to_input(crop, config.preprocessing) for crop in crops])
        return Batch(inputs, self._targets[drawn], self._weights[drawn])

    def epoch(self, number: int, workers: int = 2, ahead: int = 6) -> Iterator[Batch]:
        """Give the batches of one epoch in order, made by threads while the network trains.

        Threads suffice: OpenCV and NumPy release the interpreter lock.
        """
        with ThreadPoolExecutor(workers) as pool:
            queue: deque[Future[Batch]] = deque()
            for index in range(self._config.steps):
                queue.append(pool.submit(self.make, number, index))
                if len(queue) > ahead:
                    yield queue.popleft().result()
            while queue:
                yield queue.popleft().result()

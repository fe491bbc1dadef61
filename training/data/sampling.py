"""Batches that are balanced over classes and sources, made in the background, the same for the same seed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edge.core.labels import LABELS
from edge.core.types import FloatArray, Image
from edge.imaging.preprocess import Preprocessing, to_input
from training.config import CLASSES, RunConfig
from training.data.augment import augment, generator_for
from training.data.cells import Cells
from training.data.sources import SOURCES
from training.data.views import network_inputs, reduced, require_size, view_size

_SOURCE_POWER = 0.5
"""A source's share within a class grows with the root of its cells: none drowns, none is repeated beyond sense."""


@dataclass(frozen=True, slots=True)
class Batch:
    """`inputs` float32[N, S, S, 3] as the network wants them, soft `targets` float32[N, 6], `weights` float32[N].

    `teacher_inputs` are the same views as each kind of teacher wants them, by its preprocessing.
    """

    inputs: FloatArray
    targets: FloatArray
    weights: FloatArray
    teacher_inputs: Mapping[Preprocessing, FloatArray] = field(default_factory=dict)


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


def natural_probabilities(cells: Cells, config: RunConfig) -> npt.NDArray[np.float64]:
    """Draw each real cell alike, and rendered ones with their share: float64[N], sum 1. For a loss that balances."""
    rendered = cells.source == "rendered"
    share = config.rendered_share if rendered.any() and not rendered.all() else float(rendered.any())
    chance = np.where(rendered, share / max(1, rendered.sum()), (1 - share) / max(1, (~rendered).sum()))
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
    """Makes batch `index` of `epoch`: a pure function of the seed and the two numbers.

    The losses "weighted" and "class-balanced" get cells as they come, all others classes and sources in balance.
    `positions` is the part of each batch that is made here, where several workers share it: together they make what one
    would make alone. `teachers` are preprocessings for which the views are wanted, too. Raises UsageError
    `crops-too-small` when the cells were cut smaller than a network takes them.
    """

    def __init__(
        self,
        cells: Cells,
        config: RunConfig,
        positions: range | None = None,
        teachers: Sequence[Preprocessing] = (),
    ) -> None:
        for size in (config.size, *(teacher.size for teacher in teachers)):
            require_size(cells.crops, size)
        self._cells = cells
        self._config = config
        self._positions = range(config.batch) if positions is None else positions
        self._teachers = tuple(dict.fromkeys(teachers))
        self._view = view_size(cells.crops)
        chances = probabilities if config.balanced_batches else natural_probabilities
        self._chance = chances(cells, config)
        self._targets, self._weights = soft_targets(cells, config)

    def make(self, epoch: int, index: int) -> Batch:
        """Draw, augment and normalise one batch, or this worker's part of it."""
        config = self._config
        drawn = generator_for(config.seed, epoch, index).choice(len(self._cells), config.batch, p=self._chance)
        # Each view has a generator of its own: it does not depend on who makes the others.
        views = [
            augment(
                self._cells.crops[drawn[place]],
                self._view,
                generator_for(config.seed, epoch, index, place),
                config.augmentation,
            )
            for place in self._positions
        ]
        mine = drawn[self._positions.start : self._positions.stop]
        return Batch(
            network_inputs([reduced(view, config.size) for view in views], config),
            self._targets[mine],
            self._weights[mine],
            {wanted: _inputs(views, wanted) for wanted in self._teachers},
        )

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


def _inputs(views: Sequence[Image], wanted: Preprocessing) -> FloatArray:
    return np.stack([to_input(reduced(view, wanted.size), wanted) for view in views])

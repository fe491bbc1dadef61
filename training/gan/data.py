"""Which cells a generator may learn from, and how crops and its pictures turn into each other."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from edge.core.errors import UsageError
from edge.core.labels import LABELS
from edge.core.types import Box, FloatArray, Image, LocatedCell
from edge.imaging import crop
from edge.imaging.preprocess import Preprocessing, to_input
from training.data import sources
from training.data.augment import centre, generator_for
from training.data.cells import Cells
from training.gan.config import GanConfig

GENERATED: Final = "generated"
"""The source of generated cells in `training.data.sources`."""

_DRAWN: Final = ("rendered", GENERATED)
"""Sources that are drawn by a program: a generator learns from microscopes alone."""


def require_training_fold(cells: Cells) -> None:
    """Raise UsageError unless every cell is of the training fold, of a source that may be trained on, and real.

    Codes: `not-training-fold`, `licence-forbids-training`, `not-a-real-cell`.
    """
    sources.require_trainable(str(name) for name in np.unique(cells.source))
    strays = np.unique(cells.split[cells.split != "train"]).tolist()
    if strays:
        raise UsageError(
            "not-training-fold",
            f"A generator may not see cells of {', '.join(strays)}.",
            "Give it cells whose split is train; `training.gan.data.parents` selects them.",
        )
    drawn = np.isin(cells.source, _DRAWN) | (cells.kind == "background") | (cells.labels >= len(LABELS))
    if drawn.any():
        raise UsageError(
            "not-a-real-cell",
            "A generator learns from real cells of the five classes alone.",
            "Leave out rendered and generated cells, background, and the class other.",
        )


def parents(cells: Cells, config: GanConfig) -> Cells:
    """Give the cells that a generator learns from: training fold, chosen sources, five classes, the scarce class cut.

    Raises UsageError `nothing-to-train-on` when no cell is left, and what `require_training_fold` raises.
    """
    sources.require_trainable(name for name in config.sources if name in sources.SOURCES)
    trainable = [name for name, source in sources.SOURCES.items() if source.trainable and name not in _DRAWN]
    wanted = config.sources or tuple(trainable)
    chosen = cells.select(
        (cells.split == "train")
        & np.isin(cells.source, wanted)
        & (cells.kind != "background")
        & (cells.labels < len(LABELS))
    )
    if config.scarce:
        chosen = cut_class(chosen, LABELS.index(config.scarce), config.kept, config.seed)
    if not len(chosen):
        raise UsageError(
            "nothing-to-train-on", "No training cell is left for the generator.", "Check --data and --source."
        )
    require_training_fold(chosen)
    return chosen


def cut_class(cells: Cells, label: int, kept: int, seed: int) -> Cells:
    """Keep only `kept` cells of a class, drawn by the seed in the order of their picture, and all of the others."""
    of_class = np.flatnonzero(cells.labels == label)
    ordered = of_class[np.argsort(cells.picture[of_class], kind="stable")]
    drawn = generator_for(seed, label, kept).permutation(ordered)[:kept]
    mask = cells.labels != label
    mask[drawn] = True
    return cells.select(mask)


def resized(crops: Image, side: int) -> Image:
    """Crops uint8[N, S, S, 3] with `side` pixels a side, by the device's own cutting of a square that is all of it."""
    if crops.shape[1] == side:
        return crops
    whole = float(crops.shape[1])
    cell = LocatedCell(Box(0, 0, int(whole), int(whole)), (whole / 2, whole / 2), whole)
    return np.stack([crop.cut(one, cell, side, 1.0) for one in crops])


def views(cells: Cells, config: GanConfig) -> Image:
    """Give what a generator learns to draw: the network's field of view, uint8[N, R, R, 3]."""
    return resized(np.stack([centre(one, config.size) for one in cells.crops]), config.resolution)


def to_network(crops: Image) -> FloatArray:
    """Crops uint8[N, S, S, 3] BGR as a network takes them: float32[N, S, S, 3] RGB in [-1, 1]."""
    preprocessing = Preprocessing(size=crops.shape[1], margin=1.0)
    return np.stack([to_input(one, preprocessing) for one in crops])


def to_crops(drawn: FloatArray) -> Image:
    """Turn a generator's pictures, float32[N, S, S, 3] RGB in [-1, 1], into crops uint8[N, S, S, 3] BGR."""
    levels = np.clip(np.rint((drawn[..., ::-1] + 1.0) * 127.5), 0, 255)
    return np.ascontiguousarray(levels.astype(np.uint8))


class BatchSource:
    """Gives batch `step`, a pure function of the seed and the step: classes alike, sources by the root of their cells.

    Each crop is turned and mirrored into one of its eight symmetries: a cell has no upper side.
    """

    def __init__(self, cells: Cells, config: GanConfig) -> None:
        require_training_fold(cells)
        self._images = to_network(views(cells, config))
        self._labels = cells.labels
        self._config = config
        chance = np.zeros(len(cells))
        for label in np.unique(cells.labels):
            mask = cells.labels == label
            names, counts = np.unique(cells.source[mask], return_counts=True)
            roots = np.sqrt(counts)
            for name, count, root in zip(names, counts, roots, strict=True):
                chance[mask & (cells.source == name)] = root / roots.sum() / count
        self._chance = chance / chance.sum()

    @property
    def classes(self) -> npt.NDArray[np.int64]:
        """The classes that occur, in order."""
        return np.unique(self._labels)

    def make(self, step: int) -> tuple[FloatArray, npt.NDArray[np.int32]]:
        """Draw images float32[batch, R, R, 3] in [-1, 1] and labels int32[batch]."""
        generator = generator_for(self._config.seed, step)
        drawn = generator.choice(len(self._labels), self._config.batch, p=self._chance)
        images = np.empty((len(drawn), *self._images.shape[1:]), dtype=np.float32)
        for row, (index, turns, mirror) in enumerate(
            zip(drawn, generator.integers(0, 4, len(drawn)), generator.random(len(drawn)) < 0.5, strict=True)
        ):
            image = np.rot90(self._images[index], turns)
            images[row] = image[:, ::-1] if mirror else image
        return images, self._labels[drawn].astype(np.int32)

"""A few hundred cells of the original training, kept in the run's folder: to rehearse, and to judge what is lost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from edge.bundle.manifest import DataSource
from edge.core.durable import write_bytes
from edge.core.errors import InputError
from training.config import CLASSES, RunConfig
from training.data.cells import Cells

REPLAY_FILE: Final = "replay.npz"
PROVENANCE_FILE: Final = "provenance.json"

_TRAIN: Final = 100
_VALIDATION: Final = 60
"""Cells of each class."""


def draw(cells: Cells, leave_out: Sequence[str], seed: int = 0) -> Cells:
    """Draw cells of each class from training and validation, of all sources by the root of their number.

    Rendered cells and sources that were left out stay out.
    """
    usable = ~np.isin(cells.source, (*leave_out, "rendered"))
    generator = np.random.default_rng(seed)
    chosen: list[int] = []
    for split, most in (("train", _TRAIN), ("validation", _VALIDATION)):
        for label in range(len(CLASSES)):
            pool = np.flatnonzero(usable & (cells.split == split) & (cells.labels == label))
            names, counts = np.unique(cells.source[pool], return_counts=True)
            weight = dict(zip(names.tolist(), 1 / np.sqrt(counts), strict=True))
            chance = np.array([weight[name] for name in cells.source[pool].tolist()])
            if len(pool):
                taken = generator.choice(pool, min(most, len(pool)), replace=False, p=chance / chance.sum())
                chosen += np.sort(taken).tolist()
    return cells.select(np.array(chosen, dtype=np.int64))


def keep(cells: Cells, config: RunConfig, folder: Path, origin: Sequence[DataSource]) -> Cells:
    """Write the replay set of a run, and where all its training cells came from, into its folder; returns the set."""
    chosen = draw(cells, config.leave_out, config.seed)
    write(chosen, origin, folder)
    return chosen


def write(chosen: Cells, origin: Sequence[DataSource], folder: Path) -> None:
    """Write a replay set and its provenance into a run's folder."""
    chosen.save(folder / REPLAY_FILE)
    write_bytes(folder / PROVENANCE_FILE, (json.dumps(msgspec.to_builtins(list(origin)), indent=1) + "\n").encode())


def find(run: Path) -> tuple[Cells, tuple[DataSource, ...]]:
    """Read the replay set of a run and its provenance. Raises InputError `no-replay` when the run has none."""
    if not (run / REPLAY_FILE).is_file() or not (run / PROVENANCE_FILE).is_file():
        raise InputError(
            "no-replay",
            f"{run} holds no cells of its training.",
            "Name the folder of the labelled images that it was trained on with --data.",
        )
    origin = msgspec.json.decode((run / PROVENANCE_FILE).read_bytes(), type=tuple[DataSource, ...])
    return Cells.load(run / REPLAY_FILE), origin

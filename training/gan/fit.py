"""The generative run: batches, checkpoints, history; a run that was broken off goes on as if it had not been."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from edge.core.durable import write_bytes
from edge.core.errors import UsageError
from edge.core.labels import LABELS
from training.data import sources
from training.data.cells import Cells
from training.gan import generator
from training.gan.config import GanConfig
from training.gan.data import BatchSource
from training.gan.model import ConditionalGan

_LOG = logging.getLogger(__name__)

CONFIG, HISTORY, STATE, WEIGHTS, PARENTS = (
    "gan.json",
    "gan-history.json",
    "gan-state.npz",
    "generator.weights.h5",
    "parents.json",
)
"""The files of a generative run."""


def _save_state(gan: ConditionalGan, step: int, path: Path) -> None:
    partial = path.with_suffix(".partial.npz")
    arrays = {f"v{index:04d}": keras.ops.convert_to_numpy(item) for index, item in enumerate(gan.state())}
    np.savez(partial, step=np.int64(step), **arrays)
    partial.rename(path)


def _load_state(gan: ConditionalGan, path: Path) -> int:
    with np.load(path) as archive:
        for index, variable in enumerate(gan.state()):
            variable.assign(archive[f"v{index:04d}"])
        return int(archive["step"])


def _write_json(path: Path, value: Any) -> None:
    write_bytes(path, (json.dumps(value, indent=1) + "\n").encode())


def describe_parents(cells: Cells) -> dict[str, Any]:
    """Say which cells a generator saw: their number per class and source, the licences, and each picture."""
    names = [str(name) for name in np.unique(cells.source)]
    return {
        "classes": {label: int((cells.labels == index).sum()) for index, label in enumerate(LABELS)},
        "sources": {
            name: {
                "cells": int((cells.source == name).sum()),
                "licence": sources.SOURCES[name].licence,
                "citation": sources.SOURCES[name].citation,
            }
            for name in names
        },
        "pictures": sorted({str(picture) for picture in cells.picture}),
    }


def fit(cells: Cells, config: GanConfig, folder: Path) -> Path:
    """Train on `cells` and return the file of the averaged generator's weights in `folder`.

    Every `save_every` steps the whole state and the history are written; a broken run goes on from there to the same
    end, and one that has ended goes on when it is given more steps. Raises UsageError `not-training-fold`,
    `licence-forbids-training` or `not-a-real-cell` for cells that a generator may not see, and `another-run` when the
    folder holds a run with other settings.
    """
    batches = BatchSource(cells, config)
    folder.mkdir(parents=True, exist_ok=True)
    stored = folder / CONFIG
    # Nothing but the end depends on the number of steps: a run may be made longer, or ended at its last checkpoint.
    if stored.is_file() and replace(GanConfig.load(stored), steps=config.steps) != config:
        raise UsageError("another-run", f"{folder} holds a run with other settings.", "Choose another --out.")
    config.save(stored)
    _write_json(folder / PARENTS, describe_parents(cells))
    gan = ConditionalGan(config)
    gan.compile()
    state, history = folder / STATE, folder / HISTORY
    first = _load_state(gan, state) if state.is_file() else 0
    rows: list[dict[str, float]] = json.loads(history.read_text()) if history.is_file() else []
    # The history may be one row ahead of the state when the run was killed between the two files.
    rows = [row for row in rows if row["step"] <= first]
    losses: list[dict[str, float]] = []
    for step in range(first, config.steps):
        values = gan.train_on_batch(*batches.make(step), return_dict=True)
        losses.append({name: float(value) for name, value in values.items()})
        if (step + 1) % config.save_every == 0 or step + 1 == config.steps:
            means = {name: float(np.mean([row[name] for row in losses])) for name in losses[0]}
            rows.append({"step": step + 1, **means})
            losses.clear()
            _write_json(history, rows)
            _save_state(gan, step + 1, state)
            _LOG.info("step %d  discriminator %.3f  generator %.3f", step + 1, *means.values())
    gan.average.save_weights(folder / WEIGHTS)
    return folder / WEIGHTS


def load(folder: Path) -> tuple[keras.Model, GanConfig]:
    """Load the averaged generator of a finished run, and its configuration.

    Raises UsageError `no-generative-run` for a folder without one, `gan-unfinished` for a run that has not ended.
    """
    config = GanConfig.load(folder / CONFIG)
    if not (folder / WEIGHTS).is_file():
        raise UsageError(
            "gan-unfinished", f"The run in {folder} has not ended.", "Give its `leuko train gan fit` command again."
        )
    network = generator.build(config)
    network.load_weights(folder / WEIGHTS)
    return network, config

"""The state of a run in one file, so that a kill at any moment leaves one whole epoch and never parts of two."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge.core.durable import write_bytes
from edge.core.errors import InputError
from training.config import RunConfig
from training.schedule import Weights

CHECKPOINT: Final = "checkpoint.npz"
HISTORY: Final = "history.json"
CHOSEN: Final = "model.weights.h5"
"""Files of a run folder, beside `config.json`."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A run after its last whole epoch: weights, their moving average, the optimizer's variables, and the history."""

    model: Weights
    average: Weights
    optimizer: Weights
    epochs: list[dict[str, Any]] = field(default_factory=list)

    def save(self, folder: Path) -> None:
        """Write the checkpoint, then the history for a person to read; the history is never ahead of it."""
        arrays: dict[str, Any] = {"epochs": np.array(json.dumps(self.epochs))}
        for name in ("model", "average", "optimizer"):
            arrays |= {f"{name}/{index:04d}": array for index, array in enumerate(getattr(self, name))}
        stream = io.BytesIO()
        np.savez(stream, **arrays)
        write_bytes(folder / CHECKPOINT, stream.getvalue())
        write_history(folder, self.epochs)

    @classmethod
    def load(cls, folder: Path) -> Checkpoint | None:
        """Read the checkpoint of a run folder, None when it has none."""
        path = folder / CHECKPOINT
        if not path.is_file():
            return None
        with np.load(path) as archive:
            parts = {
                name: [archive[key] for key in sorted(archive.files) if key.startswith(f"{name}/")]
                for name in ("model", "average", "optimizer")
            }
            return cls(**parts, epochs=json.loads(str(archive["epochs"])))


def stored_config(folder: Path) -> RunConfig | None:
    """Read the settings of a run folder, None when it has none. Raises InputError `settings-unreadable`."""
    path = folder / "config.json"
    if not path.is_file():
        return None
    try:
        return RunConfig.load(path)
    except (OSError, ValueError, TypeError, AttributeError) as problem:
        raise InputError(
            "settings-unreadable",
            f"{path} holds no settings of this version: {problem}.",
            "Train again into another --out, or use the version that wrote it.",
        ) from problem


def finished_config(folder: Path) -> RunConfig:
    """Read the settings of a run that has chosen weights.

    Raises InputError `no-finished-run` where there is none, and what `stored_config` raises.
    """
    config = stored_config(folder)
    if config is None or not (folder / CHOSEN).is_file():
        raise InputError("no-finished-run", f"{folder} holds no finished run.", "Name a folder of `leuko train fit`.")
    return config


def write_history(folder: Path, epochs: Sequence[Mapping[str, Any]]) -> None:
    """Write `history.json`: one object per epoch."""
    write_bytes(folder / HISTORY, (json.dumps(list(epochs), indent=1) + "\n").encode())


def save_chosen(model: Any, folder: Path) -> Path:
    """Save the weights of a Keras model as the chosen ones of the run, whole or not at all."""
    partial, chosen = folder / "partial.weights.h5", folder / CHOSEN
    model.save_weights(partial)
    partial.replace(chosen)
    return chosen

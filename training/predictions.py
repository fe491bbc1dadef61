"""What a network said of each cell: the one thing that every evaluation reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge.core.types import FloatArray, Outputs
from edge.inference.second_look import look_again
from training.config import RunConfig
from training.data.augment import centre
from training.data.cells import Cells
from training.data.views import network_inputs

SECOND_LOOK: Final = 0.8
"""Below this probability of the best class a cell is seen from all sides; bundles are packed with it."""

Run = Callable[[FloatArray], Outputs]


@dataclass(frozen=True, slots=True)
class Predictions:
    """N cells: `logits` float32[N, 6] and `labels` int64[N] in the order of CLASSES, then string arrays.

    `source`, `split` ("train", "validation", "test", or "evaluation" for a source that may not be trained on), `kind`
    ("cell", "field", "background"), `group`, `picture` (file in the data folder) and `subtype` (the source's own name
    of the cell, for example "erythroblast") are those of `training.data.cells.Cells`.
    """

    logits: FloatArray
    labels: npt.NDArray[np.int64]
    source: npt.NDArray[np.str_]
    split: npt.NDArray[np.str_]
    kind: npt.NDArray[np.str_]
    group: npt.NDArray[np.str_]
    picture: npt.NDArray[np.str_]
    subtype: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, mask: npt.NDArray[Any]) -> Predictions:
        """Give the predictions of a boolean mask or an index array."""
        return Predictions(**{name: getattr(self, name)[mask] for name in self.__slots__})

    def save(self, path: Path) -> None:
        """Write to an npz file."""
        np.savez_compressed(path, **{name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def load(cls, path: Path) -> Predictions:
        """Read what `save` wrote."""
        with np.load(path) as archive:
            return cls(**{name: archive[name] for name in cls.__slots__})


def keras_run(model: Any) -> Run:
    """Let a Keras model with the output "logits" be run as a device's runtime is, without class-activation maps."""

    def run(inputs: FloatArray) -> Outputs:
        return Outputs(np.asarray(model.predict(inputs, batch_size=128, verbose=0)["logits"], dtype=np.float32))

    return run


def logits_of(run: Run, inputs: FloatArray, second_look: float) -> FloatArray:
    """Logits float32[N, 6] of inputs float32[N, S, S, 3], as a device gives them: a second look at doubtful cells."""
    return look_again(inputs, run(inputs), run, second_look).logits


def predict(model: Any, cells: Cells, config: RunConfig, second_look: float = SECOND_LOOK) -> Predictions:
    """Run a Keras model with the output "logits" over the middle of each cached crop."""
    inputs = network_inputs([centre(crop, config.size) for crop in cells.crops], config)
    logits = logits_of(keras_run(model), inputs, second_look)
    kept = {name: getattr(cells, name) for name in Predictions.__slots__ if name != "logits"}
    return Predictions(logits=logits, **kept)

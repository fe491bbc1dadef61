"""What a network said of each cell: the one thing that every evaluation reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge.core.types import FloatArray, Image, Outputs
from edge.imaging.preprocess import Preprocessing, to_input
from edge.inference.second_look import look_again
from training.config import RunConfig
from training.data.augment import centre
from training.data.cells import Cells


@dataclass(frozen=True, slots=True)
class SecondLook:
    """Below which probability of the best class a cell is looked at again, and how many times as wide, too.

    As `Calibration.second_look` and `Calibration.second_look_widths` of a bundle.
    """

    below: float
    widths: tuple[float, ...] = ()


SECOND_LOOK: Final = SecondLook(0.8, (1.18, 1.35))
"""What bundles are packed with. Widths for which cached crops have the context: at most CONTEXT."""

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


def logits_of(
    run: Run, inputs: FloatArray, second_look: SecondLook, wider: Callable[[int, float], FloatArray] | None = None
) -> FloatArray:
    """Logits float32[N, 6] of inputs float32[N, S, S, 3], as a device gives them: a second look at doubtful cells.

    `wider` gives the input float32[S, S, 3] of a cell cut so many times as wide; without it only its sides are seen.
    """
    return look_again(inputs, run(inputs), run, second_look.below, second_look.widths, wider).logits


def logits_of_crops(
    run: Run, crops: Sequence[Image] | Image, preprocessing: Preprocessing, second_look: SecondLook
) -> FloatArray:
    """Logits float32[N, 6] of the middle of each cached crop, uint8[C, C, 3] with context."""

    def seen(index: int, width: float = 1.0) -> FloatArray:
        return to_input(centre(crops[index], preprocessing.size, width), preprocessing)

    return logits_of(run, np.stack([seen(index) for index in range(len(crops))]), second_look, seen)


def predict(model: Any, cells: Cells, config: RunConfig, second_look: SecondLook = SECOND_LOOK) -> Predictions:
    """Run a Keras model with the output "logits" over the middle of each cached crop."""
    logits = logits_of_crops(keras_run(model), cells.crops, config.preprocessing, second_look)
    kept = {name: getattr(cells, name) for name in Predictions.__slots__ if name != "logits"}
    return Predictions(logits=logits, **kept)

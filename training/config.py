"""The configuration of one training run, saved beside the weights: every weight file says how it was made."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

from edge.core.labels import LABELS, OTHER
from edge.imaging.preprocess import Preprocessing

CLASSES: Final = (*LABELS, OTHER)
"""The six outputs of the network, in order."""

CONTEXT: Final = 1.5
"""Cached crops are this much wider than the network's: rotation, scale and shift have real pixels to move over."""


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Everything that decides the result of a run, apart from the images themselves.

    `size` pixels and `margin` nucleus diameters define the crop; `alpha` and `last` (channels of the last convolution)
    the network. `learning_rate` is the peak of a warm-up and cosine schedule over `epochs` of `steps` batches of
    `batch` crops. `averaging` is the decay of the moving average of the weights. `rendered_share` of a batch is
    drawn from rendered cells, `generated_share` of a class from the run folder's generated cells, where it has
    some. `leave_out` names sources that are neither trained on nor used to choose the checkpoint.

    `model` is a name of `training.models.registry`, `backbone` one of `training.models.backbones`; empty, the model has
    its own. Without `attention` a model that has one is built without; without `pretrained` its base has random
    weights. For `frozen_epochs` only the head learns; afterwards the peak of the rate is `fine_tuning_rate` (0: the
    same). `loss`, `optimizer`, `patience` (epochs without a better score before the run ends, 0: never) and
    `mixed_precision` are those of `training.fit`. `noise_reduction` and `stain` are those of the preprocessing.
    `augmentation` (0..1) scales the chance of every step of the random microscope. `seed` decides weights and batches,
    `split_seed` which cells are for training: runs of several seeds share a test set. `distillation_share` is the
    weight of the teacher's answer in the loss, at `distillation_temperature`. `view_size` is the side in pixels at
    which cells are augmented before they are cut down to `size` (0: the same); a larger teacher needs it.
    """

    model: str = "student"
    backbone: str = ""
    attention: bool = True
    pretrained: bool = True
    loss: Literal["cross-entropy", "weighted", "class-balanced", "focal"] = "cross-entropy"
    optimizer: Literal["adam", "adamw"] = "adamw"
    patience: int = 0
    frozen_epochs: int = 0
    mixed_precision: bool = False
    noise_reduction: Literal["none", "median"] = "none"
    stain: Literal["none", "nucleus"] = "nucleus"
    augmentation: float = 1.0
    distillation_share: float = 0.0
    distillation_temperature: float = 3.0
    fine_tuning_rate: float = 0.0
    view_size: int = 0

    size: int = 96
    margin: float = 2.0
    alpha: float = 0.35
    last: int = 320
    dropout: float = 0.2
    epochs: int = 40
    steps: int = 100
    batch: int = 64
    learning_rate: float = 1e-3
    warmup_epochs: float = 1.0
    weight_decay: float = 0.01
    averaging: float = 0.995
    label_smoothing: float = 0.05
    other_share: float = 0.16
    rendered_share: float = 0.06
    generated_share: float = 0.0
    leave_out: tuple[str, ...] = ()
    seed: int = 0
    split_seed: int = 0

    @property
    def preprocessing(self) -> Preprocessing:
        """What the manifest will say about the input: RGB in [-1, 1], as the ImageNet backbone wants it."""
        return Preprocessing(size=self.size, margin=self.margin, noise_reduction=self.noise_reduction, stain=self.stain)

    @property
    def balanced_batches(self) -> bool:
        """Whether batches are balanced over classes and sources; not where the loss itself weighs the classes."""
        return self.loss not in {"weighted", "class-balanced"}

    @property
    def cached_size(self) -> int:
        """Side of a cached crop in pixels."""
        return round(max(self.size, self.view_size) * CONTEXT)

    def save(self, path: Path) -> None:
        """Write the configuration as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2, sort_keys=True) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> RunConfig:
        """Read a configuration that `save` wrote; TypeError when it holds an unknown key."""
        values = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**values, "leave_out": tuple(values.get("leave_out", ()))})

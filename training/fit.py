"""The training loop: balanced batches, averaged weights, checkpoints, and a choice that does not trust one site."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from edge.core.errors import UsageError
from edge.core.types import FloatArray, Image
from edge.imaging.preprocess import to_input
from training.config import RunConfig
from training.data import sources
from training.data.augment import augment, centre, generator_for
from training.data.cells import Cells
from training.data.sampling import BatchMaker
from training.metrics import Figures, figures
from training.models import registry

_LOG = logging.getLogger(__name__)

_STEPS_PER_AVERAGE = 5
"""The average of the weights is updated this often: copying them at each step would cost a tenth of the time."""

OTHER_CAMERAS = "pbc, random cameras"
"""A validation source made of the PBC validation cells, each through one fixed random microscope."""

Weights = list[npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class ValidationSet:
    """`inputs` float32[N, S, S, 3] and `labels` int64[N] of one source's validation cells."""

    name: str
    inputs: FloatArray
    labels: npt.NDArray[np.int64]


def network_inputs(crops: Sequence[Image] | Image, config: RunConfig) -> FloatArray:
    """Crops uint8[size, size, 3] as the network takes them: float32[N, size, size, 3]."""
    return np.stack([to_input(crop, config.preprocessing) for crop in crops])


def validation_sets(cells: Cells, config: RunConfig) -> list[ValidationSet]:
    """One set per source, and one of PBC seen by other cameras; a source that is left out gives all its cells."""
    sets = []
    whole = cells.kind != "background"
    for name in np.unique(cells.source[whole & (cells.source != "rendered")]):
        mask = whole & (cells.source == name)
        if name not in config.leave_out:
            mask &= cells.split == "validation"
        chosen = cells.select(mask)
        if len(chosen):
            inputs = network_inputs([centre(crop, config.size) for crop in chosen.crops], config)
            sets.append(ValidationSet(str(name), inputs, chosen.labels))
    pbc = cells.select((cells.source == "pbc") & (cells.split == "validation"))
    if len(pbc) and "pbc" not in config.leave_out:
        seen = [augment(crop, config.size, generator_for(77, index)) for index, crop in enumerate(pbc.crops)]
        sets.append(ValidationSet(OTHER_CAMERAS, network_inputs(seen, config), pbc.labels))
    return sets


def training_cells(cells: Cells, config: RunConfig) -> Cells:
    """Give the cells that may be learnt from: the training split, without the source that is left out.

    Raises UsageError when nothing is left, or when a source's licence forbids training.
    """
    chosen = cells.select((cells.split == "train") & ~np.isin(cells.source, config.leave_out))
    if not len(chosen):
        raise UsageError("nothing-to-train-on", "No training cell is left.", "Check --data and --leave-out.")
    sources.require_trainable(str(name) for name in np.unique(chosen.source))
    return chosen


def learning_rate(config: RunConfig, step: int) -> float:
    """Linear warm-up, then a cosine down to a hundredth of the peak."""
    warmup = max(1, round(config.warmup_epochs * config.steps))
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, config.epochs * config.steps - warmup))
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def _average(average: Weights, current: Weights, updates: int, decay: float) -> Weights:
    # Short memory at first, or the average would keep the untrained head for an epoch.
    decay = min(decay**_STEPS_PER_AVERAGE, (1 + updates) / (10 + updates))
    return [old * np.float32(decay) + new * np.float32(1 - decay) for old, new in zip(average, current, strict=True)]


def _save_arrays(path: Path, arrays: Weights) -> None:
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, **{f"a{index:04d}": array for index, array in enumerate(arrays)})  # type: ignore[arg-type]
    partial.rename(path)


def load_arrays(path: Path) -> Weights:
    """Read a list of weights in order, as a checkpoint holds it."""
    with np.load(path) as archive:
        return [archive[name] for name in sorted(archive.files)]


def judge(model: keras.Model, sets: Sequence[ValidationSet]) -> list[Figures]:
    """Figures of a model on each validation set."""
    rows = []
    for item in sets:
        logits = np.asarray(model.predict(item.inputs, batch_size=128, verbose=0))
        rows.append(figures(item.name, item.labels, logits.argmax(axis=1).astype(np.int64)))
    return rows


def score(rows: Sequence[Figures], leave_out: Sequence[str]) -> float:
    """Weigh a checkpoint: the mean over sources of balanced accuracy, each weighted by the root of its cells.

    The root keeps eleven cells of one site from deciding alone. A source that is left out has no say.
    """
    used = [row for row in rows if row.source not in leave_out]
    weights = np.sqrt([min(row.n, 150) for row in used])
    return float(np.average([row.balanced_accuracy for row in used], weights=weights))


class _Progress:
    """History and checkpoints of a run, in its folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._history = folder / "history.json"
        self.epochs: list[dict[str, Any]] = json.loads(self._history.read_text()) if self._history.is_file() else []

    @property
    def best(self) -> float:
        return max((epoch["score"] for epoch in self.epochs), default=-1.0)

    def add(self, loss: float, rows: Sequence[Figures], value: float) -> None:
        self.epochs.append(
            {
                "epoch": len(self.epochs),
                "loss": loss,
                "score": value,
                "sources": {
                    row.source: {"n": row.n, "balanced_accuracy": row.balanced_accuracy, "macro_f1": row.macro_f1}
                    for row in rows
                },
            }
        )
        partial = self._history.with_suffix(".partial")
        partial.write_text(json.dumps(self.epochs, indent=1) + "\n", encoding="utf-8")
        partial.rename(self._history)


def _describe(epoch: Mapping[str, Any]) -> str:
    sites = "  ".join(
        f"{name} {values['balanced_accuracy']:.3f}/{values['macro_f1']:.3f}"
        for name, values in epoch["sources"].items()
    )
    return f"epoch {epoch['epoch']:3d}  loss {epoch['loss']:.3f}  score {epoch['score']:.4f}  {sites}"


def fit(cells: Cells, config: RunConfig, weights: Path | None, folder: Path) -> Path:
    """Train a network and return the file of its chosen weights (averaged), `model.weights.h5` in `folder`.

    Each epoch writes model, optimizer, average and history; a run that was broken off goes on after its last whole
    epoch, with the same batches it would have had. Raises UsageError when the folder holds a run of another
    configuration.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stored = folder / "config.json"
    if stored.is_file() and RunConfig.load(stored) != config:
        raise UsageError("another-run", f"{folder} holds a run with other settings.", "Choose another --out.")
    config.save(stored)
    keras.utils.set_random_seed(config.seed)
    full = registry.build(config, weights)
    model = keras.Model(full.input, full.output["logits"])
    optimizer = keras.optimizers.AdamW(config.learning_rate, weight_decay=config.weight_decay, clipnorm=1.0)
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    model.compile(optimizer, keras.losses.CategoricalCrossentropy(from_logits=True))
    optimizer.build(model.trainable_variables)
    maker = BatchMaker(training_cells(cells, config), config)
    judged = validation_sets(cells, config)
    progress = _Progress(folder)
    average = model.get_weights()
    if progress.epochs:
        model.set_weights(load_arrays(folder / "model.npz"))
        average = load_arrays(folder / "average.npz")
        for variable, stored_value in zip(optimizer.variables, load_arrays(folder / "optimizer.npz"), strict=True):
            variable.assign(stored_value)
    chosen = folder / "model.weights.h5"
    for epoch in range(len(progress.epochs), config.epochs):
        # The state of the dropout is no weight: setting it makes a resumed run the same as an unbroken one.
        full.get_layer("head").dropout.seed_generator.state.assign([config.seed, epoch])
        losses = []
        for index, batch in enumerate(maker.epoch(epoch)):
            step = epoch * config.steps + index
            optimizer.learning_rate.assign(learning_rate(config, step))
            losses.append(float(model.train_on_batch(batch.inputs, batch.targets, sample_weight=batch.weights)))
            if (step + 1) % _STEPS_PER_AVERAGE == 0:
                average = _average(average, model.get_weights(), step // _STEPS_PER_AVERAGE, config.averaging)
        current = model.get_weights()
        model.set_weights(average)
        rows = judge(model, judged)
        value = score(rows, config.leave_out)
        if value >= progress.best:
            full.save_weights(chosen)
        model.set_weights(current)
        _save_arrays(folder / "model.npz", current)
        _save_arrays(folder / "average.npz", average)
        _save_arrays(folder / "optimizer.npz", [keras.ops.convert_to_numpy(item) for item in optimizer.variables])
        # train_on_batch reports the running mean since the metrics were last reset, so the last value is the epoch's.
        model.reset_metrics()
        progress.add(losses[-1], rows, value)
        _LOG.info("%s", _describe(progress.epochs[-1]))
    return chosen


def load(folder: Path) -> tuple[keras.Model, RunConfig]:
    """Load the chosen network of a run folder, both outputs, and the configuration it was trained with."""
    config = RunConfig.load(folder / "config.json")
    model = registry.build_untrained(config)
    model.load_weights(folder / "model.weights.h5")
    return model, config

"""The training loop: stages, averaged weights, checkpoints, and a choice that does not trust one site."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from edge.core.errors import UsageError
from training import distillation, logs, schedule
from training.checkpoint import (
    CHOSEN,
    Checkpoint,
    finished_config,
    save_chosen,
    stored_config,
    write_history,
)
from training.config import CLASSES, RunConfig
from training.data import sources
from training.data.cells import Cells
from training.data.sampling import BatchMaker
from training.data.views import network_inputs
from training.distillation import Teachers
from training.distribution import Devices, Step
from training.losses import TrainingLoss, class_weights
from training.metrics import Figures
from training.models import registry
from training.schedule import STEPS_PER_AVERAGE, Weights, learning_rate
from training.validation import ValidationSet, judge, score, validation_sets

__all__ = ["fit", "judge", "learning_rate", "load", "network_inputs", "score", "training_cells", "validation_sets"]

_LOG = logging.getLogger(__name__)


def training_cells(cells: Cells, config: RunConfig) -> Cells:
    """Give the cells that may be learnt from: the training split, without the source that is left out.

    Raises UsageError when nothing is left, or when a source's licence forbids training.
    """
    chosen = cells.select((cells.split == "train") & ~np.isin(cells.source, config.leave_out))
    if not len(chosen):
        raise UsageError("nothing-to-train-on", "No training cell is left.", "Check --data and --leave-out.")
    sources.require_trainable(str(name) for name in np.unique(chosen.source))
    return chosen


@contextmanager
def _precision(mixed: bool) -> Iterator[None]:
    """Build networks in half precision inside the block; what was built keeps its own."""
    before = keras.config.dtype_policy()
    if mixed:
        keras.config.set_dtype_policy("mixed_float16")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


class Trainee:
    """A network that learns: its logits with the loss and the optimizer of a run, stage by stage."""

    step: Step

    def __init__(self, full: keras.Model, config: RunConfig, counts: npt.NDArray[np.int64], devices: Devices) -> None:
        self.full = full
        self.model = keras.Model(full.input, full.output["logits"])
        self._config = config
        self._devices = devices
        self._base = registry.base_layers(config.model, full)
        # What a network freezes for good stays frozen when its base is released.
        self._released = [layer.trainable for layer in self._base]
        self._weights = class_weights(config.loss, counts)
        self._frozen: bool | None = None

    def begin(self, frozen: bool) -> None:
        """Begin a stage with a fresh optimizer, or stay in it. A frozen base keeps its statistics, too."""
        if frozen == self._frozen:
            return
        self._frozen = frozen
        for layer, trainable in zip(self._base, self._released, strict=True):
            layer.trainable = trainable and not frozen
        config = self._config
        settings = {"learning_rate": config.learning_rate, "clipnorm": 1.0}
        if config.optimizer == "adamw":
            optimizer = keras.optimizers.AdamW(weight_decay=config.weight_decay, **settings)
            optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
        else:
            optimizer = keras.optimizers.Adam(**settings)
        # With XLA where there is a GPU and without it elsewhere: Keras' own choice. Half precision scales its loss.
        self.model.compile(
            optimizer,
            TrainingLoss(config.loss, self._weights, config.distillation_share, config.distillation_temperature),
            jit_compile="auto",
        )
        self.model.optimizer.build(self.model.trainable_variables)
        self.step = self._devices.stepper(self.model)

    def seed(self, epoch: int) -> None:
        """Set the state of every dropout, which is no weight: a resumed run is then the same as an unbroken one."""
        states = [variable for variable in self.full.variables if variable.name == "seed_generator_state"]
        for number, state in enumerate(states):
            state.assign([self._config.seed + number, epoch])

    def restore(self, stored: Checkpoint) -> None:
        """Take the weights of a checkpoint, and the state of the optimizer."""
        self.model.set_weights(stored.model)
        for variable, value in zip(self.model.optimizer.variables, stored.optimizer, strict=True):
            variable.assign(value)

    def optimizer_state(self) -> Weights:
        """Copy the variables of the optimizer."""
        return [keras.ops.convert_to_numpy(item) for item in self.model.optimizer.variables]


def _same_run(folder: Path, config: RunConfig, teachers: Sequence[Path], writes: bool) -> None:
    if stored_config(folder) not in (None, config):
        raise UsageError("another-run", f"{folder} holds a run with other settings.", "Choose another --out.")
    if bool(teachers) != (config.distillation_share > 0):
        raise UsageError(
            "teacher-without-share",
            f"{len(teachers)} teachers with a share of {config.distillation_share:g} in the loss.",
            "Name a teacher and give it a share above 0, or neither.",
        )
    if writes:
        distillation.remember(teachers, folder)
        config.save(folder / "config.json")


def _row(number: int, loss: float, rows: Sequence[Figures], value: float) -> dict[str, Any]:
    figures = {
        row.source: {"n": row.n, "balanced_accuracy": row.balanced_accuracy, "macro_f1": row.macro_f1} for row in rows
    }
    return {"epoch": number, "loss": loss, "score": value, "sources": figures}


def fit(  # noqa: PLR0917  # each is another thing
    cells: Cells,
    config: RunConfig,
    weights: Path | None,
    folder: Path,
    teachers: Sequence[Path] = (),
    watch: Callable[[Mapping[str, Any]], None] | None = None,
) -> Path:
    """Train a network and return the file of its chosen weights (averaged), `model.weights.h5` in `folder`.

    Each epoch writes a checkpoint and the history; a run that was broken off goes on after its last whole epoch, with
    the same batches it would have had. `teachers` are folders of finished runs whose answers are learnt, too. `watch`
    sees each new epoch of the history, and may end the run by an exception.

    Several GPUs of this machine, and the machines that TF_CONFIG names, share each batch; their first writes.
    Raises UsageError when the folder holds a run of another configuration, and what `training_cells`, `BatchMaker`
    and `distillation.load` raise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    devices = Devices.find(config.batch)
    _same_run(folder, config, teachers, devices.first)
    chosen_cells = training_cells(cells, config)
    # Rendered cells have a share of their own in each batch and say nothing of how rare a class is.
    pictured = chosen_cells.labels[chosen_cells.source != "rendered"]
    counts = np.bincount(pictured, minlength=len(CLASSES)).astype(np.int64)
    taught = distillation.load(teachers, config)
    maker = BatchMaker(chosen_cells, config, devices.positions, taught.preprocessings)
    judged = validation_sets(cells, config)
    keras.utils.set_random_seed(config.seed)
    stored = Checkpoint.load(folder)
    with devices.scope(), _precision(config.mixed_precision):
        trainee = Trainee(registry.build(config, weights), config, counts, devices)
        done = len(stored.epochs) if stored else 0
        # The stage of the last epoch, not of the next: its optimizer is the one that was stored.
        trainee.begin(schedule.frozen(config, max(0, done - 1)))
    epochs = stored.epochs if stored else []
    average = stored.average if stored else trainee.model.get_weights()
    if stored:
        trainee.restore(stored)
        if devices.first:
            write_history(folder, epochs)
    examiner = devices.copy(trainee.model, lambda: registry.build_untrained(config))
    curves = logs.Curves(folder) if devices.first else None
    with logging_redirect_tqdm():
        while not schedule.ended(epochs, config):
            number = len(epochs)
            with devices.scope(), _precision(config.mixed_precision):
                trainee.begin(schedule.frozen(config, number))
            trainee.seed(number)
            loss, average = _epoch(number, trainee, maker, taught, average, config)
            rows, value = _examine(examiner, average, judged, config)
            value = devices.agree(value)
            current = trainee.model.get_weights()
            if devices.first and value >= max((epoch["score"] for epoch in epochs), default=-1.0):
                _choose(trainee, average, current, folder)
            epochs = [*epochs, _row(number, loss, rows, value)]
            if devices.first:
                Checkpoint(current, average, trainee.optimizer_state(), epochs).save(folder)
            if curves is not None:
                curves.add(epochs[-1], learning_rate(config, (number + 1) * config.steps - 1))
            _LOG.info("%s", logs.describe(epochs[-1]))
            if watch is not None:
                watch(epochs[-1])
    return folder / CHOSEN


def _epoch(  # noqa: PLR0917  # each is another thing
    number: int,
    trainee: Trainee,
    maker: BatchMaker,
    teachers: Teachers,
    average: Weights,
    config: RunConfig,
) -> tuple[float, Weights]:
    """Train one epoch; returns its mean loss and the moving average of the weights."""
    losses = []
    # A bar on a terminal alone: elsewhere there is a line per epoch.
    batches = tqdm(maker.epoch(number), total=config.steps, desc=f"epoch {number}", leave=False, disable=None)
    for index, batch in enumerate(batches):
        step = number * config.steps + index
        trainee.model.optimizer.learning_rate.assign(learning_rate(config, step))
        losses.append(trainee.step(batch.inputs, teachers.targets(batch), batch.weights))
        if (step + 1) % STEPS_PER_AVERAGE == 0:
            current = trainee.model.get_weights()
            average = schedule.average(average, current, step // STEPS_PER_AVERAGE, config.averaging)
    return float(np.mean(losses)), average


def _examine(
    examiner: keras.Model, average: Weights, judged: Sequence[ValidationSet], config: RunConfig
) -> tuple[list[Figures], float]:
    before = examiner.get_weights()
    examiner.set_weights(average)
    rows = judge(examiner, judged)
    examiner.set_weights(before)
    return rows, score(rows, config.leave_out)


def _choose(trainee: Trainee, average: Weights, current: Weights, folder: Path) -> None:
    trainee.model.set_weights(average)
    save_chosen(trainee.full, folder)
    trainee.model.set_weights(current)


def history(folder: Path) -> list[dict[str, Any]]:
    """Give the whole epochs of a run: as its checkpoint says, which the file for people may lag behind."""
    stored = Checkpoint.load(folder)
    return stored.epochs if stored else []


def load(folder: Path) -> tuple[keras.Model, RunConfig]:
    """Load the chosen network of a run folder, both outputs, and the configuration it was trained with.

    Raises what `checkpoint.finished_config` raises.
    """
    config = finished_config(folder)
    model = registry.build_untrained(config)
    model.load_weights(folder / CHOSEN)
    return model, config

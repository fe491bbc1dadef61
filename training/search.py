"""Grid search of batch size, learning rate and dropout, shared by as many processes as are started.

Optuna holds the grid and what was found in its storage, a journal file or a database, which processes on one or on
several machines share. Each point of the grid has a run folder of its own, so that a killed search goes on.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import keras

from edge.core.durable import write_bytes
from edge.core.errors import InputError, UsageError
from training import fit
from training.config import RunConfig
from training.data.cells import Cells
from training.locking import alone

if TYPE_CHECKING:
    import optuna

_LOG = logging.getLogger(__name__)

RESULT: Final = "search.json"
JOURNAL: Final = "search.journal"
_STUDY: Final = "leukoscope"

Point = tuple[int, float, float]
"""Batch size, learning rate, dropout."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The values that are tried, each with each."""

    batch: tuple[int, ...]
    learning_rate: tuple[float, ...]
    dropout: tuple[float, ...]

    @property
    def points(self) -> list[Point]:
        """All combinations."""
        return list(product(self.batch, self.learning_rate, self.dropout))


@dataclass(frozen=True, slots=True)
class Trial:
    """One point of the grid: the best validation score of its run, after how many epochs, and whether it was pruned."""

    batch: int
    learning_rate: float
    dropout: float
    score: float
    epochs: int
    pruned: bool
    run: str


def _storage(place: str) -> optuna.storages.BaseStorage:
    import optuna

    try:
        if "://" in place:
            return optuna.storages.RDBStorage(place)
        backend = optuna.storages.journal.JournalFileBackend(place)
        return optuna.storages.JournalStorage(backend)
    # Whatever a database's driver raises: its errors have no common base.
    except Exception as problem:
        raise InputError(
            "storage-unusable",
            f"The storage {place} cannot be opened: {problem}.",
            "Name a file, or a database as Optuna takes it: sqlite:///FILE, postgresql://...",
        ) from problem


def _study(place: str, grid: Grid, config: RunConfig, prune: bool) -> optuna.Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    if prune:
        # The first epochs say little: the average of the weights has hardly moved.
        pruner = optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=config.epochs // 3)
    study = optuna.create_study(
        storage=_storage(place),
        sampler=optuna.samplers.GridSampler(
            {name: list(values) for name, values in asdict(grid).items()}, seed=config.seed
        ),
        pruner=pruner,
        study_name=_STUDY,
        direction="maximize",
        load_if_exists=True,
    )
    asked = json.loads(json.dumps({"grid": asdict(grid), "settings": asdict(config)}))
    before = study.user_attrs.get("asked")
    if before is not None and before != asked:
        raise UsageError(
            "another-search", f"{place} holds a search with other settings.", "Choose another --out or --storage."
        )
    study.set_user_attr("asked", asked)
    return study


def _point(params: Mapping[str, Any]) -> Point:
    return int(params["batch"]), float(params["learning_rate"]), float(params["dropout"])


def _finished(study: optuna.Study) -> dict[Point, optuna.trial.FrozenTrial]:
    """Give the finished trial of each point that has one; a whole one before a pruned one."""
    import optuna

    states = (optuna.trial.TrialState.PRUNED, optuna.trial.TrialState.COMPLETE)
    found: dict[Point, optuna.trial.FrozenTrial] = {}
    for state in states:
        found |= {_point(trial.params): trial for trial in study.get_trials(deepcopy=False, states=(state,))}
    return found


def _try_failed_again(study: optuna.Study) -> None:
    """Put the points of which a trial ended in an error back: the sampler takes them for visited."""
    import optuna

    state = optuna.trial.TrialState
    failed = {_point(trial.params): trial for trial in study.get_trials(states=(state.FAIL,)) if trial.params}
    others = (state.RUNNING, state.WAITING, state.COMPLETE, state.PRUNED)
    alive = {
        _point({**trial.params, **trial.system_attrs.get("fixed_params", {})})
        for trial in study.get_trials(states=others)
        if trial.params or "fixed_params" in trial.system_attrs
    }
    for point, trial in failed.items():
        if point not in alive:
            # With its place in the grid, without which the sampler fails; `enqueue_trial` would leave that out.
            attributes = {**trial.system_attrs, "fixed_params": trial.params}
            study.add_trial(optuna.trial.create_trial(state=state.WAITING, system_attrs=attributes))


def folder_name(point: Point) -> str:
    """Name the run folder of a point: the same for every process, and for a search that goes on."""
    return f"batch-{point[0]}-rate-{point[1]:g}-dropout-{point[2]:g}"


def search(  # noqa: PLR0917  # each is another thing
    cells: Cells,
    config: RunConfig,
    weights: Path | None,
    out: Path,
    grid: Grid,
    storage: str | None = None,
    prune: bool = True,
) -> list[Trial]:
    """Train a short run for each point of the grid that no process has tried yet; returns all trials, best first.

    `config` gives everything but the grid. The score of a trial is the best validation score of its run. Returns when
    every point is finished, by this process or by another on the same `storage` (a journal file in `out` without one),
    and writes RESULT. With `prune`, a run that falls below the median of the others is ended.

    Raises InputError `storage-unusable`, UsageError `another-search`, and what `fit` raises.
    """
    out.mkdir(parents=True, exist_ok=True)
    study = _study(storage or str(out / JOURNAL), grid, config, prune)
    _try_failed_again(study)

    def attempt(trial: optuna.Trial) -> float:
        point = _point({name: trial.suggest_categorical(name, list(values)) for name, values in asdict(grid).items()})
        batch, rate, dropout = point
        own = replace(config, batch=batch, learning_rate=rate, dropout=dropout)
        folder = out / folder_name(point)
        trial.set_user_attr("run", folder.name)
        # Where all points have been begun, Optuna gives out again those that no process has ended: the process that
        # began one may be dead. If it lives, wait for it: its run is then done, and this one only reads it.
        with alone(folder):
            _LOG.info("%s", folder.name)
            scores = _train(cells, own, weights, folder, trial)
        keras.utils.clear_session()
        trial.set_user_attr("epochs", len(scores))
        return max(scores)

    while len(_finished(study)) < len(grid.points):
        study.optimize(attempt, n_trials=1)
    trials = table(study)
    document = {**study.user_attrs["asked"], "trials": [asdict(trial) for trial in trials]}
    write_bytes(out / RESULT, (json.dumps(document, indent=1) + "\n").encode())
    return trials


def _train(cells: Cells, config: RunConfig, weights: Path | None, folder: Path, trial: optuna.Trial) -> list[float]:
    import optuna

    scores: list[float] = []

    def watch(epoch: Mapping[str, Any]) -> None:
        scores.append(float(epoch["score"]))
        trial.report(scores[-1], len(scores) - 1)
        trial.set_user_attr("epochs", len(scores))
        if trial.should_prune():
            raise optuna.TrialPruned

    for epoch in fit.history(folder):
        watch(epoch)
    fit.fit(cells, config, weights, folder, watch=watch)
    return scores


def table(study: optuna.Study) -> list[Trial]:
    """Give the finished points of a study, best first; pruned ones last."""
    import optuna

    rows = []
    for point, trial in _finished(study).items():
        scores = trial.intermediate_values.values()
        pruned = trial.state == optuna.trial.TrialState.PRUNED
        rows.append(Trial(*point, max(scores), trial.user_attrs.get("epochs", len(scores)), pruned, folder_name(point)))
    return sorted(rows, key=lambda row: (row.pruned, -row.score, row.run))

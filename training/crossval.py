"""Stratified group k-fold cross-validation: every trainable cell is held out once, and no group crosses a fold."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt

from edge.core.durable import write_bytes
from edge.core.errors import UsageError
from training import fit
from training.config import RunConfig
from training.data.cells import EVALUATION, Cells
from training.locking import alone
from training.metrics import Figures, figures
from training.predictions import predict

_LOG = logging.getLogger(__name__)

RESULT: Final = "crossval.json"
ALL: Final = "all sources"


@dataclass(frozen=True, slots=True)
class Summary:
    """A figure over the folds in which it exists."""

    mean: float
    low: float
    high: float
    folds: int


def held_out_folds(cells: Cells, folds: int, seed: int) -> npt.NDArray[np.int64]:
    """Give each cell the number of the fold that holds it out, int64[N]; -1: it is never held out.

    Groups stay whole; the cells of each class and source are spread as evenly as that allows
    (`sklearn.model_selection.StratifiedGroupKFold`). Rendered cells only ever train, cells for evaluation take no part.
    Raises UsageError `too-few-groups` when there are fewer groups than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    fold = np.full(len(cells), -1, dtype=np.int64)
    taking_part = np.flatnonzero((cells.split != EVALUATION) & (cells.source != "rendered"))
    groups = cells.group[taking_part]
    if len(np.unique(groups)) < folds:
        raise UsageError(
            "too-few-groups", f"{len(np.unique(groups))} groups cannot make {folds} folds.", "Give fewer --folds."
        )
    strata = np.char.add(cells.source[taking_part].astype(str), np.char.mod("/%d", cells.labels[taking_part]))
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A class that a source has fewer cells of than there are folds: its cells still stand in some of them.
        warnings.simplefilter("ignore", UserWarning)
        for number, (_, held) in enumerate(splitter.split(np.zeros(len(groups)), strata, groups)):
            fold[taking_part[held]] = number
    return fold


def divided(cells: Cells, fold: npt.NDArray[np.int64], number: int) -> Cells:
    """Give the cells with the splits of one fold: it is the test, the next one chooses the checkpoint."""
    folds = int(fold.max()) + 1
    split = np.where(fold == number, "test", np.where(fold == (number + 1) % folds, "validation", "train"))
    return replace(cells, split=np.where(cells.split == EVALUATION, EVALUATION, split))


def judged(model: keras.Model, cells: Cells, config: RunConfig) -> list[Figures]:
    """Figures on the held-out cells of each source, and on all of them."""
    held = cells.select((cells.split == "test") & (cells.kind != "background"))
    called = predict(model, held, config).logits.argmax(axis=1).astype(np.int64)
    rows = [figures(ALL, held.labels, called)]
    for name in np.unique(held.source):
        mask = held.source == name
        rows.append(figures(str(name), held.labels[mask], called[mask]))
    return rows


def crossval(
    cells: Cells, config: RunConfig, weights: Path | None, out: Path, folds: int
) -> Iterator[tuple[int, list[Figures]]]:
    """Train one run per fold and give its figures; a fold that is done is not trained again. `summary` ends it.

    Raises UsageError `too-few-folds` below three: one is held out, one chooses the checkpoint. Sources that the
    configuration leaves out take no part.
    """
    if folds < 3:
        raise UsageError(
            "too-few-folds", f"{folds} folds leave nothing to train on.", "Give --folds 3 or more: one chooses."
        )
    cells = cells.select(~np.isin(cells.source, config.leave_out))
    fold = held_out_folds(cells, folds, config.seed)
    for number in range(folds):
        own = divided(cells, fold, number)
        folder = out / f"fold-{number + 1}-of-{folds}"
        with alone(folder):
            _LOG.info("%s", folder.name)
            fit.fit(own, config, weights, folder)
            model, _ = fit.load(folder)
            rows = judged(model, own, config)
        keras.utils.clear_session()
        yield number, rows


def summary(done: Sequence[Sequence[Figures]]) -> dict[str, dict[str, Summary]]:
    """Mean and range over the folds of each figure, by source."""
    found: dict[str, dict[str, list[float]]] = {}
    for rows in done:
        for row in rows:
            kept = found.setdefault(row.source, {"balanced_accuracy": [], "macro_f1": []})
            kept["balanced_accuracy"].append(row.balanced_accuracy)
            kept["macro_f1"].append(row.macro_f1)
    return {
        source: {
            name: Summary(float(np.mean(values)), min(values), max(values), len(values))
            for name, values in by_name.items()
        }
        for source, by_name in found.items()
    }


def save(out: Path, config: RunConfig, done: Sequence[Sequence[Figures]]) -> dict[str, Any]:
    """Write RESULT: the settings, every figure of every fold, and their mean and range. Returns what was written."""
    document = {
        "settings": asdict(config),
        "folds": [[asdict(row) for row in rows] for rows in done],
        "summary": {
            source: {name: asdict(value) for name, value in by_name.items()}
            for source, by_name in summary(done).items()
        },
    }
    write_bytes(out / RESULT, (json.dumps(document, indent=1) + "\n").encode())
    return document

"""Commission a microscope: read the site, adapt in steps, let the gate decide, and write a new run and bundle."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.bundle.manifest import DataSource
from edge.core.errors import NothingToDoError, UsageError
from edge.core.labels import LABELS
from edge.core.types import FloatArray, Image
from training import fit
from training.adaptation import folds, gate, labelled, normalisation, pictures, statistics, tail, trust
from training.adaptation.gate import Comparison, Limits
from training.adaptation.labelled import Way
from training.adaptation.pictures import Fields, Unreadable
from training.adaptation.statistics import SiteStatistics
from training.adaptation.ways import WAYS
from training.config import CLASSES, RunConfig
from training.data.augment import centre
from training.data.cells import Cells
from training.fit import network_inputs
from training.metrics import Figures, figures

_LOG = logging.getLogger(__name__)

FEWEST_GROUPS = 4
"""With fewer groups of labelled cells nothing can be held out."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a commissioning may do. `most` labelled cells are used; more need `subsample`. `folds` hold whole groups.

    `ways` are those that are tried with labels; each costs `folds` fits.
    """

    site: str
    seed: int = 0
    folds: int = 5
    most: int = pictures.MOST_CELLS
    subsample: bool = False
    ways: tuple[Way, ...] = WAYS
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Held:
    """What labelled cells say of the adaptation, each by a network that saw no cell of its group.

    `losses` is the balanced log-loss of each way, `logits` float32[N, 6] those of the chosen one. The calibration error
    is that of the five classes, by temperatures fitted on other folds.
    """

    way: str
    losses: dict[str, float]
    comparison: Comparison
    before: Figures
    after: Figures
    logits: FloatArray
    calibration_error: float


@dataclass(frozen=True, slots=True)
class Adapted:
    """An adapted network that the gate let pass, and all that is known of it. `seconds` run from `started`."""

    model: Any
    config: RunConfig
    options: Options
    statistics: SiteStatistics | None
    site: Cells | None
    replay: Cells
    origin: tuple[DataSource, ...]
    unlabelled: Image
    unreadable: tuple[Unreadable, ...]
    held: Held | None
    source_before: Figures
    source_after: Figures
    changed: float
    started: float

    @property
    def seconds(self) -> float:
        """Wall-clock seconds since the commissioning began."""
        return time.monotonic() - self.started


def _calls(model: Any, crops: Image | Sequence[Image], config: RunConfig) -> npt.NDArray[np.int64]:
    if not len(crops):
        return np.zeros(0, dtype=np.int64)
    inputs = network_inputs([centre(crop, config.size) for crop in crops], config)
    found = np.asarray(model.predict(inputs, batch_size=128, verbose=0)["logits"])
    return np.asarray(found.argmax(axis=1), dtype=np.int64)


def _require_divisible(cells: Cells) -> None:
    groups, classes = len(np.unique(cells.group)), np.unique(cells.labels)
    if groups < FEWEST_GROUPS:
        raise UsageError(
            "too-few-groups",
            f"The labelled cells are of {groups} views; at least {FEWEST_GROUPS} are needed, or none can be held out.",
            "Label cells of more views, and name the view of each in the column group of manifest.csv.",
        )
    if len(classes) < 2:
        raise UsageError(
            "too-few-classes",
            f"All labelled cells are {CLASSES[classes[0]]}: nothing can be told apart.",
            "Label some cells of each class that the site has.",
        )
    for label, name in enumerate(CLASSES[:-1]):
        views = len(np.unique(cells.group[cells.labels == label]))
        if views < 2:
            _LOG.warning("%s: %d views only; what the adapted model makes of this class is hardly known", name, views)


def _from_labels(  # noqa: PLR0917  # each is another thing
    model: Any,
    cells: Cells,
    before: npt.NDArray[np.int64],
    kept: Cells,
    site: SiteStatistics | None,
    given: Options,
    config: RunConfig,
) -> Held:
    """Try every way on folds, choose one, and train the tail of `model` with it on all labelled cells, in place.

    `model` has its new normalisation already; `before` are the calls of the model as it was, int64[N].
    """
    trunk, _ = tail.split(model)
    rehearsed = kept.select(kept.split == "train")
    drawn = labelled.material(trunk, cells, rehearsed, config, given.seed)
    number = min(given.folds, len(np.unique(cells.group)))
    fold_of = folds.assign(cells.labels, cells.group, number, given.seed)
    five = cells.labels < len(LABELS)
    learner = labelled.Learner(model, drawn, given.seed)
    found = learner.cross_validate(given.ways, fold_of)
    losses = {name: labelled.balanced_loss(logits, cells.labels) for name, logits in found.items()}
    chosen = labelled.best(found, cells.labels)
    after = found[chosen].argmax(axis=1).astype(np.int64)
    compared = gate.compare(cells.labels, before == cells.labels, after == cells.labels, cells.group, given.seed)
    gate.require(gate.judge_site(compared, given.limits, len(found)))
    for way in given.ways:
        if way.name == chosen:
            learner.learn(np.arange(len(cells)), way)
    return Held(
        chosen,
        losses,
        compared,
        figures(given.site, cells.labels, before),
        figures(given.site, cells.labels, after),
        found[chosen],
        trust.calibration_error(
            trust.held_out_probabilities(found[chosen][five], cells.labels[five], fold_of[five]), cells.labels[five]
        ),
    )


def adapt(  # noqa: PLR0917  # each is another thing
    run: Path,
    given: Fields | None,
    cells: Cells | None,
    replayed: tuple[Cells, tuple[DataSource, ...]],
    options: Options,
    unreadable: Sequence[Unreadable] = (),
    started: float | None = None,
) -> Adapted:
    """Adapt the network of a run folder to a site, and let the gate judge it; nothing is written.

    `given` are the site's fields, `cells` its labelled cells; one of them is needed. `replayed` are cells of the
    original training with their provenance. Raises AdaptationRefusedError when the adapted network is not better,
    UsageError when the labelled cells cannot be divided, NothingToDoError when no field is usable.
    """
    began = time.monotonic() if started is None else started
    kept, origin = replayed
    model, config = fit.load(run)
    site = statistics.of_site(options.site, given.qualities, given.crops) if given else None
    if cells is not None:
        _require_divisible(cells)
    unlabelled = given.crops if given else np.zeros((0, config.cached_size, config.cached_size, 3), np.uint8)
    seen = unlabelled if cells is None else np.concatenate([unlabelled, cells.crops])
    if not len(seen):
        raise NothingToDoError(
            "no-cells-found",
            f"No cell was found in the {len(given.qualities) if given else 0} fields of {options.site}.",
            "Take fields that show white cells.",
        )
    watched = kept.select(kept.split == "validation")
    before = {"site": _calls(model, seen, config), "source": _calls(model, watched.crops, config)}
    inputs = network_inputs([centre(crop, config.size) for crop in seen[: normalisation.MOST_CELLS]], config)
    normalisation.reestimate(model, inputs, normalisation.source_share(len(inputs)))
    held = None
    if cells is not None:
        held = _from_labels(model, cells, before["site"][len(unlabelled) :], kept, site, options, config)
    after = {"site": _calls(model, seen, config), "source": _calls(model, watched.crops, config)}
    rows = [figures("source", watched.labels, before["source"]), figures("source", watched.labels, after["source"])]
    refusals = gate.judge_source(rows[0].balanced_accuracy, rows[1].balanced_accuracy, options.limits)
    if held is None:
        refusals += gate.judge_unlabelled(before["site"], after["site"], options.limits)
    gate.require(refusals)
    return Adapted(
        model=model,
        config=config,
        options=options,
        statistics=site,
        site=cells,
        replay=kept,
        origin=origin,
        unlabelled=unlabelled,
        unreadable=tuple(unreadable),
        held=held,
        source_before=rows[0],
        source_after=rows[1],
        changed=float((before["site"] != after["site"]).mean()),
        started=began,
    )

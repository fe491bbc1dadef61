"""Commissioning on real cells: what each way of adapting reaches on cells of views that it did not see.

`python tests/bench/adaptation.py --data DIR --run RUN` prints the tables of docs/adapt.md. RUN must have been trained
without the sources that play the new site (`leuko train fit --leave-out`); a row says so where it was not. Nothing is
chosen here: every way has its row. `--slow` adds the ways that train blocks and rehearse in the stain of
the site.

`embedded` is cross-validated by view group; its slides carry single classes, so that views of one slide stand on both
sides, and the figures are optimistic; its 11 basophils are one physical cell. For `bccd` 70 of its training cells are
drawn and its validation and test cells judged.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from restain import Restainer

from edge.core.labels import LABELS
from edge.core.types import FloatArray
from edge.inference.classifier import softmax
from training import fit
from training.adaptation import folds, labelled, normalisation, replay, statistics, tail, trust
from training.adaptation.head import Ridge
from training.adaptation.labelled import Learner, Material, Way
from training.adaptation.tail import Course, Features
from training.adaptation.ways import WAYS
from training.config import RunConfig
from training.data.augment import centre, generator_for
from training.data.cells import Cells
from training.make_student import load_cells
from training.metrics import figures

ABLATION = (
    Way("head, half the source, free", Ridge(1e-3), site=0.5),
    Way("head, the site alone", Ridge(1e-2), site=1.0),
)
SLOW = (
    Way("normalisation gains and head", Course("normalisation", 3e-3, 120), site=0.34),
    Way("last block and head", Course("last", 1e-3, 120), site=0.34),
    Way("all after block 12", Course("tail", 5e-4, 120), site=0.34),
)


@dataclass(frozen=True, slots=True)
class Answers:
    """Logits of the judged cells by every way, their labels and folds, and the source's balanced accuracy after."""

    logits: dict[str, FloatArray]
    labels: npt.NDArray[np.int64]
    fold_of: npt.NDArray[np.int64]
    source: dict[str, float]


class Site:
    """One source that plays a new site: its cells of one kind, and the run that is adapted to it."""

    def __init__(self, run: Path, cells: Cells, kept: Cells, source: str, kind: str) -> None:
        self._model, self._config = fit.load(run)
        self._before = self._model.get_weights()
        self._cells = cells.select((cells.source == source) & (cells.kind == kind))
        self._rehearsed = kept.select(kept.split == "train")
        self._watched = kept.select(kept.split == "validation")

    def _logits(self, cells: Cells) -> FloatArray:
        inputs = fit.network_inputs([centre(crop, self._config.size) for crop in cells.crops], self._config)
        return np.asarray(self._model.predict(inputs, batch_size=128, verbose=0)["logits"])

    def _remains(self) -> float:
        called = self._logits(self._watched).argmax(axis=1).astype(np.int64)
        return figures("source", self._watched.labels, called).balanced_accuracy

    def _reestimate(self, cells: Cells) -> None:
        inputs = fit.network_inputs([centre(crop, self._config.size) for crop in cells.crops], self._config)
        normalisation.reestimate(self._model, inputs, normalisation.source_share(len(inputs)))

    def _materials(self, learnt: Cells, slow: bool, seed: int) -> dict[str, Material]:
        trunk = tail.split(self._model)[0]
        given = labelled.material(trunk, learnt, self._rehearsed, self._config, seed)
        made = {"": given}
        if slow:
            shown = restained(trunk, self._rehearsed, learnt, self._config, seed)
            made[", rehearsed in the stain of the site"] = replace(given, replay=shown)
        return made

    def by_views(self, ways: Sequence[Way], slow: bool, seeds: int, number: int) -> Iterator[Answers]:
        """Cross-validate over whole groups, once a seed; the normalisation sees all cells without their labels."""
        own = self._cells
        was, remained = self._logits(own), self._remains()
        self._reestimate(own)
        source = {"as it was": remained, "normalisation": self._remains()}
        learners = {note: Learner(self._model, given, 0) for note, given in self._materials(own, slow, 0).items()}
        adapted = self._model.get_weights()
        for seed in range(seeds):
            fold_of = folds.assign(own.labels, own.group, number, seed)
            logits = {"as it was": was}
            for note, learner in learners.items():
                found = learner.cross_validate(WAYS if note else ways, fold_of)
                logits |= {name + (note if name != "normalisation" else ""): values for name, values in found.items()}
            for note, learner in learners.items() if seed == 0 else ():
                for way in WAYS if note else ways:
                    learner.learn(np.arange(len(own)), way)
                    source[way.name + note] = self._remains()
                    self._model.set_weights(adapted)
            yield Answers(logits, own.labels, fold_of, source)

    def by_draws(self, ways: Sequence[Way], slow: bool, seeds: int, number: int) -> Iterator[Answers]:
        """Draw seventy training cells, once a seed; validation and test cells are judged and show the site nothing."""
        pool = np.flatnonzero(self._cells.split == "train")
        judged = self._cells.select(self._cells.split != "train")
        for seed in range(seeds):
            self._model.set_weights(self._before)
            learnt = self._cells.select(np.sort(np.random.default_rng(seed).permutation(pool)[:70]))
            logits, source = {"as it was": self._logits(judged)}, {"as it was": self._remains()}
            self._reestimate(learnt)
            logits["normalisation"], source["normalisation"] = self._logits(judged), self._remains()
            adapted = self._model.get_weights()
            for note, given in self._materials(learnt, slow, seed).items():
                learner = Learner(self._model, given, seed)
                for way in WAYS if note else ways:
                    learner.learn(np.arange(len(learnt)), way)
                    logits[way.name + note], source[way.name + note] = self._logits(judged), self._remains()
                    self._model.set_weights(adapted)
            yield Answers(logits, judged.labels, np.arange(len(judged)) % number, source)


def restained(trunk: Any, rehearsed: Cells, site: Cells, config: RunConfig, seed: int) -> Features:
    """Features of the replay cells, shown in the stain of the site's."""
    source, wanted = statistics.stain_of(rehearsed.crops[rehearsed.labels < 5]), statistics.stain_of(site.crops)
    if source is None or wanted is None:
        raise SystemExit("no cell to take a stain from")
    restain = Restainer(source, wanted)
    shown = [restain(crop, generator_for(seed, 33, index)) for index, crop in enumerate(rehearsed.crops)]
    return labelled.random_views(trunk, shown, config, labelled.REPLAY_VIEWS, 0.4, (seed, 34))


def table(site: Site, source: str, kind: str, arguments: argparse.Namespace) -> str:
    """One row per way: balanced accuracy over seeds, recall, calibration error, the source's figure."""
    ways = (*WAYS, *ABLATION, *(SLOW if arguments.slow else ()))
    lines = [
        f"### {source}, {'cells in their fields' if kind == 'field' else 'pictures of single cells'}",
        "",
        "| way | balanced accuracy (range over seeds) | recall (95 % Wilson), first seed | ECE at temperature 1 | "
        "ECE, temperature of other folds | source after |",
        "|---|---|---|---|---|---|",
    ]
    run = site.by_views if source == "embedded" else site.by_draws
    found: dict[str, list[tuple[float, float, float, float, str]]] = {}
    for answers in run(ways, arguments.slow, arguments.seeds, arguments.folds):
        for name, logits in answers.logits.items():
            labels = answers.labels
            row = figures(source, labels, logits.argmax(axis=1).astype(np.int64))
            recall = ", ".join(
                f"{label} {value.value:.2f} ({value.interval.low:.2f}-{value.interval.high:.2f}, n={value.n})"
                for label, value in row.recall.items()
            )
            plain = trust.calibration_error(softmax(logits[:, : len(LABELS)]), labels)
            fitted = trust.held_out_probabilities(logits, labels, answers.fold_of)
            found.setdefault(name, []).append(
                (
                    row.balanced_accuracy,
                    plain,
                    trust.calibration_error(fitted, labels),
                    answers.source[name],
                    recall,
                )
            )
    for name, rows in found.items():
        accuracy = [row[0] for row in rows]
        plain, fitted, remains = (float(np.mean([row[i] for row in rows])) for i in (1, 2, 3))
        lines.append(
            f"| {name} | {np.mean(accuracy):.3f} ({min(accuracy):.3f}-{max(accuracy):.3f}) | {rows[0][4]} | "
            f"{plain:.3f} | {fitted:.3f} | {remains:.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of labelled images, with manifest.csv")
    parser.add_argument("--run", type=Path, required=True, help="run that left the sites out")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--sites", nargs="*", default=["embedded", "bccd"], choices=["embedded", "bccd"])
    parser.add_argument("--kinds", nargs="*", default=["field", "cell"], choices=["field", "cell"])
    parser.add_argument("--slow", action="store_true", help="also the ways that train blocks, and restaining")
    arguments = parser.parse_args()
    started = time.monotonic()
    config = RunConfig.load(arguments.run / "config.json")
    cells = load_cells(arguments.data, replace(config, rendered_share=0.0), arguments.run)
    for site in arguments.sites:
        if site not in config.leave_out:
            print(f"{site}: the run has seen this source, so its figures are not those of a new site\n")
        kept = replay.draw(cells, (*config.leave_out, site), config.seed)
        for kind in arguments.kinds:
            played = Site(arguments.run, cells, kept, site, kind)
            print(table(played, site, kind, arguments) + "\n", flush=True)
    print(f"{time.monotonic() - started:.0f} seconds")


if __name__ == "__main__":
    main()

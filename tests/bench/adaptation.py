"""Commissioning on real cells: what each way of adapting reaches on cells of views that it did not see.

`python tests/bench/adaptation.py --data DIR --run RUN` prints the tables of docs/adapt.md. RUN must have been trained
without the sources that play the new site (`leuko train fit --leave-out`); a row says so where it was not. Nothing is
chosen here: every way has its row. `--slow` adds the ways that train blocks.

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
class Part:
    """One division of a site: the labelled cells to learn from, the cells to judge."""

    learnt: Cells
    judged: Cells
    place: npt.NDArray[np.int64]


def views(cells: Cells, kind: str, seed: int, number: int) -> Iterator[Part]:
    """Fold by fold of `embedded`, its cells as single pictures ("cell") or cut from their fields ("field")."""
    own = cells.select((cells.source == "embedded") & (cells.kind == kind))
    fold_of = folds.assign(own.labels, own.group, number, seed)
    for fold in range(number):
        held = np.flatnonzero(fold_of == fold)
        yield Part(own.select(fold_of != fold), own.select(held), held)


def drawn(cells: Cells, kind: str, seed: int) -> Iterator[Part]:
    """Draw seventy training cells of `bccd`; its validation and test cells are judged, the five classes alone."""
    own = cells.select((cells.source == "bccd") & (cells.kind == kind))
    pool = np.flatnonzero(own.split == "train")
    judged = own.select(own.split != "train")
    chosen = np.random.default_rng(seed).permutation(pool)[:70]
    yield Part(own.select(np.sort(chosen)), judged, np.arange(len(judged)))


def restained(trunk: Any, rehearsed: Cells, site: Cells, config: RunConfig, seed: int) -> Features:
    """Features of the replay cells, shown in the stain of the site's."""
    source, wanted = statistics.stain_of(rehearsed.crops[rehearsed.labels < 5]), statistics.stain_of(site.crops)
    if source is None or wanted is None:
        raise SystemExit("no cell to take a stain from")
    restain = Restainer(source, wanted)
    shown = [restain(crop, generator_for(seed, 33, index)) for index, crop in enumerate(rehearsed.crops)]
    return labelled.random_views(trunk, shown, config, labelled.REPLAY_VIEWS, 0.4, (seed, 34))


def calls(run: Path, kept: Cells, part: Part, ways: tuple[Way, ...], seed: int) -> dict[str, tuple[FloatArray, float]]:
    """Logits of the judged cells by every way, and what is left on the source's validation cells."""
    model, config = fit.load(run)
    watched = kept.select(kept.split == "validation")
    judged = fit.network_inputs([centre(crop, config.size) for crop in part.judged.crops], config)
    source = fit.network_inputs([centre(crop, config.size) for crop in watched.crops], config)

    def look() -> tuple[FloatArray, float]:
        found = [np.asarray(model.predict(x, batch_size=128, verbose=0)["logits"]) for x in (judged, source)]
        return found[0], figures("source", watched.labels, found[1].argmax(axis=1).astype(np.int64)).balanced_accuracy

    answers = {"as it was": look()}
    inputs = fit.network_inputs([centre(crop, config.size) for crop in part.learnt.crops], config)
    normalisation.reestimate(model, inputs, normalisation.source_share(len(inputs)))
    answers["normalisation"] = look()
    if ways:
        rehearsed = kept.select(kept.split == "train")
        trunk = tail.split(model)[0]
        given = labelled.material(trunk, part.learnt, rehearsed, config, seed)
        before = model.get_weights()

        def learn(material: Material, tried: Sequence[Way], note: str = "") -> None:
            learner = Learner(model, material, seed)
            for way in tried:
                learner.learn(np.arange(len(part.learnt)), way)
                answers[way.name + note] = look()
                model.set_weights(before)

        learn(given, ways)
        shown = restained(trunk, rehearsed, part.learnt, config, seed)
        learn(replace(given, replay=shown), WAYS[:2], ", rehearsed in the stain of the site")
    return answers


def table(run: Path, cells: Cells, kept: Cells, site: str, kind: str, arguments: argparse.Namespace) -> str:
    """One row per way: balanced accuracy over seeds, recall, calibration error, the source's figure."""
    ways = (*WAYS, *ABLATION, *(SLOW if arguments.slow else ()))
    lines = [
        f"### {site}, {'cells in their fields' if kind == 'field' else 'pictures of single cells'}",
        "",
        "| way | balanced accuracy (range over seeds) | recall (95 % Wilson), first seed | ECE at temperature 1 | "
        "ECE, temperature of other folds | source after |",
        "|---|---|---|---|---|---|",
    ]
    found: dict[str, list[tuple[float, float, float, float, str]]] = {}
    for seed in range(arguments.seeds):
        parts = list(views(cells, kind, seed, arguments.folds) if site == "embedded" else drawn(cells, kind, seed))
        total = sum(len(part.judged) for part in parts)
        labels, fold_of = np.zeros(total, np.int64), np.zeros(total, np.int64)
        logits: dict[str, FloatArray] = {}
        left: dict[str, list[float]] = {}
        for number, part in enumerate(parts):
            labels[part.place] = part.judged.labels
            fold_of[part.place] = number if len(parts) > 1 else np.arange(total) % arguments.folds
            for name, (answer, remains) in calls(run, kept, part, ways, seed).items():
                logits.setdefault(name, np.zeros((total, 6), np.float32))[part.place] = answer
                left.setdefault(name, []).append(remains)
        for name, answer in logits.items():
            row = figures(site, labels, answer[:, : len(LABELS)].argmax(axis=1).astype(np.int64))
            recall = ", ".join(
                f"{label} {value.value:.2f} ({value.interval.low:.2f}-{value.interval.high:.2f}, n={value.n})"
                for label, value in row.recall.items()
            )
            plain = trust.calibration_error(softmax(answer[:, : len(LABELS)]), labels)
            fitted = trust.calibration_error(trust.held_out_probabilities(answer, labels, fold_of), labels)
            found.setdefault(name, []).append(
                (row.balanced_accuracy, plain, fitted, float(np.mean(left[name])), recall)
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
    parser.add_argument("--slow", action="store_true", help="also the ways that train blocks")
    arguments = parser.parse_args()
    started = time.monotonic()
    config = RunConfig.load(arguments.run / "config.json")
    cells = load_cells(arguments.data, replace(config, rendered_share=0.0), arguments.run)
    for site in arguments.sites:
        if site not in config.leave_out:
            print(f"{site}: the run has seen this source, so its figures are not those of a new site\n")
        kept = replay.draw(cells, (*config.leave_out, site), config.seed)
        for kind in arguments.kinds:
            print(table(arguments.run, cells, kept, site, kind, arguments) + "\n", flush=True)
    print(f"{time.monotonic() - started:.0f} seconds")


if __name__ == "__main__":
    main()

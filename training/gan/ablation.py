"""Do generated cells help a class with few real ones? The same small student, with and without, on cells it never saw.

The class is the one that the generator's run made rare, and the real cells are the very ones that the generator saw:
a generator that had seen more of them would smuggle real cells in.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt

from edge.core.durable import write_bytes
from edge.core.errors import UsageError
from edge.core.labels import LABELS
from edge.imaging.preprocess import to_input
from training.config import CLASSES, RunConfig
from training.data import sampling
from training.data.augment import augment, generator_for
from training.data.cells import Cells
from training.data.sources import SOURCES
from training.fit import learning_rate
from training.gan import fit as gan_fit
from training.gan import generated
from training.gan.config import GanConfig
from training.gan.data import parents
from training.metrics import figures
from training.models import student
from training.predictions import predict

_LOG = logging.getLogger(__name__)

RESULTS, TABLE = "ablation.json", "ablation.md"

ARMS: Final = {
    "as drawn": "each real cell as often as any other",
    "oversampled": "classes alike, the few cells repeated through random microscopes",
    "generated": "classes alike, half of the rare class generated",
    "all real": "classes alike, no class made rare: what more real cells would give",
}
"""The ways of training, by name."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One student on one set of cells. `recall` is of the rare class and None where it has no cell; `n` its cells."""

    arm: str
    seed: int
    cells: str
    recall: float | None
    n: int
    precision: float | None
    macro_f1: float


def training_sets(cells: Cells, drawn: Cells | None, config: GanConfig) -> dict[str, Cells]:
    """Give the training cells of each arm: the generator's own parents, with `drawn`, or without a class made rare.

    Without `drawn` there is no arm "generated".

    The class `other` of the same sources takes part, since a student must know it. Raises UsageError `no-scarce-class`
    when the run made no class rare, and `foreign-generated-cells` when `drawn` holds none of that class.
    """
    if not config.scarce:
        raise UsageError(
            "no-scarce-class",
            "The generative run made no class rare.",
            "Train one with --scarce CLASS --keep N: only then is there something to compare.",
        )
    label = LABELS.index(config.scarce)
    few = parents(cells, config)
    names = np.unique(few.source)
    rest = cells.select((cells.split == "train") & np.isin(cells.source, names) & (cells.labels == len(LABELS)))
    every = parents(cells, replace(config, scarce="", kept=0))
    rare = generated.join(few, rest)
    sets = {"as drawn": rare, "oversampled": rare, "all real": generated.join(every, rest)}
    if drawn is not None:
        made = drawn.select(drawn.labels == label)
        if not len(made):
            raise UsageError(
                "foreign-generated-cells", f"No generated cell is a {config.scarce}.", "Sample that class from the run."
            )
        sets["generated"] = generated.join(rare, made)
    return sets


def chances(arm: str, cells: Cells, config: RunConfig) -> npt.NDArray[np.float64]:
    """Give the chance of each cell to be drawn in an arm: float64[N], sum 1."""
    if arm == "as drawn":
        return np.full(len(cells), 1.0 / len(cells))
    return sampling.probabilities(cells, config)


def _batches(arm: str, cells: Cells, config: RunConfig) -> Iterator[tuple[Any, Any]]:
    chance = chances(arm, cells, config)
    targets, _ = sampling.soft_targets(cells, config)
    for step in range(config.epochs * config.steps):
        generator = generator_for(config.seed, step)
        drawn = generator.choice(len(cells), config.batch, p=chance)
        crops = [augment(cells.crops[i], config.size, generator) for i in drawn]
        yield np.stack([to_input(crop, config.preprocessing) for crop in crops]), targets[drawn]


def train(arm: str, cells: Cells, config: RunConfig, weights: Path | None) -> keras.Model:
    """Train a small student: the arms differ in their cells and how often each is drawn, in nothing else."""
    keras.utils.set_random_seed(config.seed)
    full = student.build(config, weights)
    for layer in full.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # A run of a few hundred steps would still judge by ImageNet's statistics otherwise.
            layer.momentum = 0.95
    model = keras.Model(full.input, full.output["logits"])
    optimizer = keras.optimizers.AdamW(config.learning_rate, weight_decay=config.weight_decay, clipnorm=1.0)
    model.compile(optimizer, keras.losses.CategoricalCrossentropy(from_logits=True))
    for step, (inputs, targets) in enumerate(_batches(arm, cells, config)):
        optimizer.learning_rate.assign(learning_rate(config, step))
        model.train_on_batch(inputs, targets)
    return full


def untouched(cells: Cells, config: GanConfig) -> dict[str, Cells]:
    """Give the cells that no arm learnt from: validation and test fold of the sources, and every other source whole."""
    names = np.unique(parents(cells, config).source)
    single = (cells.kind == "cell") & (cells.source != "rendered")
    sets = {
        f"{name} {split}": cells.select(single & (cells.source == name) & (cells.split == split))
        for name in names
        for split in ("validation", "test")
    }
    others = [name for name in SOURCES if name not in {*names, "rendered", "generated"}]
    sets |= {name: cells.select(single & (cells.source == name)) for name in others}
    return {name: chosen for name, chosen in sets.items() if len(chosen)}


def judge(model: keras.Model, arm: str, config: RunConfig, sets: dict[str, Cells], label: int) -> list[Outcome]:
    """Recall and precision of the rare class and macro-F1 on each set."""
    rows = []
    for name, chosen in sets.items():
        called = predict(model, chosen, config).logits.argmax(axis=1).astype(np.int64)
        row = figures(name, chosen.labels, called)
        recall = row.recall.get(CLASSES[label])
        positive = int((called == label).sum())
        rows.append(
            Outcome(
                arm,
                config.seed,
                name,
                recall.value if recall else None,
                recall.n if recall else 0,
                int(((called == label) & (chosen.labels == label)).sum()) / positive if positive else None,
                row.macro_f1,
            )
        )
    return rows


def _read(path: Path, made: dict[str, Any]) -> list[Outcome]:
    if not path.is_file():
        return []
    document = json.loads(path.read_text(encoding="utf-8"))
    # Through JSON, or a tuple would differ from the list that it has become.
    if {name: document[name] for name in made} != json.loads(json.dumps(made)):
        raise UsageError(
            "another-run", f"{path.parent} holds an ablation with other settings.", "Choose another --out."
        )
    return [Outcome(**row) for row in document["outcomes"]]


def run(  # noqa: PLR0917  # each is another thing
    cells: Cells,
    folder: Path,
    drawn: Path | None,
    weights: Path | None,
    out: Path,
    seeds: Sequence[int],
    config: RunConfig,
) -> list[Outcome]:
    """Train every arm with every seed and judge it; writes RESULTS and TABLE into `out`.

    `folder` is the generative run, `drawn` the file of its cells, without which the arms that need none are trained.
    What RESULTS already holds is not trained again. Raises UsageError `another-run` when they have other settings.
    """
    settings = GanConfig.load(folder / gan_fit.CONFIG)
    sets = training_sets(cells, generated.load(drawn) if drawn else None, settings)
    judged, label = untouched(cells, settings), LABELS.index(settings.scarce)
    out.mkdir(parents=True, exist_ok=True)
    made = {"scarce": settings.scarce, "kept": settings.kept, "settings": asdict(config)}
    outcomes = _read(out / RESULTS, made)
    done = {(row.arm, row.seed) for row in outcomes}
    for seed in seeds:
        for arm, chosen in sets.items():
            if (arm, seed) in done:
                continue
            own = replace(config, seed=seed)
            outcomes += judge(train(arm, chosen, own, weights), arm, own, judged, label)
            document = {**made, "outcomes": [asdict(row) for row in outcomes]}
            write_bytes(out / RESULTS, (json.dumps(document, indent=1) + "\n").encode())
            _LOG.info("%s, seed %d: %s", arm, seed, outcomes[-len(judged)])
    write_bytes(out / TABLE, (table(outcomes, settings) + "\n").encode())
    return outcomes


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ({min(values):.3f}-{max(values):.3f})" if values else "-"


def verdict(outcomes: Sequence[Outcome], cells: str) -> str:
    """Say whether generated cells helped on a set: yes only when every seed gained over oversampling.

    A gain in recall that is paid for by macro-F1 is none.
    """
    by_arm = {
        arm: {row.seed: row for row in outcomes if row.arm == arm and row.cells == cells and row.recall is not None}
        for arm in ("oversampled", "generated")
    }
    seeds = sorted(set(by_arm["oversampled"]) & set(by_arm["generated"]))
    if not seeds:
        return "not measured"
    pairs = [(by_arm["generated"][seed], by_arm["oversampled"][seed]) for seed in seeds]
    recall = [one.recall - other.recall for one, other in pairs]  # type: ignore[operator]  # None was left out
    macro = [one.macro_f1 - other.macro_f1 for one, other in pairs]
    means = f"recall {np.mean(recall):+.3f}, macro-F1 {np.mean(macro):+.3f} against oversampling, {len(seeds)} seeds"
    if min(recall) > 0 and np.mean(macro) >= 0:
        return f"yes: {means}"
    if max(recall) < 0 or (np.mean(recall) <= 0 and np.mean(macro) <= 0):
        return f"no, it harms or changes nothing: {means}"
    return f"no, not beyond the spread of the seeds: {means}"


def table(outcomes: Sequence[Outcome], settings: GanConfig) -> str:
    """Lay the outcomes out as Markdown: mean and range over the seeds, and the verdict per set."""
    names = list(dict.fromkeys(row.cells for row in outcomes))
    rare = settings.scarce
    lines = [
        f"{settings.kept} real {rare} cells in training; mean (range) over the seeds.",
        "",
        f"| cells | training | {rare} recall | n | {rare} precision | macro-F1 |",
        "|---|---|---|---|---|---|",
    ]
    for name in names:
        for arm in ARMS:
            rows = [row for row in outcomes if row.cells == name and row.arm == arm]
            if not rows:
                continue
            recall = [row.recall for row in rows if row.recall is not None]
            precision = [row.precision for row in rows if row.precision is not None]
            lines.append(
                f"| {name} | {arm} | {_spread(recall)} | {rows[0].n} | {_spread(precision) if recall else '-'} | "
                f"{_spread([row.macro_f1 for row in rows])} |"
            )
    lines += ["", "Do generated cells help?", ""]
    lines += [f"- {name}: {verdict(outcomes, name)}" for name in names]
    return "\n".join(lines)

"""What a finished generator is worth: distances to real cells, copies of training cells, contact sheets."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge.core.durable import write_bytes
from edge.core.errors import UsageError
from edge.core.labels import LABELS
from edge.core.types import Image
from training.data.cells import Cells
from training.gan import features, fit, neighbours, sheet
from training.gan.config import GanConfig
from training.gan.data import parents, to_crops, views
from training.gan.metrics import KernelDistance, frechet_distance, kernel_distance
from training.gan.model import draw

REPORT, PAIRS, DRAWN = "gan-report.md", "gan-pairs.png", "gan-drawn.png"
"""The report, the sheet with real neighbours, the sheet of generated pictures alone."""

_COLUMNS = 12
_ALL: Final = "all five"

CAVEAT: Final = (
    "These are not Inception distances: they are measured in the features named above and compare with each other "
    "alone, at equal numbers of pictures. Real cells were shrunk to the generator's resolution first."
)


@dataclass(frozen=True, slots=True)
class Distance:
    """Distances of `n` pictures a side: generated and real test cells, and real training and test cells."""

    name: str
    n: int
    frechet: float
    kernel: KernelDistance
    frechet_real: float
    kernel_real: KernelDistance


@dataclass(frozen=True, slots=True)
class Copies:
    """Share of pictures nearer to a training cell than the limit, by measure, and their median feature distances."""

    name: str
    n: int
    share: dict[str, float]
    to_training: float
    to_test: float | None


def _picked(cells: Cells, labels: list[int], count: int, seed: int) -> Cells:
    rows = [np.random.default_rng((seed, label)).permutation(np.flatnonzero(cells.labels == label)) for label in labels]
    return cells.select(np.concatenate([row[:count] for row in rows]))


def _folds(cells: Cells, config: GanConfig) -> tuple[Cells, Cells, Cells]:
    """The generator's own cells, the whole training fold of its sources, and their test fold."""
    own = parents(cells, config)
    whole = parents(cells, GanConfig(size=config.size, sources=tuple(np.unique(own.source).tolist())))
    test = cells.select(
        (cells.split == "test")
        & np.isin(cells.source, np.unique(own.source))
        & (cells.kind != "background")
        & (cells.labels < len(LABELS))
    )
    if not len(test):
        raise UsageError("no-test-cells", "The sources of the generator have no test cell.", "Check --data.")
    return own, whole, test


def _distances(  # noqa: PLR0917  # each is another thing
    drawn: dict[int, Image], whole: Cells, test: Cells, config: GanConfig, embed: features.Embedding, seed: int
) -> list[Distance]:
    parts: list[tuple[str, list[npt.NDArray[np.float32]]]] = []
    for label, pictures in drawn.items():
        n = min(len(pictures), int((whole.labels == label).sum()), int((test.labels == label).sum()))
        if n < 4:
            continue
        real = [embed(views(_picked(each, [label], n, seed), config)) for each in (whole, test)]
        parts.append((LABELS[label], [embed(pictures[:n]), *real]))
    if len(parts) > 1:
        parts.insert(0, (_ALL, [np.concatenate(same) for same in zip(*(sets for _, sets in parts), strict=True)]))
    return [
        Distance(
            name,
            len(made),
            frechet_distance(made, test_features),
            kernel_distance(made, test_features, seed),
            frechet_distance(train_features, test_features),
            kernel_distance(train_features, test_features, seed),
        )
        for name, (made, train_features, test_features) in parts
    ]


def _nearest(pictures: Image, galleries: list[neighbours.Gallery], embed: features.Embedding) -> list[Any]:
    forms = neighbours.symmetries(pictures)
    embedded = np.stack([embed(form) for form in forms])
    return [gallery.nearest(forms, embedded) for gallery in galleries]


def report(cells: Cells, folder: Path, weights: Path | None, count: int, seed: int) -> dict[str, Any]:
    """Judge the finished run in `folder` with `count` pictures of each class; writes REPORT, its JSON and two sheets.

    Raises UsageError `no-test-cells`, and what `fit.load` and `features.embedding` raise.
    """
    network, config = fit.load(folder)
    embed = features.embedding(weights)
    own, whole, test = _folds(cells, config)
    labels = [int(label) for label in np.unique(own.labels)]
    drawn = {label: to_crops(draw(network, label, count, config, seed)) for label in labels}
    rows = _distances(drawn, whole, test, config, embed, seed)

    learnt, unseen = views(own, config), views(test, config)
    galleries = [neighbours.Gallery(learnt, embed), neighbours.Gallery(unseen, embed)]
    # As many real cells as generated ones, or their many forms would take most of the time.
    seen_by_none = views(_picked(test, labels, count, seed), config)
    (reference,) = _nearest(seen_by_none, galleries[:1], embed)
    limits = neighbours.thresholds(reference)
    marks = neighbours.flagged(reference, limits)
    copies = [
        Copies(
            "real test cells",
            len(seen_by_none),
            {name: float(mark.mean()) for name, mark in marks.items()},
            float(np.median(reference.features)),
            None,
        )
    ]
    pairs: list[Any] = []
    for label, pictures in drawn.items():
        to_training, to_test = _nearest(pictures, galleries, embed)
        marks = neighbours.flagged(to_training, limits)
        copies.append(
            Copies(
                LABELS[label],
                len(pictures),
                {name: float(mark.mean()) for name, mark in marks.items()},
                float(np.median(to_training.features)),
                float(np.median(to_test.features)),
            )
        )
        pairs += sheet.paired(LABELS[label], pictures, learnt[to_training.index], _COLUMNS)
    sheet.save(folder / PAIRS, sheet.sheet(pairs))
    sheet.save(folder / DRAWN, sheet.sheet([(LABELS[label], list(drawn[label][:_COLUMNS])) for label in labels]))
    document = {
        "features": features.describe(weights),
        "caveat": CAVEAT,
        "resolution": config.resolution,
        "seed": seed,
        "learnt_from": fit.describe_parents(own)["classes"],
        "distances": [asdict(row) for row in rows],
        "limits": asdict(limits),
        "copies": [asdict(row) for row in copies],
    }
    write_bytes((folder / REPORT).with_suffix(".json"), (json.dumps(document, indent=1) + "\n").encode())
    write_bytes(folder / REPORT, (markdown(document) + "\n").encode())
    return document


def markdown(document: dict[str, Any]) -> str:
    """Lay the report out as Markdown."""
    learnt = ", ".join(f"{name} {n}" for name, n in document["learnt_from"].items())
    lines = [
        "# Generated cells",
        "",
        f"Features: {document['features']}. {document['caveat']}",
        "",
        f"{document['resolution']} px; learnt from {learnt}; drawn with seed {document['seed']}.",
        "",
        "| class | n | Frechet, generated to test | training to test | kernel x 1000, generated to test "
        "| training to test |",
        "|---|---|---|---|---|---|",
    ]
    for row in document["distances"]:
        kernels = [
            f"{1000 * row[name]['value']:.2f} (sd {1000 * row[name]['deviation']:.2f})"
            for name in ("kernel", "kernel_real")
        ]
        lines.append(
            f"| {row['name']} | {row['n']} | {row['frechet']:.1f} | {row['frechet_real']:.1f} | "
            f"{kernels[0]} | {kernels[1]} |"
        )
    limits = document["limits"]
    lines += [
        "",
        f"Flagged is a picture nearer to a training cell than {100 * (1 - neighbours.QUANTILE):.0f} % of the real test "
        f"cells: features {limits['features']:.2f}, grey levels {limits['pixels']:.1f}, or at most "
        f"{limits['bits']:.0f} bits of the difference hash; turned and mirrored forms count.",
        "",
        "| pictures | n | flagged | by features | by grey levels | by hash | median to training | median to test |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in document["copies"]:
        share = row["share"]
        test = f"{row['to_test']:.2f}" if row["to_test"] is not None else "-"
        lines.append(
            f"| {row['name']} | {row['n']} | {share['any']:.3f} | {share['features']:.3f} | {share['pixels']:.3f} | "
            f"{share['bits']:.3f} | {row['to_training']:.2f} | {test} |"
        )
    return "\n".join(lines)

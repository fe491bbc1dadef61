"""The figures of a bundle: its INT8 network, through the device's own reading, locating, cropping and classifying."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt

from devices.runtimes.litert import LiteRTRuntime
from edge.bundle.manifest import Manifest
from edge.core.protocols import Runtime
from edge.core.types import CellCall
from edge.inference.classifier import Classifier
from training.config import CLASSES
from training.data import sources
from training.data.annotations import field_samples
from training.data.cells import Cells, cut_all
from training.data.sources import Sample
from training.metrics import Figures, figures

NOTES = {
    "pbc": "test split; the set names no patients, so cells of one patient may stand in training and test",
    "bccd": "test and validation split; labels of the set are noisy, and validation chose the checkpoint",
    "embedded": "test and validation split by view; views share slides with training, validation chose the checkpoint",
    "jtsc": "all cells; this site was never trained on and chose nothing",
}
"""How each source's cells were kept from training."""


def held_out(data: Path, cells: Cells) -> dict[str, list[Sample]]:
    """Find the labelled cells of the manifest, by source, that the network was not trained on."""
    manifest = sources.read_manifest(data)
    allowed = {"pbc": {"test"}}
    split = dict(zip(cells.picture.tolist(), cells.split.tolist(), strict=True))
    chosen: dict[str, list[Sample]] = {}
    for sample in manifest:
        source = sources.SOURCES[sample.source]
        if not source.trainable or split.get(sample.file) in allowed.get(sample.source, {"validation", "test"}):
            chosen.setdefault(sample.source, []).append(sample)
    return chosen


def in_fields(data: Path, chosen: Sequence[Sample]) -> list[Sample]:
    """Find cells inside whole fields: those that the manifest has boxes for, and the chosen ones of known sources."""
    return [sample for sample in (*chosen, *field_samples(data, chosen)) if sample.kind == "field"]


def call(data: Path, wanted: Sequence[Sample], classifier: Classifier) -> tuple[npt.NDArray[np.int64], list[CellCall]]:
    """Truth int64[N] in the order of CLASSES, and the device's call of each cell that is found."""
    manifest = classifier.manifest
    size, margin = manifest.preprocessing.size, manifest.preprocessing.margin
    cut = cut_all(data, wanted, size, margin)
    wide = {width: cut_all(data, wanted, size, width * margin) for width in manifest.calibration.second_look_widths}
    truth = np.array([CLASSES.index(item.sample.label) for item in cut], dtype=np.int64)
    return truth, classifier.classify([item.crop for item in cut], wider=lambda index, width: wide[width][index].crop)


def labels(calls: Sequence[CellCall]) -> npt.NDArray[np.int64]:
    """Give the called classes, abstained or not: int64[N]."""
    return np.array([CLASSES.index(item.label) for item in calls], dtype=np.int64)


def evaluate(  # noqa: PLR0917  # each is another thing
    manifest: Manifest,
    folder: Path,
    data: Path,
    cells: Cells,
    report: Callable[[Figures], None] | None = None,
    runtime: Runtime | None = None,
) -> dict[str, Figures]:
    """Figures per source, and per source with whole fields a second row, `source, in fields`, keyed by row name.

    `cells` says which picture is in which split. Each row is also handed to `report` as soon as it is known.
    Without an entered `runtime` it is the bundle's TFLite variant that is judged.
    """
    rows: dict[str, Figures] = {}
    with ExitStack() as stack:
        if runtime is None:
            path = folder / next(item.file for item in manifest.variants if item.runtime == "litert")
            runtime = stack.enter_context(LiteRTRuntime(path))
        classifier = Classifier(manifest, runtime)
        for source, samples in held_out(data, cells).items():
            alone = [sample for sample in samples if sample.kind == "cell"]
            for name, wanted in ((source, alone), (f"{source}, in fields", in_fields(data, samples))):
                if not wanted:
                    continue
                truth, calls = call(data, wanted, classifier)
                if not len(truth):
                    continue
                rows[name] = figures(name, truth, labels(calls))
                if report is not None:
                    report(rows[name])
    return rows

"""The image sources: what each is, under which licence, and whether a shipped model may learn from it."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from edge.core.errors import InputError, UsageError
from edge.core.labels import LABELS, OTHER

TRAINABLE_LICENCES: Final = frozenset({"CC-BY-4.0", "MIT", "Apache-2.0"})
"""Licences that let weights made from the images be shipped under Apache-2.0, with attribution."""

NOT_ONE_OF_THE_FIVE: Final = frozenset({"immature_granulocyte", "erythroblast", "platelet", OTHER})
"""Labels of the sources that become `other`."""


@dataclass(frozen=True, slots=True)
class Source:
    """One collection of images.

    `label_weight` is the trust in its labels (weight in the loss), `smoothing` extra label smoothing.
    """

    name: str
    licence: str
    citation: str
    label_weight: float = 1.0
    smoothing: float = 0.0

    @property
    def trainable(self) -> bool:
        """Whether a shipped model may be trained on it."""
        return self.licence in TRAINABLE_LICENCES


SOURCES: Final = {
    source.name: source
    for source in (
        Source(
            "pbc",
            "CC-BY-4.0",
            "Acevedo A. et al., A dataset of microscopic peripheral blood cell images for development of automatic "
            "recognition systems, Data in Brief 30 (2020) 105474",
        ),
        # Several of its eosinophils look like neutrophils: the labels are trusted less.
        Source("bccd", "MIT", "BCCD dataset (cosmicad, akshaylamba, Shenggan)", label_weight=0.7, smoothing=0.1),
        Source("embedded", "MIT", "WBC_Dataset, Chulalongkorn University, Bangkok"),
        Source("draaslan", "MIT", "Blood cell detection dataset (draaslan)"),
        Source("rendered", "Apache-2.0", "Cells drawn by this project's simulated camera"),
        Source(
            "jtsc",
            "GPL-3.0",
            "Zheng X. et al., Fast and robust segmentation of white blood cell images by self-supervised learning, "
            "Micron 107 (2018) 55-71",
        ),
        Source("milab_focus", "none stated", "MILab focus stack"),
    )
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled picture. `group` names the physical cell or view: it never crosses a border between splits.

    `file` is relative to the data folder. `kind` is "cell" for a picture of one cell; "field" for the cell of a whole
    field inside `box`; "background" for objects of a field that a locator could pick by mistake, outside every box.
    `box` is (left, top, right, bottom) in pixels. `subtype` is the label before it was mapped to one of CLASSES.
    """

    source: str
    label: str
    file: str
    group: str
    slide: str = ""
    sha1: str = ""
    kind: Literal["cell", "field", "background"] = "cell"
    box: tuple[float, float, float, float] | None = None
    subtype: str = ""


def read_manifest(data: Path) -> list[Sample]:
    """Read `manifest.csv` of a data folder: one sample per picture of one cell.

    Raises InputError `data-folder-missing` when the folder has no manifest, `unknown-label` for a label that is neither
    one of the five nor known to be none of them, and `unknown-source` for a source whose licence is not recorded here.
    """
    path = data / "manifest.csv"
    if not path.is_file():
        raise InputError(
            "data-folder-missing", f"{data} has no manifest.csv.", "Name the folder of labelled images with --data."
        )
    samples = []
    with path.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            if row["source"] not in SOURCES:
                raise InputError(
                    "unknown-source",
                    f"{path}: no licence is recorded for source {row['source']!r}.",
                    "Add it to training/data/sources.py.",
                )
            label = subtype = row["label"]
            if label not in LABELS:
                if label not in NOT_ONE_OF_THE_FIVE:
                    raise InputError(
                        "unknown-label", f"{path}: unknown label {label!r}.", "Map it in training/data/sources.py."
                    )
                label = OTHER
            group = row["group"]
            # A source that names no group per picture (a bare prefix) gives each picture its own.
            if group.endswith("/") or not group:
                group += Path(row["file"]).as_posix()
            samples.append(
                Sample(row["source"], label, row["file"], group, row.get("slide", ""), row["sha1"], subtype=subtype)
            )
    return samples


def require_trainable(names: Iterable[str]) -> None:
    """Raise UsageError `licence-forbids-training` if any of these sources may not enter shipped weights."""
    for name in sorted(set(names)):
        if not SOURCES[name].trainable:
            raise UsageError(
                "licence-forbids-training",
                f"Source {name!r} ({SOURCES[name].licence}) is for evaluation only.",
                "Leave it out of the training set.",
            )

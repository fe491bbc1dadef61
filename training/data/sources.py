"""The image sources: what each is, under which licence, and whether a shipped model may learn from it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from edge.core.errors import InputError, UsageError
from edge.core.labels import LABELS, OTHER
from training.data.labels import NOT_ONE_OF_THE_FIVE
from training.data.paths import inside
from training.data.tables import read_table

TRAINABLE_LICENCES: Final = frozenset({"CC-BY-4.0", "MIT", "Apache-2.0"})
"""Licences that let weights made from the images be shipped under Apache-2.0, with attribution."""

UNKNOWN_LICENCE: Final = "none stated"
"""Of a source whose licence nobody named: for evaluation only."""

SPLITS: Final = ("train", "validation", "test", "evaluation")
"""What a manifest may say in its column `split`."""


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


SOURCES: Final[dict[str, Source]] = {
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
        Source(
            "bloodmnist",
            "CC-BY-4.0",
            "Yang J. et al., MedMNIST v2, Scientific Data 10 (2023) 41; images of Acevedo A. et al., Data in Brief 30 "
            "(2020) 105474",
        ),
        # Free to download, but without a licence that lets weights be passed on.
        Source(
            "raabin",
            UNKNOWN_LICENCE,
            "Kouzehkanan Z.M. et al., A large dataset of white blood cells containing cell locations and types, along "
            "with segmented nuclei and cytoplasm, Scientific Reports 12 (2022) 1123",
        ),
        Source(
            "lisc",
            UNKNOWN_LICENCE,
            "Rezatofighi S.H., Soltanian-Zadeh H., Automatic recognition of five types of white blood cells in "
            "peripheral blood, Computerized Medical Imaging and Graphics 35 (2011) 333-343",
        ),
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


def spdx(licence: str) -> str:
    """Write a licence in the form of the SPDX list where it is one of ours: `cc by 4.0` becomes `CC-BY-4.0`."""
    plain = "-".join(licence.split())
    return next((known for known in TRAINABLE_LICENCES if known.casefold() == plain.casefold()), licence.strip())


_BUILT_IN: Final = frozenset(SOURCES)


def record(source: Source) -> Source:
    """Make a source of the user's known to this process, so that SOURCES answers for it; give what is recorded.

    Licences are facts about images, not settings: once recorded, one source has one licence, as one of ours has.
    Raises InputError `licence-conflict` when it is known under another licence, `bad-source` for a name, licence or
    citation that could not stand on a model card.
    """
    texts = ((source.name, 1, 100), (source.licence, 1, 200), (source.citation, 0, 1000))
    if not all(text.isprintable() and least <= len(text) <= most for text, least, most in texts):
        raise InputError(
            "bad-source",
            f"Source {source.name[:40]!r}: its name, licence or citation is empty, too long or not printable.",
            "Write each on one line.",
        )
    known = SOURCES.get(source.name)
    if known is None or (known.licence == UNKNOWN_LICENCE and source.name not in _BUILT_IN):
        SOURCES[source.name] = source
        return source
    if source.licence not in {known.licence, UNKNOWN_LICENCE}:
        raise InputError(
            "licence-conflict",
            f"Source {source.name!r} is known under the licence {known.licence!r}, not {source.licence!r}.",
            "Give images under another licence another source name.",
        )
    return known


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled picture. `group` names the physical cell or view: it never crosses a border between splits.

    `file` is relative to the data folder. `kind` is "cell" for a picture of one cell; "field" for the cell of a whole
    field inside `box`; "background" for objects of a field that a locator could pick by mistake, outside every box.
    `box` is (left, top, right, bottom) in pixels. `subtype` is the label before it was mapped to one of CLASSES.
    `split` is what the manifest says, empty when it says nothing.
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
    split: str = ""


def read_manifest(data: Path) -> list[Sample]:
    """Read `manifest.csv` of a data folder: one sample per row, a picture of one cell or a box in a whole field.

    The columns source, label, file and group are needed; docs/data.md lists all. A source that is not one of SOURCES
    is recorded with the licence and citation of its rows. `split` stays empty where the manifest names none.

    Raises InputError `data-folder-missing` when the folder has no manifest, `unknown-label` for a label that is neither
    one of the five nor known to be none of them, `unknown-source` for a source without a recorded licence,
    `licence-conflict` for a source with two licences, `outside-folder` for a file that is not in the folder,
    `bad-box` and `unknown-split` for what they say, and as `training.data.tables.read_table`.
    """
    path = data / "manifest.csv"
    if not path.is_file():
        raise InputError(
            "data-folder-missing", f"{data} has no manifest.csv.", "Name the folder of labelled images with --data."
        )
    return [_sample(row, path) for row in read_table(path, ("source", "label", "file", "group"))]


def _sample(row: dict[str, str], path: Path) -> Sample:
    name, licence = row["source"], row.get("licence", "")
    if name not in SOURCES and not licence:
        raise InputError(
            "unknown-source",
            f"{path}: no licence is recorded for source {name!r}.",
            "Write it into the column `licence`, or make the manifest with leuko train data --licence.",
        )
    record(Source(name, licence or UNKNOWN_LICENCE, row.get("citation", "")))
    label = subtype = row["label"]
    if label not in LABELS:
        if label not in NOT_ONE_OF_THE_FIVE:
            raise InputError(
                "unknown-label",
                f"{path}: unknown label {label!r}.",
                "Map it with leuko train data --map 'their label=our label'.",
            )
        label = OTHER
    # A picture that shows none of the five may be known more closely than that.
    if subtype == OTHER and row.get("subtype"):
        subtype = row["subtype"]
    file = inside(row["file"], path)
    split = row.get("split", "")
    if split and split not in SPLITS:
        raise InputError("unknown-split", f"{path}: split {split!r}.", f"Write one of: {', '.join(SPLITS)}, or none.")
    group = row["group"]
    # A source that names no group per picture (a bare prefix) gives each picture its own.
    if group.endswith("/") or not group:
        group += file
    box = box_of([row.get(f"box_{key}", "") for key in ("x", "y", "width", "height")], f"{path}: {file}")
    kind: Literal["cell", "field", "background"] = "cell"
    if box is not None:
        kind = "background" if row.get("kind") == "background" else "field"
    return Sample(name, label, file, group, row.get("slide", ""), row.get("sha1", ""), kind, box, subtype, split)


def box_of(values: Sequence[str], where: str, may_reach_out: bool = False) -> tuple[float, float, float, float] | None:
    """Turn x, y, width and height in pixels, as text, into (left, top, right, bottom); None when all are empty.

    Raises InputError `bad-box` for what is no number, not finite, without area, or (unless it `may_reach_out` over the
    border of its picture) negative.
    """
    if not any(values):
        return None
    try:
        x, y, width, height = (float(value) for value in values)
    except ValueError:
        x = y = width = height = math.nan
    outside = min(x, y) < 0 and not may_reach_out
    if not all(map(math.isfinite, (x, y, width, height))) or outside or min(width, height) <= 0:
        raise InputError(
            "bad-box",
            f"{where}: {', '.join(value or '-' for value in values)} is no box.",
            "A box is x, y, width and height in pixels of the picture.",
        )
    return x, y, x + width, y + height


def require_trainable(names: Iterable[str]) -> None:
    """Raise UsageError `licence-forbids-training` if any of these sources may not enter shipped weights."""
    for name in sorted(set(names)):
        if not SOURCES[name].trainable:
            raise UsageError(
                "licence-forbids-training",
                f"Source {name!r} ({SOURCES[name].licence}) is for evaluation only.",
                "Leave it out of the training set.",
            )

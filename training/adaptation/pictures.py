"""The pictures of a new site: whole fields without labels, and a few labelled cells, as the device would see them."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from edge.core.errors import InputError, LeukoError, UsageError
from edge.core.labels import LABELS, OTHER
from edge.core.types import Image, LocatedCell, Quality
from edge.files import display_name, expand, read_image
from edge.imaging import crop, flatfield, locate, quality
from training.config import CLASSES, CONTEXT, RunConfig
from training.data import splits
from training.data.cells import Cells
from training.data.labels import NOT_ONE_OF_THE_FIVE

_LOG = logging.getLogger(__name__)

MOST_CELLS: Final = 70
"""A commissioning asks no more labelled cells of a person."""

MANIFEST: Final = "manifest.csv"

_SIDES: Final = ("left", "top", "right", "bottom")

_OVERLAP: Final = 0.3
"""Least intersection over union of a box and the located cell that it means."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A picture that was left out, and why."""

    file: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Fields:
    """What fields gave: the quality of each, crops with context uint8[N, S, S, 3] of the cells of the accepted ones."""

    qualities: tuple[Quality, ...]
    crops: Image
    unreadable: tuple[Unreadable, ...]


@dataclass(frozen=True, slots=True)
class Labelled:
    """One labelled cell: its picture, its label (one of CLASSES) and its group, the view or physical cell.

    `box` is (left, top, right, bottom) in pixels where the picture is a whole field, None where it shows one cell.
    """

    path: Path
    label: str
    group: str
    box: tuple[float, float, float, float] | None = None


def _left_out(path: Path, problem: LeukoError) -> Unreadable:
    name = display_name(path)
    _LOG.warning("left out %s: %s", name, problem.message)
    return Unreadable(name, problem.code, problem.message)


def _stack(crops: Sequence[Image], side: int) -> Image:
    return np.stack(crops) if len(crops) else np.zeros((0, side, side, 3), np.uint8)


def read_fields(folder: Path, config: RunConfig) -> Fields:
    """Read, correct, judge and search every field of a folder; what cannot be read is listed and left out.

    Raises InputError, code of `edge.files.read_image`, when the folder holds nothing that can be read.
    """
    qualities, crops, unreadable = [], [], []
    failure: InputError | None = None
    for path in expand([folder]):
        try:
            image = read_image(path)
        except InputError as problem:
            failure = problem
            unreadable.append(_left_out(path, problem))
            continue
        corrected = flatfield.correct(image)
        cells = locate.locate(corrected)
        qualities.append(quality.assess(image, corrected, cells))
        if qualities[-1].accepted:
            crops += [crop.cut(corrected, cell, config.cached_size, config.margin * CONTEXT) for cell in cells]
    if not qualities and failure is not None:
        raise failure
    return Fields(tuple(qualities), _stack(crops, config.cached_size), tuple(unreadable))


def _label(given: str, where: str) -> str:
    label = given.strip().lower()
    if label in LABELS:
        return label
    if label in NOT_ONE_OF_THE_FIVE:
        return OTHER
    raise UsageError(
        "unknown-label", f"{where}: unknown label {given!r}.", f"Use one of: {', '.join((*LABELS, OTHER))}."
    )


def _from_manifest(path: Path) -> list[Labelled]:
    found = []
    with path.open(newline="", encoding="utf-8-sig") as stream:
        rows = csv.DictReader(stream)
        if not {"file", "label"} <= set(rows.fieldnames or ()):
            raise UsageError(
                "manifest-incomplete", f"{path} has no columns file and label.", "Give it: file,label,group"
            )
        for number, row in enumerate(rows, start=2):
            file = row["file"] or ""
            label = _label(row["label"] or "", f"{display_name(path)}, line {number}")
            found.append(Labelled(path.parent / file, label, row.get("group") or file, _box(row, path, number)))
    return found


def _box(row: dict[str, str], path: Path, number: int) -> tuple[float, float, float, float] | None:
    given = [(row.get(side) or "").strip() for side in _SIDES]
    if not any(given):
        return None
    try:
        left, top, right, bottom = (float(value) for value in given)
    except ValueError:
        left, top, right, bottom = 0.0, 0.0, -1.0, -1.0
    if not (0 <= left < right < float("inf") and 0 <= top < bottom < float("inf")):
        raise UsageError(
            "box-wrong",
            f"{display_name(path)}, line {number}: {', '.join(given)} is no box.",
            "Give left, top, right and bottom in pixels of the field, or none of them.",
        )
    return left, top, right, bottom


def list_cells(folder: Path) -> list[Labelled]:
    """List labelled cells: those of `manifest.csv`, else the pictures of single cells in folders named by class.

    The columns are file, label, group, and for a cell of a whole field its box: left, top, right, bottom. Without a
    group each file is its own. Raises UsageError `unknown-label`, `manifest-incomplete` or `box-wrong`, InputError
    `no-labelled-cells`.
    """
    if (folder / MANIFEST).is_file():
        found = _from_manifest(folder / MANIFEST)
    else:
        found = [
            Labelled(path, _label(inner.name, display_name(folder)), path.relative_to(folder).as_posix())
            for inner in sorted(folder.glob("*/"))
            for path in expand([inner])
            if path != inner
        ]
    if not found:
        raise InputError(
            "no-labelled-cells",
            f"{display_name(folder)} holds no labelled cells.",
            "Put pictures of single cells in folders named by class, or list them in manifest.csv: file,label,group",
        )
    return found


def at_most(cells: Sequence[Labelled], most: int, subsample: bool, seed: int) -> list[Labelled]:
    """Keep at most `most` cells: by turns of one of each class, so that rare classes stay; UsageError without leave.

    Raises UsageError `too-many-cells` when there are more and `subsample` is False.
    """
    if len(cells) <= most:
        return list(cells)
    if not subsample:
        raise UsageError(
            "too-many-cells",
            f"There are {len(cells)} labelled cells; a commissioning takes {most} at most.",
            "Give --subsample to take a part of them, or train with them: leuko train fit.",
        )
    _LOG.warning("taking %d of %d labelled cells", most, len(cells))
    shuffled = np.random.default_rng(seed).permutation(len(cells)).tolist()
    turn: dict[str, int] = {}
    ranked = []
    for index in shuffled:
        label = cells[index].label
        ranked.append((turn.get(label, 0), index))
        turn[label] = turn.get(label, 0) + 1
    return [cells[index] for index in sorted(index for _, index in sorted(ranked)[:most])]


def _meant(corrected: Image, box: tuple[float, float, float, float]) -> LocatedCell | None:
    """Find the located cell that a box means, None when there is none."""
    left, top, right, bottom = box

    def overlap(cell: LocatedCell) -> float:
        own = cell.box
        width = min(right, own.x + own.width) - max(left, own.x)
        height = min(bottom, own.y + own.height) - max(top, own.y)
        shared = max(width, 0.0) * max(height, 0.0)
        return shared / ((right - left) * (bottom - top) + own.width * own.height - shared)

    best = max(locate.locate(corrected), key=overlap, default=None)
    return best if best is not None and overlap(best) >= _OVERLAP else None


def read_cells(listed: Sequence[Labelled], site: str, config: RunConfig) -> tuple[Cells, tuple[Unreadable, ...]]:
    """Cut labelled cells the device's way; pictures of single cells that look the same are put in one group.

    A cell of a field is the located cell that its box overlaps most; one that the locator does not find is left out.

    All are in the split "train" of a source named after the site. Raises InputError, code of the last picture that
    failed, when none can be read.
    """
    crops, kept, unreadable = [], [], []
    seen: list[tuple[str, int]] = []
    failure: InputError | None = None
    for item in listed:
        try:
            image = read_image(item.path)
        except InputError as problem:
            failure = problem
            unreadable.append(_left_out(item.path, problem))
            continue
        corrected = flatfield.white_balance(image) if item.box is None else flatfield.correct(image)
        cell = locate.single_cell(corrected) if item.box is None else _meant(corrected, item.box)
        if cell is None:
            failure = InputError("cell-not-found", f"No cell was located in {item.box}.", "Check the box.")
            unreadable.append(_left_out(item.path, failure))
            continue
        crops.append(crop.cut(corrected, cell, config.cached_size, config.margin * CONTEXT))
        if item.box is None:
            seen.append((item.group, splits.difference_hash(image)))
        kept.append(item)
    if not kept and failure is not None:
        raise failure
    n = len(kept)
    names = [group for group, _ in seen]
    merged = dict(zip(names, splits.merge_groups(names, [digest for _, digest in seen]), strict=True))
    groups = [merged.get(item.group, item.group) for item in kept]
    return Cells(
        crops=_stack(crops, config.cached_size),
        labels=np.array([CLASSES.index(item.label) for item in kept], dtype=np.int64),
        source=np.full(n, site),
        split=np.full(n, "train"),
        kind=np.full(n, "cell"),
        group=np.array(groups),
        picture=np.array([display_name(item.path) for item in kept]),
        subtype=np.array([item.label for item in kept]),
    ), tuple(unreadable)

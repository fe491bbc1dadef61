"""The cells to explain: cut from pictures as the device cuts them, or chosen from the cells of a data folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from edge.core.errors import InputError, NothingToDoError
from edge.core.types import Box, Image, LocatedCell
from edge.files import display_name, read_image
from edge.imaging import crop, flatfield, locate
from training.config import CLASSES, RunConfig
from training.data.augment import centre, generator_for
from training.data.cells import Cells
from training.explain.agreement import Mask
from training.explain.nucleus import nucleus_mask

_VALIDATION: Final = "validation"


@dataclass(frozen=True, slots=True)
class Subject:
    """One cell: `crop` uint8[S, S, 3] BGR as the network gets it, and where its `nucleus` is in it, bool[S, S].

    `picture` is the file that it comes from and `box` its place there, where it is known. `truth` is its label and
    `source` the name of its data source, where it has them.
    """

    crop: Image
    nucleus: Mask
    picture: str
    box: Box | None = None
    truth: str | None = None
    source: str | None = None


def from_picture(path: Path, config: RunConfig, whole_field: bool = False) -> list[Subject]:
    """Read a picture of one cell, or of a whole field, and cut its cells as the device does.

    Raises InputError: what `edge.files.read_image` raises, and `no-cell` where the locator finds none.
    """
    corrected, found = _located(read_image(path), whole_field)
    if not found:
        cure = "Check focus and stain." if whole_field else "Give one stained cell, or a whole field with --fields."
        raise InputError("no-cell", f"No cell was found in {display_name(path)}.", cure)
    return [
        Subject(cut, nucleus_mask(cut, config.margin), str(path), cell.box)
        for cell in found
        for cut in [crop.cut(corrected, cell, config.size, config.margin)]
    ]


def _located(image: Image, whole_field: bool) -> tuple[Image, tuple[LocatedCell, ...]]:
    if whole_field:
        corrected = flatfield.correct(image)
        return corrected, locate.locate(corrected)
    corrected = flatfield.white_balance(image)
    cell = locate.single_cell(corrected)
    height, width = corrected.shape[:2]
    # Where no nucleus stands out the locator gives the whole picture, and the device calls it all the same: there is
    # nothing that a map could point at.
    whole = LocatedCell(Box(0, 0, width, height), (width / 2, height / 2), 0.5 * min(width, height))
    return corrected, () if cell == whole else (cell,)


def from_cells(cells: Cells, config: RunConfig, per_class: int, seed: int) -> list[Subject]:
    """Choose up to `per_class` validation cells of each class, the sources in turn, at random by `seed`.

    Raises NothingToDoError when there is no validation cell.
    """
    generator = generator_for(seed, 33)
    usable = (cells.split == _VALIDATION) & (cells.kind != "background") & (cells.source != "rendered")
    chosen: list[int] = []
    for label in range(len(CLASSES)):
        pools = []
        for source in np.unique(cells.source):
            pool = generator.permutation(np.flatnonzero(usable & (cells.labels == label) & (cells.source == source)))
            pools += [(place, str(source), int(index)) for place, index in enumerate(pool)]
        chosen += [index for _, _, index in sorted(pools)[:per_class]]
    if not chosen:
        raise NothingToDoError(
            "no-validation-cell", "The data folder has no validation cell.", "Check --data and the seed of the run."
        )
    return [
        Subject(
            crop=cut,
            nucleus=nucleus_mask(cut, config.margin),
            picture=str(cells.picture[index]),
            truth=CLASSES[cells.labels[index]],
            source=str(cells.source[index]),
        )
        for index in chosen
        for cut in [centre(cells.crops[index], config.size)]
    ]

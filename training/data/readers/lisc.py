"""LISC: `Main Dataset/{Baso,eosi,lymp,mono,neut}/1.bmp`, and an expert's mask of each white cell.

The masks, `Ground Truth Segmentation/Baso/areaforexpert1/1_expert.bmp`, give each cell its box. A field without a mask
counts as a picture of one cell. Fields of `mixt` hold several kinds and say not which is which: they are left out.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Final

import cv2
import numpy as np

from edge.core.errors import InputError
from edge.files import read_image
from training.data.boxes import Rectangle
from training.data.readers.entries import Entry, Options, Problem, Reading, nothing_found, require_folder, walk

CLASSES: Final = {
    "baso": "basophil",
    "eosi": "eosinophil",
    "lymp": "lymphocyte",
    "mono": "monocyte",
    "neut": "neutrophil",
}
_MASKS: Final = "areaforexpert1"
_SMALLEST: Final = 200
"""Area in pixels below which a part of a mask is a slip of the pen."""


def mask_boxes(path: Path) -> list[Rectangle]:
    """Boxes of the connected parts of a mask, in pixels. Raises InputError as `edge.files.read_image`."""
    filled = (read_image(path).max(axis=2) > 0).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(filled)
    return [(x, y, x + width, y + height) for x, y, width, height, area in stats[1:].tolist() if area >= _SMALLEST]


def read(root: Path, options: Options) -> Reading:
    """Read all class folders. Raises InputError `not-found` or `layout-not-found`."""
    require_folder(root)
    entries: list[Entry] = []
    problems: list[Problem] = []
    masks = {}
    for file in walk(root):
        path = PurePosixPath(file)
        if path.parent.name.casefold() == _MASKS:
            kind = path.parent.parent.name.casefold()
            masks[kind, re.sub(r"_expert$", "", path.stem)] = file
    for file in walk(root):
        path = PurePosixPath(file)
        kind = path.parent.name.casefold()
        if kind not in CLASSES:
            continue
        mask = masks.get((kind, path.stem))
        try:
            boxes = mask_boxes(root / mask) if mask else [None]
        except InputError as error:
            problems.append(Problem.of(str(mask), error))
            continue
        entries += [Entry(file, CLASSES[kind], box, group=file) for box in boxes]
    if not entries and not problems:
        raise nothing_found(root, "the folders of LISC (Baso, eosi, lymp, mono, neut)")
    return Reading(root, entries, problems)

"""Every picture is opened once, by the device's own reader, before a manifest promises that it can be used."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from edge.core.errors import InputError
from edge.files import read_file
from edge.imaging.decode import decode
from training.data.boxes import Rectangle
from training.data.readers.entries import Problem
from training.data.splits import difference_hash

SMALLEST: Final = 16
"""Side in pixels below which a picture shows no cell."""

_VISIBLE: Final = 0.5
"""A box lies inside its picture with at least this share of its area."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that can be read: sides in pixels, sha1 of the file, difference hash of the picture."""

    width: int
    height: int
    sha1: str
    digest: int


def look_at(path: Path) -> Picture | Problem:
    """Read one picture as `edge.files.read_image` does; a Problem when that fails or it is too small."""
    try:
        data = read_file(path)
        image = decode(data)
        height, width = image.shape[:2]
        if min(height, width) < SMALLEST:
            raise InputError("too-small", f"{path} has {width}x{height} pixels.", "Give pictures of cells.")
        return Picture(width, height, hashlib.sha1(data, usedforsecurity=False).hexdigest(), difference_hash(image))
    except InputError as error:
        return Problem.of(str(path), error)


def look_at_all(
    paths: Sequence[Path], workers: int, report: Callable[[int], None] | None = None
) -> list[Picture | Problem]:
    """Read all pictures, in order; with several `workers` in as many processes."""
    if workers <= 1 or len(paths) < 64:
        return list(_counted(map(look_at, paths), report))
    # Spawned, not forked: a forked child of a process that runs threads can hang.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return list(_counted(pool.map(look_at, paths, chunksize=32), report))


def _counted(items: Iterable[Picture | Problem], report: Callable[[int], None] | None) -> Iterator[Picture | Problem]:
    for number, item in enumerate(items, start=1):
        if report is not None:
            report(number)
        yield item


def box_inside(box: Rectangle, shares: bool, picture: Picture, file: str) -> Rectangle:
    """Give a box in pixels, cut off at the picture's border.

    Raises InputError `bad-box` for a box without area, or with less than half of it inside the picture.
    """
    across, down = (picture.width, picture.height) if shares else (1, 1)
    left, top, right, bottom = box[0] * across, box[1] * down, box[2] * across, box[3] * down
    x0, y0, x1, y1 = max(0.0, left), max(0.0, top), min(picture.width, right), min(picture.height, bottom)
    visible = (x1 - x0) * (y1 - y0) if x1 > x0 and y1 > y0 else 0.0
    if right <= left or bottom <= top or visible < _VISIBLE * (right - left) * (bottom - top) or visible <= 0:
        raise InputError(
            "bad-box",
            f"{file}: the box {left:g}, {top:g}, {right:g}, {bottom:g} is not in its {picture.width}x{picture.height}.",
            "Check the units: pixels from the upper left corner.",
        )
    return x0, y0, x1, y1

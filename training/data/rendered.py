"""Cells drawn by the simulated camera: a small, declared share of training, never an evaluation on real cells."""

from __future__ import annotations

import numpy as np

from devices.cameras.slide import render_cell
from devices.cameras.slide_stain import STAINS
from edge.core.labels import LABELS
from edge.core.types import Image
from edge.imaging import crop, flatfield, locate
from training.config import CONTEXT, RunConfig
from training.data.augment import generator_for
from training.data.cells import Cells

GOLDEN_SEED = 9001
"""Seed of the golden vectors: none of their cells is among the training cells."""


def pictures(per_class: int, seed: int) -> tuple[list[Image], list[str]]:
    """Render single-cell pictures, `per_class` of each of the five classes in turn, every stain in turn."""
    stains = sorted(STAINS)
    images, labels = [], []
    for number in range(per_class):
        for index, label in enumerate(LABELS):
            generator = generator_for(seed, number, index)
            images.append(render_cell(label, generator, 300, stain=stains[number % len(stains)]))
            labels.append(label)
    return images, labels


def crops(images: list[Image], size: int, margin: float) -> Image:
    """Cut each picture as the device does: uint8[N, size, size, 3]."""
    cut = []
    for image in images:
        corrected = flatfield.white_balance(image)
        cut.append(crop.cut(corrected, locate.single_cell(corrected), size, margin))
    return np.stack(cut)


def cells(config: RunConfig, per_class: int = 60) -> Cells:
    """Render training cells, all in the training split: they validate nothing."""
    images, names = pictures(per_class, config.seed)
    n = len(images)
    return Cells(
        crops=crops(images, config.cached_size, config.margin * CONTEXT),
        labels=np.array([LABELS.index(name) for name in names]),
        source=np.full(n, "rendered"),
        split=np.full(n, "train"),
        kind=np.full(n, "cell"),
        group=np.array([f"rendered/{i}" for i in range(n)]),
        picture=np.full(n, ""),
        subtype=np.array(names),
    )


def join(first: Cells, second: Cells) -> Cells:
    """Both sets, one after the other."""
    return Cells(**{name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in Cells.__slots__})

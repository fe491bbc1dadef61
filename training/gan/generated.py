"""Generated cells as training cells: drawn, brought to a crop's size, written with what they descend from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from edge.core.durable import write_bytes
from edge.core.errors import InputError, UsageError
from edge.core.labels import LABELS
from training.config import RunConfig
from training.data.cells import Cells
from training.gan.data import GENERATED, resized, to_crops

FILE: Final = "generated.npz"
"""The generated cells of a run folder, of a generative run or of one that trains on them."""


def cells_of(drawn: dict[int, np.ndarray], size: int, origin: str) -> Cells:
    """Pictures float32[n, R, R, 3] RGB in [-1, 1] by label, as cells of the source "generated" in the training split.

    The crops are those of networks of `size` pixels; a generator of fewer pixels leaves them soft. Their context is
    the picture mirrored at its border, as augmentation continues any crop. `origin` begins the cells' names.
    """
    around = RunConfig(size=size).cached_size - size
    ring = (around // 2, around - around // 2)
    seen = resized(to_crops(np.concatenate(list(drawn.values()))), size)
    labels = np.concatenate([np.full(len(pictures), label) for label, pictures in drawn.items()]).astype(np.int64)
    names = [f"{origin}/{LABELS[label]}-{i:05d}" for label, pictures in drawn.items() for i in range(len(pictures))]
    return Cells(
        crops=np.pad(seen, ((0, 0), ring, ring, (0, 0)), mode="reflect"),
        labels=labels,
        source=np.full(len(labels), GENERATED),
        split=np.full(len(labels), "train"),
        kind=np.full(len(labels), "cell"),
        group=np.array(names),
        picture=np.array(names),
        subtype=np.array([LABELS[label] for label in labels]),
    )


def sample(  # noqa: PLR0917  # each is another thing
    folder: Path, classes: Sequence[str], count: int, size: int, seed: int, out: Path
) -> Path:
    """Draw `count` cells of each class with the finished run in `folder`, and write them to `out`.

    Beside it, `out` with the ending .json says which run drew them, at which resolution, and from which sources under
    which licences. Raises UsageError `unknown-class`, and `class-never-seen` for one that the run had no cell of.
    """
    from training.gan import fit
    from training.gan.model import draw

    network, config = fit.load(folder)
    seen = json.loads((folder / fit.PARENTS).read_text(encoding="utf-8"))
    for name in classes:
        if name not in LABELS:
            raise UsageError("unknown-class", f"There is no class {name!r}.", f"Choose of: {', '.join(LABELS)}.")
        if not seen["classes"][name]:
            raise UsageError(
                "class-never-seen", f"The generator saw no {name}.", "Choose a class that its run learnt from."
            )
    drawn = {LABELS.index(name): draw(network, LABELS.index(name), count, config, seed) for name in classes}
    cells = cells_of(drawn, size, f"{GENERATED}-{config.seed}-{seed}")
    out.parent.mkdir(parents=True, exist_ok=True)
    # NumPy would append the ending to a name without it.
    partial = out.with_name(out.name + ".partial.npz")
    cells.save(partial)
    partial.replace(out)
    account = {
        "cells": dict.fromkeys(classes, count),
        "resolution": config.resolution,
        "crop": int(cells.crops.shape[1]),
        "seed": seed,
        "learnt_from": seen["classes"],
        "sources": seen["sources"],
        "run": json.loads((folder / fit.CONFIG).read_text(encoding="utf-8")),
    }
    write_bytes(out.with_suffix(".json"), (json.dumps(account, indent=1) + "\n").encode())
    return out


def load(path: Path) -> Cells:
    """Read generated cells. Raises InputError `not-generated-cells` for a file that holds anything else."""
    cure = "Name a file that `leuko train gan sample` wrote."
    try:
        cells = Cells.load(path)
    except (OSError, ValueError, KeyError) as problem:
        raise InputError("not-generated-cells", f"{path} cannot be read as cells.", cure) from problem
    if set(cells.source.tolist()) != {GENERATED} or set(cells.split.tolist()) != {"train"}:
        raise InputError("not-generated-cells", f"{path} holds other cells than generated ones.", cure)
    return cells


def join(cells: Cells, drawn: Cells) -> Cells:
    """Put generated cells behind the others. Raises UsageError `generated-size` when their crops differ in size."""
    if drawn.crops.shape[1:] != cells.crops.shape[1:]:
        raise UsageError(
            "generated-size",
            f"The generated crops have {drawn.crops.shape[1]} pixels a side, the real ones {cells.crops.shape[1]}.",
            "Draw them again: `leuko train gan sample RUN --size N` with the N of the network.",
        )
    return Cells(**{name: np.concatenate([getattr(cells, name), getattr(drawn, name)]) for name in Cells.__slots__})


def adopt(path: Path, folder: Path) -> None:
    """Copy a file of generated cells, with the account beside it, into a run folder. Raises what `load` raises."""
    load(path)
    folder.mkdir(parents=True, exist_ok=True)
    for suffix in (".npz", ".json"):
        if path.with_suffix(suffix).is_file():
            write_bytes((folder / FILE).with_suffix(suffix), path.with_suffix(suffix).read_bytes())

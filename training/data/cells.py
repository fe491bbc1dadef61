"""Every training picture as the device would crop it, cut once with some context around and kept in one file."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import groupby
from multiprocessing import get_context
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge.core.types import Box, Image, LocatedCell
from edge.files import read_image
from edge.imaging import crop, flatfield, locate
from training.config import CLASSES, CONTEXT, RunConfig
from training.data import sources, splits
from training.data.annotations import field_samples
from training.data.sources import Sample, Source
from training.locking import alone

_LOG = logging.getLogger(__name__)

EVALUATION: Final = "evaluation"
"""The split of all cells of a source whose licence forbids to train on it."""


@dataclass(frozen=True, slots=True)
class Cells:
    """N labelled cells: `crops` uint8[N, S, S, 3] BGR with context, `labels` int64[N] into CLASSES.

    Then string arrays: source, split ("train", "validation", "test", or EVALUATION), kind ("cell", "field" or
    "background"), group, the picture's file in the data folder, and the label before it was mapped to CLASSES.
    """

    crops: Image
    labels: npt.NDArray[np.int64]
    source: npt.NDArray[np.str_]
    split: npt.NDArray[np.str_]
    kind: npt.NDArray[np.str_]
    group: npt.NDArray[np.str_]
    picture: npt.NDArray[np.str_]
    subtype: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, mask: npt.NDArray[Any]) -> Cells:
        """Give the cells of a boolean mask or an index array."""
        return Cells(**{name: getattr(self, name)[mask] for name in self.__slots__})

    def save(self, path: Path) -> None:
        """Write to an uncompressed npz file, with the licences of its sources."""
        known = [asdict(sources.SOURCES[name]) for name in np.unique(self.source).tolist() if name in sources.SOURCES]
        np.savez(path, licences=np.array(json.dumps(known)), **{name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def load(cls, path: Path) -> Cells:
        """Read what `save` wrote; the licences of the user's own sources are known to this process from then on."""
        with np.load(path) as archive:
            for source in json.loads(str(archive["licences"])) if "licences" in archive.files else ():
                sources.record(Source(**source))
            return cls(**{name: archive[name] for name in cls.__slots__})


def _inside(cell: LocatedCell, box: tuple[float, float, float, float]) -> float:
    """Intersection over union of a located cell and an annotated box."""
    left, top, right, bottom = box
    one = cell.box
    width = min(right, one.x + one.width) - max(left, one.x)
    height = min(bottom, one.y + one.height) - max(top, one.y)
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((right - left) * (bottom - top) + one.width * one.height - shared)


def _located(corrected: Image, found: Sequence[LocatedCell], sample: Sample) -> LocatedCell | None:
    if sample.box is None:
        return locate.single_cell(corrected)
    left, top, right, bottom = sample.box
    if sample.kind == "field":
        best = max(found, key=lambda cell: _inside(cell, (left, top, right, bottom)), default=None)
        return best if best is not None and _inside(best, (left, top, right, bottom)) >= 0.3 else None
    # An object that is no white cell: as large in its crop as a nucleus would be.
    width, height = right - left, bottom - top
    if min(width, height) < 4 or any(_inside(cell, (left, top, right, bottom)) > 0.05 for cell in found):
        return None
    box = Box(round(left), round(top), round(width), round(height))
    return LocatedCell(box, ((left + right) / 2, (top + bottom) / 2), float(np.sqrt(width * height)))


@dataclass(frozen=True, slots=True)
class CutCell:
    """One sample as the device cuts it. `digest` is the difference hash of a single-cell picture, None for a field."""

    sample: Sample
    crop: Image
    digest: int | None


def _cut_file(job: tuple[str, tuple[Sample, ...], int, float]) -> list[CutCell]:
    path, samples, size, margin = job
    image = read_image(Path(path))
    whole_field = any(sample.box for sample in samples)
    corrected = flatfield.correct(image) if whole_field else flatfield.white_balance(image)
    found = locate.locate(corrected) if whole_field else ()
    cut = []
    for sample in samples:
        cell = _located(corrected, found, sample)
        if cell is not None:
            digest = splits.difference_hash(image) if sample.box is None else None
            cut.append(CutCell(sample, crop.cut(corrected, cell, size, margin), digest))
    return cut


def cut_all(data: Path, samples: Sequence[Sample], size: int, margin: float, workers: int = 2) -> list[CutCell]:
    """Cut samples the device's way: read, correct, locate, crop to uint8[size, size, 3]; sorted by file.

    A cell that the locator does not find in its whole field is left out.
    """
    ordered = sorted(samples, key=attrgetter("file"))
    jobs = [(str(data / file), tuple(group), size, margin) for file, group in groupby(ordered, key=attrgetter("file"))]
    # Spawned, not forked: a forked child of a process that runs TensorFlow's threads can hang.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return [item for items in pool.map(_cut_file, jobs, chunksize=32) for item in items]


def fingerprint(data: Path, config: RunConfig) -> str:
    """Identify a cache: the manifest, the crop's geometry, the seed of the split, and the code that cuts."""
    digest = hashlib.sha256((data / "manifest.csv").read_bytes())
    digest.update(f"{config.cached_size} {config.margin} {config.split_seed}".encode())
    code = [*sorted(Path(crop.__file__).parent.glob("*.py")), *sorted(Path(__file__).parent.glob("*.py"))]
    for path in code:
        if path.stem in {"flatfield", "locate", "crop", "cells", "annotations", "boxes", "labels", "sources", "splits"}:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _split_groups(samples: Sequence[Sample], groups: Sequence[str], seed: int) -> dict[str, str]:
    """Give the split of each group that may be learnt from: what the manifest says of it, else a seeded one."""
    said = {group: sample.split for sample, group in zip(samples, groups, strict=True) if sample.split}
    learnt = [
        (sample, group)
        for sample, group in zip(samples, groups, strict=True)
        if sources.SOURCES[sample.source].trainable and group not in said
    ]
    open_groups = [group for _, group in learnt]
    strata = [(sample.source, sample.label) for sample, _ in learnt]
    return {**said, **dict(zip(open_groups, splits.assign(open_groups, strata, seed), strict=True))}


def build(data: Path, config: RunConfig, workers: int = 2) -> Cells:
    """Read, correct, locate, crop and split every picture of the data folder.

    Where the manifest names the splits, as one of `leuko train data` does, they stand; the rest is split here.
    All cells of a source for evaluation only are in the split EVALUATION: none can be trained on or choose anything.
    Raises SplitLeakError when a duplicate crosses a border, InputError for a data folder that cannot be used.
    """
    manifest = sources.read_manifest(data)
    samples = [*manifest, *field_samples(data, manifest)]
    cut = cut_all(data, samples, config.cached_size, config.margin * CONTEXT, workers)
    pictures = [(item.sample.group, item.digest) for item in cut if item.digest is not None]
    merged = splits.merge_groups([group for group, _ in pictures], [digest for _, digest in pictures])
    canonical = {group: common for (group, _), common in zip(pictures, merged, strict=True)}
    # All samples are split, found by the locator or not: another locator must not move a cell across a border.
    everyone = [canonical.get(sample.group, sample.group) for sample in samples]
    split_of = _split_groups(samples, everyone, config.split_seed)
    groups = [canonical.get(item.sample.group, item.sample.group) for item in cut]
    assigned = [
        (item.sample.split or split_of[group]) if sources.SOURCES[item.sample.source].trainable else EVALUATION
        for group, item in zip(groups, cut, strict=True)
    ]
    splits.require_no_leak(assigned, groups, [item.sample.sha1 for item in cut], [item.digest for item in cut])
    _LOG.info("cut %d crops from %d samples", len(cut), len(samples))
    return Cells(
        crops=np.stack([item.crop for item in cut]),
        labels=np.array([CLASSES.index(item.sample.label) for item in cut]),
        source=np.array([item.sample.source for item in cut]),
        split=np.array(assigned),
        kind=np.array([item.sample.kind for item in cut]),
        group=np.array(groups),
        picture=np.array([item.sample.file for item in cut]),
        subtype=np.array([item.sample.subtype for item in cut]),
    )


def load_or_build(data: Path, config: RunConfig, cache: Path, workers: int = 2) -> Cells:
    """Give the cells of a data folder, from `cache` when it holds them for this code and configuration.

    Of several processes with one cache the first cuts the cells, and the others wait for it.
    """
    path = cache / f"cells-{fingerprint(data, config)}.npz"
    with alone(cache):
        if path.is_file():
            return Cells.load(path)
        built = build(data, config, workers)
        partial = path.with_suffix(".partial.npz")
        built.save(partial)
        partial.rename(path)
        return built

"""Readers of labelled images, one module a layout; `LAYOUTS` names them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from training.data.readers import (
    bccd,
    bloodmnist,
    coco,
    csv_table,
    folders,
    lisc,
    manifest,
    pbc,
    raabin,
    voc,
    yolo,
)
from training.data.readers.entries import Entry, Options, Problem, Reading

__all__ = ["LAYOUTS", "PUBLIC", "Entry", "Options", "Problem", "Reading"]

LAYOUTS: Final[Mapping[str, Callable[[Path, Options], Reading]]] = {
    "folders": folders.read,
    "csv": csv_table.read,
    "voc": voc.read,
    "yolo": yolo.read,
    "coco": coco.read,
    "pbc": pbc.read,
    "bloodmnist": bloodmnist.read,
    "bccd": bccd.read,
    "raabin": raabin.read,
    "lisc": lisc.read,
    "manifest": manifest.read,
}

PUBLIC: Final = frozenset({"pbc", "bloodmnist", "bccd", "raabin", "lisc"})
"""Layouts that are one public set: source, licence and citation are known without being said."""

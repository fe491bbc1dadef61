"""Small folders of labelled pictures for the tests of the readers: noise that no two pictures share."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from training.data.readers import LAYOUTS, Options, Reading


def picture(path: Path, seed: int, width: int = 48, height: int = 40) -> Path:
    """Write a picture whose difference hash is far from that of any other seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    return path


def read(layout: str, path: Path, **options: object) -> Reading:
    """Read a folder with one of the readers."""
    return LAYOUTS[layout](path, Options(**options))  # type: ignore[arg-type]


def voc(objects: str, filename: str = "a.png") -> str:
    """A VOC annotation around some objects."""
    return f"<annotation><filename>{filename}</filename>{objects}</annotation>"


def voc_object(name: str, left: object, top: object, right: object, bottom: object) -> str:
    """One object of a VOC annotation."""
    return (
        f"<object><name>{name}</name><bndbox><xmin>{left}</xmin><ymin>{top}</ymin>"
        f"<xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
    )

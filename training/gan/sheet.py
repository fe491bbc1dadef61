"""Contact sheets: generated cells, alone or with the nearest real one beside each, one row per class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from edge.core.durable import write_bytes
from edge.core.types import Image
from edge.imaging.flatfield import BLANK

_GAP = 4
_LABEL = 92


def _strip(name: str, pictures: Sequence[Image]) -> Image:
    side = pictures[0].shape[0]
    strip = np.full((side + _GAP, _LABEL + len(pictures) * (side + _GAP), 3), int(BLANK), dtype=np.uint8)
    cv2.putText(strip, name, (4, side // 2 + 4), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (60, 40, 40), 1, cv2.LINE_AA)
    for column, picture in enumerate(pictures):
        left = _LABEL + column * (side + _GAP)
        strip[:side, left : left + side] = picture
    return strip


def sheet(rows: Sequence[tuple[str, Sequence[Image]]]) -> Image:
    """Rows of equally many pictures uint8[S, S, 3] of one size, each with its name: uint8[H, W, 3]."""
    return np.ascontiguousarray(np.vstack([_strip(name, pictures) for name, pictures in rows]))


def paired(name: str, drawn: Image, real: Image, columns: int) -> list[tuple[str, Sequence[Image]]]:
    """Two rows: the first `columns` generated pictures, and under each its nearest real one."""
    return [(name, list(drawn[:columns])), ("nearest real", list(real[:columns]))]


def save(path: Path, picture: Image) -> None:
    """Write a PNG file."""
    _, encoded = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    write_bytes(path, encoded.tobytes())

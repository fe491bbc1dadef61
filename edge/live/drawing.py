"""The picture of the last field as it is shown: boxes and labels drawn into the preview."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import cv2
import numpy as np

from edge.core.types import Image
from edge.live.state import LiveCell

COLOURS: Final[Mapping[str, tuple[int, int, int]]] = MappingProxyType(
    {
        "neutrophil": (178, 114, 0),
        "lymphocyte": (0, 94, 213),
        "monocyte": (115, 158, 0),
        "eosinophil": (167, 121, 204),
        "basophil": (0, 0, 0),
        "other": (90, 90, 90),
    }
)
"""(B, G, R) by class: colours that the colour-blind tell apart (Okabe and Ito, 2008), dark enough for white text.

Every box also carries its class in letters, so that nothing rests on colour."""

_SHORT: Final = {
    "neutrophil": "NEU",
    "lymphocyte": "LYM",
    "monocyte": "MON",
    "eosinophil": "EOS",
    "basophil": "BAS",
    "other": "?",
}
_QUALITY: Final = 80


def drawn(preview: Image, scale: float, cells: Sequence[LiveCell]) -> bytes:
    """Draw the cells into a copy of a preview, uint8[h, w, 3], and give it as JPEG.

    `scale` is preview width / field width. A cell counted in this field has a thick box and its class; one counted
    before a thin box.
    """
    picture = preview.copy()
    for cell in cells:
        shown = "other" if cell.abstained or cell.label not in COLOURS else cell.label
        colour = COLOURS[shown]
        box = cell.box
        left, top = round(box.x * scale), round(box.y * scale)
        right, bottom = round((box.x + box.width) * scale), round((box.y + box.height) * scale)
        cv2.rectangle(picture, (left, top), (right, bottom), colour, 1 if cell.repeated else 2)
        if not cell.repeated:
            text = _SHORT[shown]
            (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1)
            base = top - 3 if top - height - 6 >= 0 else min(picture.shape[0] - 2, bottom + height + 4)
            cv2.rectangle(picture, (left, base - height - 3), (left + width + 4, base + 3), colour, cv2.FILLED)
            cv2.putText(
                picture, text, (left + 2, base), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA
            )
    done, buffer = cv2.imencode(".jpg", np.ascontiguousarray(picture), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not done:
        raise ValueError(f"OpenCV could not encode a picture of shape {picture.shape}.")
    return buffer.tobytes()

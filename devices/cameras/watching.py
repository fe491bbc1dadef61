"""Sees by its pictures whether a camera is in order: black, the same again, another format."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np

from edge.core.types import FieldFailure, Frame, Image

BLACK: Final = 12
"""Levels of 255 that not one pixel in a hundred exceeds in a black frame: above the noise and offset of a sensor
without light, far below the darkest field that a lamp shines through."""
_ROWS: Final = 5
"""Every how many rows a picture is compared with the one before: no noise of a sensor repeats in a fifth of it."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a frame: a stable code, and one sentence."""

    code: str
    message: str
    cure: str


class Watcher:
    """Judges one frame after the other of a live camera."""

    def __init__(self) -> None:
        self._shape: tuple[int, ...] | None = None
        self._before: int | None = None

    def judge(self, item: Frame | FieldFailure) -> Fault | None:
        """Say what is wrong with this frame, compared with those before; None when it is in order."""
        if isinstance(item, FieldFailure):
            return Fault(item.code, item.message, "Check the camera's cable.")
        image = item.image
        if self._shape is not None and image.shape != self._shape:
            return Fault(
                "camera-format",
                f"The pictures were {_size(self._shape)} and are {_size(image.shape)} now.",
                "Check that no other program uses the camera.",
            )
        self._shape = image.shape
        if is_black(image):
            return Fault("camera-black", "The picture is black.", "Switch the lamp on, and take the lens cap off.")
        fingerprint = zlib.crc32(np.ascontiguousarray(image[::_ROWS]).data)
        same, self._before = fingerprint == self._before, fingerprint
        # A picture that is white all over is the same as the next without being stuck.
        if same and int(image[::_ROWS].min()) < 255:
            return Fault("camera-repeats", "The camera gave the same picture again.", "Plug it in again.")
        return None


def is_black(image: Image) -> bool:
    """Whether uint8[H, W, 3] shows nothing: a lens cap, no lamp, or a sensor that is not read out."""
    return bool(np.percentile(image[::8, ::8].max(axis=2), 99) < BLACK)


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"

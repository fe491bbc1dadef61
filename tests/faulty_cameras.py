"""Cameras that go wrong in one way each, at frame 2, to be opened in a process of their own.

A specification is "KIND[:FRAMES]". What a fault of a real device does to the process that drives it is done for real:
it hangs, it is killed by a signal, its pictures go black. A camera is in order again when it is opened anew while the
file named by FAULTY_ONCE exists; the fault makes that file.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edge.core import clock
from edge.core.errors import CameraLostError
from edge.core.types import FieldFailure, Frame

FAULT_AT = 2


class FaultyCamera:
    def __init__(self, specification: str) -> None:
        self.kind, _, frames = specification.partition(":")
        self.frames_wanted = int(frames) if frames else None
        self.frozen = {"exposure": 100}

    def __enter__(self) -> FaultyCamera:
        once = os.environ.get("FAULTY_ONCE")
        self.once = Path(once) if once else None
        if self.once is not None and self.once.exists():
            self.kind = "sound"
        if self.kind == "absent":
            raise CameraLostError("camera-missing", "There is no such camera.", "Plug it in.")
        if self.kind == "hangs-at-opening":
            time.sleep(600)
        return self

    def __exit__(self, *_: object) -> None:
        if self.kind == "hangs-at-closing":
            time.sleep(600)

    def frames(self) -> Iterator[Frame | FieldFailure]:
        rng = np.random.default_rng(0)
        number = 0
        while self.frames_wanted is None or number < self.frames_wanted:
            picture = rng.integers(60, 250, (96, 128, 3)).astype(np.uint8)
            if number >= FAULT_AT and self.kind != "sound":
                picture = self.spoilt(picture)
            yield Frame(picture, clock.read(), f"faulty#{number}", 10.0)
            number += 1
            time.sleep(0.005)

    def spoilt(self, picture: np.ndarray) -> np.ndarray:
        if self.once is not None:
            self.once.touch()
        if self.kind == "frozen":
            time.sleep(600)
        if self.kind == "slow":
            time.sleep(0.15)
        if self.kind == "vanished":
            raise CameraLostError("camera-vanished", "It was unplugged.", "Plug it in.")
        if self.kind in {"SIGSEGV", "SIGILL", "SIGKILL"}:
            os.kill(os.getpid(), getattr(signal, self.kind))
        if self.kind == "raises":
            raise ZeroDivisionError("a defect in a driver")
        if self.kind == "black":
            return np.random.default_rng(time.monotonic_ns()).integers(0, 6, picture.shape).astype(np.uint8)
        if self.kind == "repeats":
            return np.full_like(picture, 128)
        if self.kind == "smaller":
            return np.ascontiguousarray(picture[:48])
        if self.kind == "grey":
            return picture[:, :, 0]
        if self.kind == "larger":
            return np.repeat(picture, 64, axis=0)
        return picture

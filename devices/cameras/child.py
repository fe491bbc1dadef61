"""The process that a camera lives in. It hands frames over in shared memory, and a line about each over a pipe.

Started by `devices.cameras.process` as: FACTORY SPECIFICATION MEMORY ANSWERS SLOTS LIVE. Standard input brings the
number of each slot that is free again, one byte; its end ends this process, also when the parent was killed.
"""

from __future__ import annotations

import importlib
import json
import mmap
import os
import queue
import signal
import sys
import threading
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from edge.core.errors import LeukoError
from edge.core.types import FieldFailure, Frame

ENDING_SECONDS: Final = 3.0
"""How long a camera may take to be released before this process ends all the same."""


class _Handover:
    """Writes frames into the slots and says so. The memory gets its size from the first frame."""

    def __init__(self, memory: int, answers: int, slots: int, live: bool) -> None:
        self._memory, self._answers, self._live = memory, answers, live
        self._slots = slots
        self._free: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        for slot in range(slots):
            self._free.put(slot)
        self._map: mmap.mmap | None = None
        self._size = 0
        self._dropped = 0
        self.ended = threading.Event()

    def released(self, slot: int | None) -> None:
        """Hear that a slot is free again, or, for None, that nobody reads any more."""
        if slot is None:
            self.ended.set()
        self._free.put(slot)

    def say(self, **line: Any) -> None:
        data = json.dumps(line).encode() + b"\n"
        while data:
            data = data[os.write(self._answers, data) :]

    def frame(self, frame: Frame) -> None:
        """Hand a frame over. While every slot is taken a live camera's frame is dropped, and counted; others wait."""
        parts = [frame.image] if frame.preview is None else [frame.image, frame.preview]
        if any(part.dtype != np.uint8 or part.ndim != 3 or part.shape[2] != 3 for part in parts):
            shapes = [f"{part.shape} {part.dtype}" for part in parts]
            self.say(kind="error", error="CameraLostError", code="camera-format", message=f"It gave {shapes[0]}.")
            raise SystemExit
        try:
            slot = self._free.get(block=not self._live)
        except queue.Empty:
            self._dropped += 1
            return
        if slot is None:
            raise SystemExit
        size = sum(part.nbytes for part in parts)
        if self._map is None:
            self._size = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
            os.ftruncate(self._memory, self._size * self._slots)
            self._map = mmap.mmap(self._memory, self._size * self._slots)
        if size > self._size:
            self.say(kind="error", error="CameraLostError", code="camera-format", message="Its picture grew.")
            raise SystemExit
        at = slot * self._size
        for part in parts:
            target = np.frombuffer(self._map, np.uint8, part.size, at).reshape(part.shape)
            target[...] = part
            at += part.nbytes
        self.say(
            kind="frame",
            slot=slot,
            at=slot * self._size,
            total=self._size * self._slots,
            shapes=[part.shape for part in parts],
            taken=asdict(frame.taken),
            source=frame.source,
            exposure=frame.exposure_milliseconds,
            dropped=self._dropped,
        )


def _listen(handover: _Handover) -> None:
    while slot := os.read(0, 1):
        handover.released(slot[0])
    handover.released(None)
    # A camera that hangs while it is released must not keep this process.
    threading.Event().wait(ENDING_SECONDS)
    os._exit(0)


def main(arguments: list[str]) -> None:
    """Open the camera and hand its frames over until it ends, fails, or nobody reads any more."""
    factory, specification, memory, answers, slots, live = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    handover = _Handover(int(memory), int(answers), int(slots), live == "live")
    threading.Thread(target=_listen, args=(handover,), daemon=True).start()
    try:
        module, _, attribute = factory.partition(":")
        made: Any = importlib.import_module(module)
        for name in attribute.split("."):
            made = getattr(made, name)
        with made(specification) as camera:
            handover.say(kind="opened", frozen={key: _plain(value) for key, value in _frozen(camera).items()})
            for item in camera.frames():
                if handover.ended.is_set():
                    break
                if isinstance(item, FieldFailure):
                    handover.say(kind="failure", **asdict(item))
                else:
                    handover.frame(item)
            else:
                handover.say(kind="end")
    except LeukoError as error:
        handover.say(kind="error", error=type(error).__name__, code=error.code, message=error.message, cure=error.cure)
    except BrokenPipeError:
        pass


def _frozen(camera: Any) -> dict[str, Any]:
    return dict(getattr(camera, "frozen", {}))


def _plain(value: Any) -> Any:
    return [float(each) for each in value] if isinstance(value, (tuple, list)) else float(value)


if __name__ == "__main__":
    main(sys.argv[1:])

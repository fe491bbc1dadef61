"""A camera in a process of its own: a driver that hangs or crashes takes that process, and never the agent."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import IO, Any, Final

import numpy as np

from devices import children
from edge.core import errors
from edge.core.errors import CameraError, CameraLostError, LeukoError
from edge.core.types import ClockReading, FieldFailure, Frame

OPENING_SECONDS: Final = 40.0
"""For the imports of a small device, the driver, and the camera's automatics to settle."""
SLOTS: Final = 3
"""Frames that may be on their way: one is written, one waits, one is read."""
_ENDING_SECONDS: Final = 5.0


class ProcessCamera:
    """The camera `factory` ("module:attribute", given its specification), opened in a child process.

    Implements `CameraSource`. A `live` camera's frames are dropped while nobody takes them, and counted in `dropped`;
    the frames of a file wait. Opening may take `opening_seconds`, each frame `deadline_seconds`: after that the child
    is killed and the camera is lost.
    """

    def __init__(
        self,
        factory: str,
        specification: str,
        *,
        live: bool = True,
        deadline_seconds: float = 5.0,
        opening_seconds: float = OPENING_SECONDS,
    ) -> None:
        self.name = specification
        self._factory, self._live = factory, live
        self._deadline, self._opening = deadline_seconds, opening_seconds
        self._stack: ExitStack | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._memory = self._answers = -1
        self._map: mmap.mmap | None = None
        self._log: IO[bytes] | None = None
        self._buffer = b""
        self.dropped = 0
        """Frames that this opening of the camera had to drop."""
        self.frozen: Mapping[str, Any] = {}
        """What the camera's automatics were frozen at."""

    def __enter__(self) -> ProcessCamera:
        """Start the child and wait until its camera is open.

        Raises what the camera raises, and CameraLostError when the child dies or does not answer in time.
        """
        with ExitStack() as stack:
            self._memory = os.memfd_create("leuko-camera", os.MFD_CLOEXEC)
            stack.callback(os.close, self._memory)
            self._answers, answers = os.pipe()
            stack.callback(os.close, self._answers)
            self._log = stack.enter_context(tempfile.TemporaryFile())
            arguments = (self._factory, self.name, str(self._memory), str(answers), str(SLOTS))
            try:
                self._child = subprocess.Popen(
                    [sys.executable, "-m", "devices.cameras.child", *arguments, "live" if self._live else "recorded"],
                    env=children.environment(),
                    stdin=subprocess.PIPE,
                    stdout=self._log,
                    stderr=self._log,
                    pass_fds=(self._memory, answers),
                    start_new_session=True,
                )
            finally:
                os.close(answers)
            self._buffer, self._map, self.dropped = b"", None, 0
            stack.callback(self._unmap)
            stack.callback(_end, self._child)
            opened = self._answer(self._opening, "open")
            if opened["kind"] != "opened":
                raise CameraLostError("camera-vanished", f"{self.name} ended before it was open.", "Open it again.")
            self.frozen = opened["frozen"]
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stack, self._stack, self._child = self._stack, None, None
        if stack is not None:
            stack.close()

    def frames(self) -> Iterator[Frame | FieldFailure]:
        """Yield what the camera yields.

        Raises what it raises; CameraLostError when the child dies ("camera-vanished") or misses its deadline
        ("camera-frozen"); CameraError ("camera-closed") outside the `with` block.
        """
        if self._stack is None:
            raise CameraError("camera-closed", f"{self.name} is not open.", "Ask for frames inside its `with` block.")
        return self._stream()

    def _stream(self) -> Iterator[Frame | FieldFailure]:
        while self._stack is not None:
            answer = self._answer(self._deadline, "give a frame")
            if answer["kind"] == "end":
                return
            if answer["kind"] == "failure":
                yield FieldFailure(answer["source"], answer["code"], answer["message"])
            else:
                yield self._frame(answer)

    def _frame(self, answer: Mapping[str, Any]) -> Frame:
        if self._map is None:
            self._map = mmap.mmap(self._memory, answer["total"], prot=mmap.PROT_READ)
        at, pictures = answer["at"], []
        for shape in answer["shapes"]:
            size = int(np.prod(shape))
            pictures.append(np.frombuffer(self._map, np.uint8, size, at).reshape(shape).copy())
            at += size
        self.dropped = answer["dropped"]
        if self._child is not None and self._child.stdin is not None:
            # A child that has just died is noticed with the next answer.
            with contextlib.suppress(BrokenPipeError):
                os.write(self._child.stdin.fileno(), bytes([answer["slot"]]))
        return Frame(
            pictures[0],
            ClockReading(**answer["taken"]),
            answer["source"],
            answer["exposure"],
            pictures[1] if len(pictures) > 1 else None,
        )

    def _answer(self, seconds: float, doing: str) -> dict[str, Any]:
        """The child's next line; raises the error that it tells of."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            if not select.select([self._answers], [], [], max(0.0, deadline - time.monotonic()))[0]:
                self._kill()
                raise CameraLostError(
                    "camera-frozen",
                    f"{self.name} did not {doing} within {seconds:g} seconds.",
                    "Check its cable and power; it is opened again by itself.",
                )
            if not (part := os.read(self._answers, 65536)):
                raise self._death()
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if answer["kind"] == "error":
            kind = getattr(errors, answer["error"], CameraLostError)
            problem: LeukoError = kind(answer["code"], answer["message"], answer.get("cure", "Open the camera again."))
            raise problem
        return answer

    def _death(self) -> CameraLostError:
        code = None if self._child is None else self._child.wait(_ENDING_SECONDS)
        how = f"was killed by {children.signal_name(-code)}" if code is not None and code < 0 else f"ended ({code})"
        words = b"" if self._log is None else os.pread(self._log.fileno(), 1 << 16, 0)
        last = words.decode(errors="replace").strip().splitlines()[-1:]
        said = f": {last[0]}" if last else ""
        return CameraLostError(
            "camera-vanished",
            f"The process of {self.name} {how}{said}.",
            "Check the camera and its driver; it is opened again by itself.",
        )

    def _kill(self) -> None:
        if self._child is not None:
            self._child.kill()

    def _unmap(self) -> None:
        if self._map is not None:
            self._map.close()
            self._map = None


def _end(child: subprocess.Popen[bytes]) -> None:
    """Let the child release its camera, and kill it when it does not."""
    if child.stdin is not None:
        child.stdin.close()
    try:
        child.wait(_ENDING_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()

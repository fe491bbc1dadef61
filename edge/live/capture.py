"""Takes fields from the camera in a thread of its own, so that neither waits for the other longer than it must."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Final, Literal

from edge.core.errors import CameraError, LeukoError
from edge.core.protocols import CameraSource
from edge.core.types import FieldFailure, Frame, Image
from edge.imaging import focus_stack

CAPACITY: Final = 2
"""Frames that may wait for the loop: more would only make the picture on the screen older."""

REOPENING_SECONDS: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Pauses before a lost camera is opened again; the last one repeats."""

End = Literal["end"]


class Capture:
    """The camera of a session, from `start` to `stop`.

    A camera that `waits` for whoever reads it (a file, a simulated slide) loses no frame. Any other goes on by itself:
    when the loop is behind, the older frame is dropped and `on_dropped` hears of it. A camera that is lost is opened
    again until it is back; `on_lost` and `on_back` hear of it. One that cannot even be opened at first ends it all:
    `take` raises its error.
    """

    def __init__(
        self,
        open_camera: Callable[[], CameraSource],
        *,
        stack: int = 1,
        waits: bool = True,
        on_dropped: Callable[[], None],
        on_lost: Callable[[LeukoError], None],
        on_back: Callable[[], None],
        reopening: tuple[float, ...] = REOPENING_SECONDS,
    ) -> None:
        self._open_camera = open_camera
        self._stack = stack
        self._waits = waits
        self._on_dropped, self._on_lost, self._on_back = on_dropped, on_lost, on_back
        self._reopening = reopening
        self._ready = threading.Condition()
        self._frames: deque[Frame | FieldFailure] = deque()
        self._ended = False
        self._failure: LeukoError | None = None
        self._stopping = threading.Event()
        self._resting = False
        self._thread = threading.Thread(target=self._run, name="leuko-capture", daemon=True)

    def start(self) -> None:
        """Open the camera and begin."""
        self._thread.start()

    def rest(self, resting: bool) -> None:
        """Hand out nothing while the session is paused, and drop what waits: it would be old when it goes on."""
        with self._ready:
            self._resting = resting
            if resting and not self._waits:
                self._frames.clear()
            self._ready.notify_all()

    def take(self, seconds: float) -> Frame | FieldFailure | End | None:
        """Take the next field; "end" when the source has no more, None when none came in time."""
        with self._ready:
            self._ready.wait_for(lambda: self._frames or self._ended, seconds)
            if self._frames:
                taken = self._frames.popleft()
                self._ready.notify_all()
                return taken
            if self._failure is not None:
                raise self._failure
            return "end" if self._ended else None

    def stop(self) -> None:
        """Release the camera. Waits for its grab in progress, which has a deadline."""
        self._stopping.set()
        with self._ready:
            self._ready.notify_all()
        self._thread.join()

    def _run(self) -> None:
        opened = False
        attempt = 0
        while not self._stopping.is_set():
            try:
                with self._open_camera() as camera:
                    for field in stacked(camera.frames(), self._stack):
                        if not opened or attempt:
                            opened, attempt = True, 0
                            self._on_back()
                        if not self._hand_over(field):
                            break
                    else:
                        break
            except LeukoError as error:
                if not opened or not isinstance(error, CameraError):
                    self._failure = error
                    break
                self._on_lost(error)
                self._stopping.wait(self._reopening[min(attempt, len(self._reopening) - 1)])
                attempt += 1
            except Exception as error:  # noqa: BLE001 - a driver's own errors must not end a session without a word
                self._failure = CameraError(
                    "camera-failed", f"The camera's driver failed: {error!r}.", "Unplug it, plug it in, and resume."
                )
                break
        with self._ready:
            self._ended = True
            self._ready.notify_all()

    def _hand_over(self, field: Frame | FieldFailure) -> bool:
        with self._ready:
            if self._waits:
                self._ready.wait_for(
                    lambda: (len(self._frames) < CAPACITY and not self._resting) or self._stopping.is_set()
                )
            if self._stopping.is_set():
                return False
            if self._resting:
                return True
            if len(self._frames) >= CAPACITY:
                self._frames.popleft()
                self._on_dropped()
            self._frames.append(field)
            self._ready.notify_all()
        return True


def stacked(frames: Iterable[Frame | FieldFailure], planes: int) -> Iterator[Frame | FieldFailure]:
    """Of every `planes` frames in a row give the sharpest; a plane that cannot be read is given too, to be named.

    The chosen frame's source says which plane it was: "PATH (plane 6 of 10)".
    """
    if planes <= 1:
        yield from frames
        return
    numbered: list[tuple[int, Frame]] = []
    count = 0
    for frame in frames:
        count += 1
        if isinstance(frame, FieldFailure):
            yield frame
        else:
            numbered.append((count, frame))
        if count == planes:
            yield from _sharpest(numbered, planes)
            numbered, count = [], 0
    yield from _sharpest(numbered, planes)


def _sharpest(numbered: list[tuple[int, Frame]], planes: int) -> Iterator[Frame]:
    by_shape: dict[tuple[int, ...], list[tuple[int, Frame]]] = {}
    for number, frame in numbered:
        by_shape.setdefault(frame.image.shape, []).append((number, frame))
    # Planes of one field have one size; frames of several sizes are several fields.
    for group in by_shape.values():
        images: list[Image] = [frame.image for _, frame in group]
        number, frame = group[focus_stack.choose(images).best]
        yield replace(frame, source=f"{frame.source} (plane {number} of {planes})")


def slowed(seconds: float, stopping: Callable[[], bool]) -> None:
    """Wait so long in small steps, unless the session is being ended."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not stopping():
        time.sleep(min(0.05, max(0.0, until - time.monotonic())))

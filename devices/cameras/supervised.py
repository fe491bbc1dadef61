"""Keeps a camera going: what goes wrong with it is noticed, named, and cured by opening it again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from devices.cameras.watching import Fault, Watcher
from edge.core.errors import CameraError, CameraLostError, LeukoError
from edge.core.protocols import CameraSource
from edge.core.types import FieldFailure, Frame


@dataclass(frozen=True, slots=True)
class Policy:
    """When a camera is opened again, and how often.

    After `bad_frames` bad frames in a row (black, repeated, another size) it is. Between two openings it waits
    `first_wait` seconds, twice as long each time, `longest_wait` at most. After `attempts` openings without
    `good_frames` good frames in a row since, it is lost.
    """

    bad_frames: int = 3
    good_frames: int = 10
    attempts: int = 6
    first_wait: float = 0.5
    longest_wait: float = 10.0

    def wait(self, attempt: int) -> float:
        """Seconds to wait before opening attempt 1, 2, ..."""
        return float(min(self.longest_wait, self.first_wait * 2 ** (attempt - 1)))


class SupervisedCamera:
    """A live camera that is opened again when it freezes, vanishes, or gives pictures that cannot be right.

    Implements `CameraSource`. `make` makes the camera anew each time. Every fault is yielded as a `FieldFailure` in the
    place of the frame, so that it is counted and shown; a camera that stays lost raises CameraLostError.
    """

    def __init__(
        self,
        make: Callable[[], CameraSource],
        name: str,
        policy: Policy | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = name
        self._make, self._policy, self._sleep = make, policy if policy is not None else Policy(), sleep
        self._stack: ExitStack | None = None
        self._camera: CameraSource | None = None
        self._dropped = 0
        self._entered = False
        self.reopened = 0
        """How often the camera had to be opened again."""

    @property
    def dropped(self) -> int:
        """Frames that were dropped because nobody took them in time, over all openings."""
        return self._dropped + int(getattr(self._camera, "dropped", 0))

    @property
    def frozen(self) -> dict[str, Any]:
        """What the camera's automatics were frozen at."""
        return dict(getattr(self._camera, "frozen", {}))

    def __enter__(self) -> SupervisedCamera:
        """Open the camera. Raises what it raises: a camera that is not there at the start is an error, not a fault."""
        self._open()
        self._entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered = False
        self._close()

    def frames(self) -> Iterator[Frame | FieldFailure]:
        """Yield frames, and a failure for each fault.

        Raises CameraLostError when opening again does not help, CameraError ("camera-closed") outside the block.
        """
        if not self._entered:
            raise CameraError("camera-closed", f"{self.name} is not open.", "Ask for frames inside its `with` block.")
        return self._stream()

    def _stream(self) -> Iterator[Frame | FieldFailure]:
        attempt, good, number = 0, 0, 0
        while self._entered:
            bad, watcher = 0, Watcher()
            problem: CameraError | None = None
            try:
                camera = self._camera
                if camera is None:
                    self._open()
                    camera = self._camera
                for item in camera.frames() if camera is not None else ():
                    number += 1
                    fault = watcher.judge(item)
                    if fault is None:
                        bad, good = 0, good + 1
                        attempt = 0 if good >= self._policy.good_frames else attempt
                        yield item
                        continue
                    bad, good = bad + 1, 0
                    yield FieldFailure(item.source, fault.code, fault.message)
                    if bad >= self._policy.bad_frames:
                        problem = _lost(self.name, fault)
                        break
                else:
                    return
            except CameraError as error:
                good, problem = 0, error
                yield FieldFailure(f"{self.name}#{number}", error.code, error.message)
            self._close()
            attempt += 1
            if attempt > self._policy.attempts and problem is not None:
                raise CameraLostError(
                    problem.code,
                    f"{problem.message} Opening it again did not help, {self._policy.attempts} times.",
                    problem.cure,
                ) from problem
            self._sleep(self._policy.wait(attempt))
            self.reopened += 1

    def _open(self) -> None:
        with ExitStack() as stack:
            self._camera = stack.enter_context(self._make())
            self._stack = stack.pop_all()

    def _close(self) -> None:
        self._dropped = self.dropped
        stack, self._stack, self._camera = self._stack, None, None
        if stack is None:
            return
        try:
            stack.close()
        except (LeukoError, OSError):
            # It is opened again or given up anyhow: how a broken camera was left matters to nobody.
            return


def _lost(name: str, fault: Fault) -> CameraLostError:
    return CameraLostError(fault.code, f"{name}: {fault.message}", fault.cure)

"""What the device side must provide. `devices/` implements these; `edge.app` wires them in."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from edge.core.types import FieldFailure, Frame, Outputs, RuntimeInfo


@runtime_checkable
class CameraSource(Protocol):
    """A source of frames. Hardware is touched in `__enter__` and released in `__exit__`, never in `__init__`.

    `frames` yields until the source ends (a folder does, a camera does not). Every grab has a deadline: a frozen or
    vanished camera raises `CameraLostError`, it never blocks. A frame of a file source that cannot be read is yielded
    as the `FieldFailure` that says why, so that the frames after it are still seen.
    """

    def __enter__(self) -> CameraSource: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def frames(self) -> Iterator[Frame | FieldFailure]:
        """Yield each frame, or the failure that stands in its place."""
        ...


@runtime_checkable
class Runtime(Protocol):
    """An inference runtime with a network loaded. The interpreter is made in `__enter__` and released in `__exit__`."""

    @property
    def info(self) -> RuntimeInfo:
        """What runs the network."""

    def __enter__(self) -> Runtime: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def run(self, batch: npt.NDArray[np.float32]) -> Outputs:
        """Run float32[N, H, W, 3] in the value range that the bundle's preprocessing gives."""

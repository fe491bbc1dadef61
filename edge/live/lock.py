"""Says whether the process of a session lives: a lock that the kernel releases when it ends, however it ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

from edge.core.errors import StoreError, UsageError


class SessionLock:
    """Holds the lock of one session while it runs. Raises `UsageError` `session-running` when another process does."""

    def __init__(self, folder: Path, session: str) -> None:
        self._path = folder / f"{session}.lock"
        self._descriptor: int | None = None

    def __enter__(self) -> SessionLock:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise StoreError(
                "folder-not-writable",
                f"{self._path} cannot be made: {error.strerror}.",
                "Give the user that runs this the right to write there, or choose another data folder.",
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise UsageError(
                "session-running",
                f"Session {self._path.stem} is running in another process.",
                "Steer it there, or end that process first.",
            ) from None
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def is_running(folder: Path, session: str) -> bool:
    """Whether some process holds the lock of a session."""
    try:
        descriptor = os.open(folder / f"{session}.lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False

"""Notices a wall clock that was set while something ran."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from edge.core.types import ClockReading

_SET_SECONDS: Final = 2.0
"""A wall clock that moves against the monotonic one by more than this has been set."""


class ClockWatch:
    """Holds each reading against the one before."""

    def __init__(self) -> None:
        self._offset: float | None = None

    def jump(self, moment: ClockReading) -> float | None:
        """By how many seconds the wall clock was set since the last reading; None where it was not."""
        before, self._offset = self._offset, datetime.fromisoformat(moment.wall).timestamp() - moment.monotonic
        jump = 0.0 if before is None else self._offset - before
        return jump if abs(jump) > _SET_SECONDS else None

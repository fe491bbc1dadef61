"""Asks the device's sensors in a thread of its own: a maker's tool may take seconds, the loop takes none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from edge.live.parts import HealthSignal

SECONDS: Final = 2.0


class HealthWatch:
    """Calls `ask` every `seconds` until `stop`; `signal` gives the latest answer at once."""

    def __init__(self, ask: Callable[[], HealthSignal], seconds: float = SECONDS) -> None:
        self._ask = ask
        self._seconds = seconds
        self._latest = HealthSignal()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def signal(self) -> HealthSignal:
        """The latest answer; "run" before the first. The thread begins with the first question."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="leuko-health", daemon=True)
            self._thread.start()
        return self._latest

    def stop(self) -> None:
        """Ask no more."""
        self._stopping.set()

    def _run(self) -> None:
        bits: int | None = None
        while not self._stopping.is_set():
            latest = self._ask()
            # What was wrong once during a session stays on its result.
            if latest.throttle_bits is not None:
                bits = (bits or 0) | latest.throttle_bits
            self._latest = HealthSignal(latest.action, latest.reason, bits)
            self._stopping.wait(self._seconds)

"""Asks the device's sensors in a thread of its own: a maker's tool may take seconds, the loop takes none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from edge.live.parts import HealthSignal

SECONDS: Final = 2.0


IDLE_SECONDS: Final = 30.0
"""A session that no longer asks has ended: then the sensors are left alone."""


class HealthWatch:
    """Calls `ask` every `seconds` in a thread, for as long as `signal` is wanted; `signal` answers at once."""

    def __init__(
        self, ask: Callable[[], HealthSignal], seconds: float = SECONDS, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        self._ask = ask
        self._seconds = seconds
        self._idle_seconds = idle_seconds
        self._latest = HealthSignal()
        self._asked = 0.0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def signal(self) -> HealthSignal:
        """The latest answer; "run" before the first."""
        self._asked = time.monotonic()
        if self._thread is None:
            with self._lock:
                self._thread = threading.Thread(target=self._run, name="leuko-health", daemon=True)
                self._thread.start()
        return self._latest

    def _run(self) -> None:
        while True:
            with self._lock:
                if time.monotonic() - self._asked > self._idle_seconds:
                    self._thread = None
                    return
            found = self._ask()
            # What was wrong once during a session stays on its result.
            before = self._latest.throttle_bits
            bits = found.throttle_bits if before is None else before | (found.throttle_bits or 0)
            self._latest = HealthSignal(found.action, found.reason, bits)
            time.sleep(self._seconds)

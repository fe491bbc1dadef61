"""Looks after the device as long as it runs: temperature, supply, disk. What changes is told, systemd is kept told."""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge.core.device import Advice, SensorReading
from edge.health.thermal import ThermalGuard
from edge.health.watchdog import Watchdog

LEAST_SPACE: Final = 200_000_000
"""Bytes below which results may soon not be saved."""


@dataclass(frozen=True, slots=True)
class Finding:
    """How the device fares: the guard's advice, its sensors, the free bytes for results (None: unknown)."""

    advice: Advice
    reading: SensorReading
    free: int | None

    @property
    def trouble(self) -> tuple[str, ...]:
        """What is not in order, in words; empty when all is."""
        found = [] if self.advice.action == "run" else [f"{self.advice.action}: {self.advice.reason}"]
        found += [word for word in self.reading.now if word not in self.advice.reason]
        if self.free is None:
            found.append("the disk of the data folder does not answer")
        elif self.free < LEAST_SPACE:
            found.append(f"{self.free / 1e6:.0f} MB free for results")
        return tuple(found)

    def __str__(self) -> str:
        return "; ".join(self.trouble) or f"in order: {self.advice.reason}"


def keep(
    guard: ThermalGuard,
    folder: Path,
    watchdog: Watchdog,
    *,
    seconds: float = 10.0,
    rounds: int | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Finding]:
    """Yield the finding of each round that differs from the one before in what is wrong; the first always.

    Each round the service manager is told how things are and that this loop lives. `seconds` is the time between two
    rounds, `rounds` their number (None: no end).
    """
    before: tuple[str, ...] | None = None
    pause = min(seconds, watchdog.interval or seconds)
    for number in itertools.count() if rounds is None else range(rounds):
        found = Finding(guard.advice(), guard.reading, _free(folder))
        if number == 0:
            watchdog.ready(str(found))
        watchdog.beat()
        kinds = tuple(word.partition(":")[0] for word in found.trouble)
        if kinds != before:
            before = kinds
            watchdog.status(str(found))
            yield found
        if number + 1 != rounds:
            sleep(pause)
    watchdog.stopping()


def _free(folder: Path) -> int | None:
    try:
        existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
        return shutil.disk_usage(existing).free
    except OSError:
        return None

"""Tells systemd that this program lives: the datagrams of sd_notify(3), without a library.

A service manager that hears nothing for its watchdog's time ends the program and starts it anew. So the loop that does
the work sends the beat itself, never a thread beside it: a loop that hangs must fall silent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final

_BEATS_PER_TIMEOUT: Final = 3
"""Beats within the watchdog's time: two may be late before the program is taken for hung."""


class Watchdog:
    """The line to the service manager. Without one (a terminal, a test) every call does nothing.

    `environment` holds NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID as systemd sets them.
    """

    def __init__(
        self, environment: Mapping[str, str] | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        given = os.environ if environment is None else environment
        self._address = given.get("NOTIFY_SOCKET", "")
        self._clock = clock
        self._last: float | None = None
        self.seconds = _seconds(given)
        """Within how many seconds a beat must come; None when nobody waits for one."""

    @property
    def interval(self) -> float | None:
        """How often to beat, in seconds; None when nobody waits for it."""
        return None if self.seconds is None else self.seconds / _BEATS_PER_TIMEOUT

    def ready(self, status: str = "") -> bool:
        """Say that the program has started. Returns whether anybody was told."""
        return self._send("READY=1", *_status(status))

    def status(self, text: str) -> bool:
        """Show a line in `systemctl status`."""
        return self._send(*_status(text))

    def stopping(self) -> bool:
        """Say that the program ends of its own accord."""
        return self._send("STOPPING=1")

    def beat(self) -> bool:
        """Say that the loop is alive; may be called as often as it turns. Returns whether a beat was sent."""
        interval, now = self.interval, self._clock()
        if interval is None or (self._last is not None and now - self._last < interval):
            return False
        self._last = now
        return self._send("WATCHDOG=1")

    async def beating(self) -> None:
        """Beat from an event loop until cancelled: a loop that is blocked falls silent. Returns where nobody waits."""
        while (interval := self.interval) is not None:
            self.beat()
            await asyncio.sleep(interval / 2)

    def _send(self, *lines: str) -> bool:
        if not self._address or not lines:
            return False
        # A name that begins with @ is one of Linux's abstract sockets.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line,
        ):
            line.connect(address)
            line.sendall("\n".join(lines).encode())
            return True
        return False


def _status(text: str) -> tuple[str, ...]:
    return (f"STATUS={' '.join(text.split())}",) if text else ()


def _seconds(environment: Mapping[str, str]) -> float | None:
    """The watchdog's time, when it is meant for this process: a child inherits the variables."""
    try:
        if int(environment.get("WATCHDOG_PID") or os.getpid()) != os.getpid():
            return None
        microseconds = int(environment.get("WATCHDOG_USEC", "0"))
    except ValueError:
        return None
    return microseconds / 1e6 if microseconds > 0 else None

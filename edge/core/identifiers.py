"""Identifiers that sort by the time they were made: UUID version 7."""

from __future__ import annotations

import os
import secrets
import threading
import time
import uuid
from typing import Final

_COUNTER_BITS: Final = 42


class _Sequence:
    """The time and counter of the last identifier of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.milliseconds = -1
        self.counter = 0

    def advance(self, milliseconds: int) -> tuple[int, int]:
        """Give the next (time, counter): greater than any before, even when the clock stands still or steps back."""
        with self.lock:
            if milliseconds > self.milliseconds:
                self.milliseconds, self.counter = milliseconds, _fresh_counter()
            elif self.counter + 1 < 1 << _COUNTER_BITS:
                self.counter += 1
            else:
                self.milliseconds, self.counter = self.milliseconds + 1, _fresh_counter()
            return self.milliseconds, self.counter

    def restart(self) -> None:
        """Forget the parent's state after a fork, so that parent and child do not count on in step."""
        self.lock = threading.Lock()
        self.milliseconds = -1


def _fresh_counter() -> int:
    # The top bit stays clear to leave room to count up (RFC 9562, section 6.2).
    return secrets.randbits(_COUNTER_BITS - 1)


_sequence = _Sequence()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_sequence.restart)


def uuid7() -> str:
    """Make a new UUID version 7 (RFC 9562), in lower case with hyphens; strictly increasing within one process.

    48 bits of Unix time in milliseconds, then a 42-bit counter that starts at random each millisecond (RFC 9562,
    section 6.2, method 1), then 32 random bits.
    """
    milliseconds, counter = _sequence.advance(max(0, time.time_ns() // 1_000_000))
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80
    value |= 0x7 << 76
    value |= (counter >> 30) << 64
    value |= 0b10 << 62
    value |= (counter & 0x3FFF_FFFF) << 32
    value |= secrets.randbits(32)
    return str(uuid.UUID(int=value))

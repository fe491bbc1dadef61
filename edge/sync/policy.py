"""When to try again, how fast to send, and what may go over a metered network: pure, without a clock of its own."""

from __future__ import annotations

import email.utils
from dataclasses import dataclass
from datetime import timezone
from typing import Final

RETRY_AFTER_LIMIT: Final = 24 * 3600.0
"""A destination that asks for more than a day is asked again after a day."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off with full jitter and a cap, in seconds.

    After M. Brooker, "Exponential Backoff And Jitter" (2015): devices that failed together do not come back together.
    """

    first: float = 2.0
    cap: float = 900.0

    def delay(self, failures: int, chance: float, retry_after: float | None = None) -> float:
        """Seconds to wait after `failures` failures in a row (from 1). `chance` is uniform in 0..1.

        Between half of the exponential and the whole of it, never more than `cap`; but never less than `retry_after`,
        to which up to a tenth is added.
        """
        if failures < 1:
            return 0.0
        # 2 ** 40 seconds are past any cap; the exponent is bounded so that it cannot overflow.
        whole = min(self.cap, self.first * 2.0 ** min(failures - 1, 40))
        waited = whole * (0.5 + 0.5 * min(max(chance, 0.0), 1.0))
        if retry_after is None:
            return waited
        asked = min(max(retry_after, 0.0), RETRY_AFTER_LIMIT)
        return max(waited, asked * (1.0 + 0.1 * min(max(chance, 0.0), 1.0)))


def retry_after(value: str | None, now: float) -> float | None:
    """Read the header `Retry-After`: seconds, or a date of which `now` (seconds since 1970) is taken off.

    None for no header and for one that says nothing sensible (RFC 9110, section 10.2.3).
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text) if len(text) < 10 else RETRY_AFTER_LIMIT
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return max(0.0, moment.timestamp() - now)


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """A limit in bytes a second; 0 for none. A burst of `burst` bytes is free."""

    rate: float = 0.0
    burst: int = 16 * 1024

    def pause(self, sent: int, elapsed: float) -> float:
        """Seconds to wait now, `sent` bytes having gone in `elapsed` seconds, so that the limit holds."""
        if self.rate <= 0:
            return 0.0
        return max(0.0, (sent - self.burst) / self.rate - elapsed)


def deadline(size: int, rate: float, *, slowest: float = 500.0, least: float = 60.0) -> float:
    """Seconds that a request with `size` bytes may take in all: at `slowest` bytes a second, or at the limit `rate`.

    A partner that trickles is given up after that, however alive it looks.
    """
    # A limit below a byte in 50 seconds is no limit that anything could be sent by; it must not overflow a timer.
    speed = max(0.01, min(slowest, rate / 2)) if rate > 0 else slowest
    return least + size / speed

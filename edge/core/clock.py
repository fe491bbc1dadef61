"""What time it is, and how far that can be believed.

A device in the field may have no network and no battery-backed clock. Every moment is therefore kept with the time
since boot and the boot's identity, so that a wrong wall clock can be corrected later, and with a tier that says what
the wall clock was worth:

    network   the kernel or systemd-timesyncd says that the clock follows a time server or a satellite receiver
    rtc       a hardware clock agrees with the wall clock
    unknown   neither, or the wall clock is earlier than this software
"""

from __future__ import annotations

import ctypes
import time
import uuid
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from edge.core.types import ClockReading, ClockTier

EARLIEST_PLAUSIBLE: Final = datetime(2026, 1, 1, tzinfo=timezone.utc)
"""No clock that reads earlier can be right: this software did not exist yet. Moved forward with releases."""

RTC_AGREEMENT_SECONDS: Final = 60.0
"""How far a hardware clock may be from the wall clock and still vouch for it.

A Raspberry Pi 5 without its battery has a hardware clock that starts in 1970, a board without any starts from the time
of its last shutdown: in both, the wall clock looks plausible and is wrong.
"""

_PROCESS_BOOT_ID: Final = str(uuid.uuid4())
_STA_UNSYNC: Final = 0x0040
_TIME_ERROR: Final = 5


class _Timex(ctypes.Structure):
    """The head of the kernel's `struct timex`, and room for the rest (adjtimex(2))."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_long * 64),
    )


def kernel_synchronised() -> bool:
    """Whether the kernel's clock is being disciplined (ntpd, chrony, PPS); False where that cannot be asked."""
    try:
        adjtimex = ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError, TypeError):
        return False
    timex = _Timex()
    state = int(adjtimex(ctypes.byref(timex)))
    return state >= 0 and state != _TIME_ERROR and not timex.status & _STA_UNSYNC


def read(
    *,
    root: Path = Path("/"),
    now: Callable[[], float] = time.time,
    synchronised: Callable[[], bool] = kernel_synchronised,
) -> ClockReading:
    """Read the present moment. Never raises: what cannot be found out lowers the tier.

    `wall` is UTC with milliseconds; `monotonic` are seconds since boot, including time asleep. `root` holds the /proc,
    /run and /sys to look in, `now` gives seconds since 1970, `synchronised` what the kernel says.
    """
    seconds = now()
    return ClockReading(
        wall=datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds"),
        monotonic=_since_boot(),
        boot_id=_boot_id(root),
        tier=_tier(root, seconds, synchronised),
    )


def _tier(root: Path, seconds: float, synchronised: Callable[[], bool]) -> ClockTier:
    if seconds < EARLIEST_PLAUSIBLE.timestamp():
        return "unknown"
    if synchronised() or (root / "run/systemd/timesync/synchronized").exists():
        return "network"
    return "rtc" if _hardware_clock_agrees(root, seconds) else "unknown"


def _hardware_clock_agrees(root: Path, seconds: float) -> bool:
    for clock in sorted((root / "sys/class/rtc").glob("rtc*")):
        try:
            hardware = int((clock / "since_epoch").read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
        if abs(hardware - seconds) <= RTC_AGREEMENT_SECONDS:
            return True
    return False


def _boot_id(root: Path) -> str:
    """Give the kernel's boot identity, else one of this process: within it the monotonic clock certainly counts up."""
    try:
        return (root / "proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip() or _PROCESS_BOOT_ID
    except (OSError, ValueError):
        return _PROCESS_BOOT_ID


def _since_boot() -> float:
    try:
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    except (AttributeError, OSError):
        return time.monotonic()

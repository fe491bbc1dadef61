"""What a moment's true date is: by its own clock, or by the first trusted clock that was met in the same boot."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Literal

from edge.core.types import ClockReading
from edge.store.deliveries import Anchor


@dataclass(frozen=True, slots=True)
class Dated:
    """A date with what it rests on. `wall` is UTC in ISO 8601, None when nobody knows."""

    wall: str | None
    by: Literal["clock", "anchor", "nothing"]


def dated(reading: ClockReading, anchor: Anchor | None) -> Dated:
    """Date a moment. The reading itself is never changed; what is found stands beside it.

    A clock that followed a time server is right. Else the anchor of the same boot gives true time = `trusted` +
    (reading - anchor) on the clock that counts since boot; without one a battery-backed clock is believed.
    """
    if reading.tier == "network":
        return Dated(reading.wall, "clock")
    if anchor is not None and anchor.device.boot_id == reading.boot_id:
        moved = parse(anchor.trusted) + timedelta(seconds=reading.monotonic - anchor.device.monotonic)
        return Dated(moved.isoformat(timespec="milliseconds"), "anchor")
    return Dated(reading.wall, "clock") if reading.tier == "rtc" else Dated(None, "nothing")


def anchor_from_hub(before: ClockReading, after: ClockReading, server_time: str) -> Anchor | None:
    """Make an anchor from a hub's time, asked between two readings; None when the answer took long or says nothing.

    The hub's time is taken to be that of the middle: wrong by at most half of the time between.
    """
    took = after.monotonic - before.monotonic
    if before.boot_id != after.boot_id or not 0 <= took <= 10:
        return None
    try:
        trusted = parse(server_time) + timedelta(seconds=took / 2)
    except (ValueError, OverflowError):
        return None
    return Anchor(after, trusted.isoformat(timespec="milliseconds"), "hub")


def parse(text: str) -> datetime:
    """Read a moment in ISO 8601; without a zone it is UTC. Raises `ValueError`."""
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).astimezone(timezone.utc)

"""Moments as the hub writes them: UTC in ISO 8601 with milliseconds, so that text order is time order."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone


def now() -> str:
    """Give the present moment."""
    return text(datetime.now(timezone.utc))


def ago(**span: float) -> str:
    """Give the moment that lies this `timedelta` back."""
    return text(datetime.now(timezone.utc) - timedelta(**span))


def ahead(**span: float) -> str:
    """Give the moment that lies this `timedelta` ahead."""
    return text(datetime.now(timezone.utc) + timedelta(**span))


def text(moment: datetime) -> str:
    """Write an aware moment."""
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds")


def parse(written: str) -> datetime | None:
    """Read a moment in ISO 8601; None when it is not one. A moment without a zone is taken as UTC."""
    try:
        moment = datetime.fromisoformat(written.replace("Z", "+00:00"))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)

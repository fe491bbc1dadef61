"""What a device tells a hub about itself: how it is, what waits, and sums over the last week by which drift shows."""

from __future__ import annotations

import platform
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

from edge import __version__
from edge.core import clock
from edge.core.labels import LABELS
from edge.health import machine
from edge.store import retention
from edge.store.incoming import Exchange
from edge.sync import content, dating, messages

if TYPE_CHECKING:
    from edge.sync.destinations.base import Site

_RECENT_DAYS = 7
_ROOM_NEEDED = 0.05


def report(site: Site, exchange: Exchange, destination: str, sequence: int) -> messages.HealthReport:
    """Make the report for one destination. Raises `StoreError`."""
    now = clock.read()
    counts = exchange.counts(destination)
    disk = retention.space(site.database)
    since = (dating.parse(now.wall) - timedelta(days=_RECENT_DAYS)).isoformat()
    return messages.HealthReport(
        sequence=sequence,
        reported=content.moment(now),
        software=__version__,
        python=platform.python_version(),
        machine=machine.describe().model[:200],
        bundle=site.bundle(),
        backlog=messages.Backlog(
            results=counts.get("pending", 0),
            pictures=counts.get("accepted", 0),
            conflicts=counts.get("conflict", 0) + counts.get("refused", 0) + len(exchange.incoming(destination)),
            oldest=exchange.oldest_waiting(destination),
        ),
        recent=recent(exchange, since),
        disk_free_bytes=disk.free,
        disk_total_bytes=disk.total,
        temperature_celsius=machine.temperature(),
        checks=_checks(site, disk, now.tier),
        release=None if site.follower is None else site.follower.outcome(),
    )


def recent(exchange: Exchange, since: str) -> messages.Recent:
    """Sum up the first versions of results saved since a moment: what the model said, not what a person made of it."""
    classes: Counter[str] = Counter(dict.fromkeys(LABELS, 0))
    results = fields = refused = other = 0
    for document in exchange.documents_since(since):
        differential = document.get("differential", {})
        results += 1
        fields += len(document.get("fields", []))
        refused += sum(not each.get("quality", {}).get("accepted", True) for each in document.get("fields", []))
        other += int(differential.get("other", 0))
        for label, share in differential.get("classes", {}).items():
            classes[label] += int(share.get("count", 0))
    return messages.Recent(
        results=results,
        fields=fields,
        fields_refused=refused,
        cells=sum(classes.values()) + other,
        other=other,
        classes=dict(classes),
    )


def _checks(site: Site, disk: retention.Space, tier: str) -> tuple[messages.Check, ...]:
    share = disk.free / disk.total if disk.total else 0.0
    full = disk.usable < site.refuse_below
    return (
        messages.Check("clock", "ok" if tier == "network" else "warn", f"trust: {tier}"),
        messages.Check(
            "disk",
            "fail" if full else "ok" if share > _ROOM_NEEDED else "warn",
            f"{disk.free // 1_000_000} MB free" + (", no new samples" if full else ""),
        ),
    )

"""The fleet: how each device is, what waits on it, and whether what it counts has drifted."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from edge.core.labels import LABELS, OTHER
from edge.hub import releases, tables, times
from edge.hub.core import Device, Hub, Person
from edge.sync import messages
from edge.sync.messages import HealthReport

DRIFT_CELLS: Final = 100
"""Cells on either side below which nothing is said about drift."""

DRIFT_RESULTS: Final = 500
"""So many earlier results are what recent ones are compared with."""

DRIFTED: Final = 0.25
"""Index from which a change is called drift: a convention of credit scoring, a proposal here."""

SILENT_HOURS: Final = 48.0
"""Hours without a word after which a device is shown as silent. Being offline is normal: it is no alarm."""

REPORTS_KEPT: Final = 30

_devices = tables.devices
_health = tables.health_reports


@dataclass(frozen=True, slots=True)
class FleetCheck:
    """A check of the device's doctor that did not pass."""

    id: str
    verdict: str
    evidence: str


@dataclass(frozen=True, slots=True)
class FleetDevice:
    """One device as the fleet page shows it. Figures are None until the device has reported."""

    id: str
    name: str
    site: str
    cohort: str
    device_class: str
    software: str
    bundle: str | None
    enrolled: str
    revoked: str | None
    last_seen: str | None
    silent: bool
    health: str
    checks: tuple[FleetCheck, ...]
    drift: float | None
    drifted: bool
    backlog_results: int | None
    backlog_pictures: int | None
    conflicts: int | None
    oldest_waiting: str | None
    results_recent: int | None
    fields_refused_recent: int | None
    disk_free_bytes: int | None
    temperature_celsius: float | None
    release: str | None
    changes_waiting: int


def devices(hub: Hub, person: Person) -> tuple[FleetDevice, ...]:
    """List the devices that a person may see, by name."""
    newest = (
        sa.select(_health.c.device_id, sa.func.max(_health.c.sequence).label("sequence"))
        .group_by(_health.c.device_id)
        .subquery()
    )
    query = (
        sa.select(_devices, _health.c.body, _health.c.drift)
        .outerjoin(newest, newest.c.device_id == _devices.c.id)
        .outerjoin(_health, sa.and_(_health.c.device_id == _devices.c.id, _health.c.sequence == newest.c.sequence))
        .order_by(_devices.c.name)
    )
    if person.site:
        query = query.where(_devices.c.site == person.site)
    with hub.database.read() as connection:
        return tuple(_device(row) for row in connection.execute(query))


def keep_health(hub: Hub, device: Device, report: HealthReport) -> None:
    """Keep a report, and look whether it must halt a roll-out."""
    with hub.database.write() as connection:
        drift = _drift(connection, device.id, report)
        before = connection.scalar(
            sa.select(_health.c.body)
            .where(_health.c.device_id == device.id, _health.c.sequence < min(report.sequence, 2**63 - 1))
            .order_by(_health.c.sequence.desc())
            .limit(1)
        )
        new = hub.database.insert_missing(
            connection,
            _health,
            {
                "device_id": device.id,
                "sequence": min(report.sequence, 2**63 - 1),
                "received": times.now(),
                "drift": drift,
                "body": messages.encode(report),
            },
        )
        if not new:
            return
        kept = (
            sa.select(_health.c.sequence)
            .where(_health.c.device_id == device.id)
            .order_by(_health.c.sequence.desc())
            .limit(REPORTS_KEPT)
        )
        oldest = min(connection.scalars(kept))
        connection.execute(_health.delete().where(_health.c.device_id == device.id, _health.c.sequence < oldest))
        known = None if before is None else msgspec.json.decode(before, type=HealthReport)
        releases.halt_where_needed(connection, device, report, known)


def stability_index(recent: Mapping[str, int], earlier: Mapping[str, int]) -> float | None:
    """Population stability index of two counts over the five classes and `other`; None with too few cells in either.

    Sum over classes of (p - q) ln(p / q), half a cell added to each class; 0 for equal shares (Yurdakul, 2018).
    """
    names = (*LABELS, OTHER)
    if min(sum(recent.get(name, 0) for name in names), sum(earlier.get(name, 0) for name in names)) < DRIFT_CELLS:
        return None

    def shares(counts: Mapping[str, int]) -> list[float]:
        filled = [counts.get(name, 0) + 0.5 for name in names]
        return [value / sum(filled) for value in filled]

    return sum((p - q) * math.log(p / q) for p, q in zip(shares(recent), shares(earlier), strict=True))


def _drift(connection: Connection, device: str, report: HealthReport) -> float | None:
    results = tables.results.c
    earlier: Counter[str] = Counter()
    rows = connection.execute(
        sa.select(results.classes, results.other)
        .where(results.device_id == device, results.received < times.ago(days=7))
        .order_by(results.received.desc())
        .limit(DRIFT_RESULTS)
    )
    for row in rows:
        earlier.update(json.loads(row.classes))
        earlier[OTHER] += row.other or 0
    return stability_index({**report.recent.classes, OTHER: report.recent.other}, earlier)


def _release(report: HealthReport | None) -> str | None:
    """What came of the newest roll-out there, in words."""
    told = None if report is None else report.release
    if told is None:
        return None
    return f"{told.bundle}: {told.state}" + (f" ({told.message})" if told.message else "")


def _device(row: sa.Row[tuple[object, ...]]) -> FleetDevice:
    report: HealthReport | None = None
    if row.body is not None:
        report = msgspec.json.decode(row.body, type=HealthReport)
    failing = () if report is None else tuple(check for check in report.checks if check.verdict != "ok")
    worst = "unknown" if report is None else "ok"
    for verdict in ("warn", "fail"):
        worst = verdict if any(check.verdict == verdict for check in failing) else worst
    return FleetDevice(
        id=row.id,
        name=row.name,
        site=row.site,
        cohort=row.cohort,
        device_class=row.device_class,
        software=row.software if report is None else report.software,
        bundle=None if report is None else report.bundle,
        enrolled=row.enrolled,
        revoked=row.revoked,
        last_seen=row.seen,
        silent=row.seen is None or row.seen < times.ago(hours=SILENT_HOURS),
        health=worst,
        checks=tuple(FleetCheck(check.id, check.verdict, check.evidence) for check in failing),
        drift=None if row.drift is None else round(row.drift, 3),
        drifted=row.drift is not None and row.drift >= DRIFTED,
        backlog_results=None if report is None else report.backlog.results,
        backlog_pictures=None if report is None else report.backlog.pictures,
        conflicts=None if report is None else report.backlog.conflicts,
        oldest_waiting=None if report is None else report.backlog.oldest,
        results_recent=None if report is None else report.recent.results,
        fields_refused_recent=None if report is None else report.recent.fields_refused,
        disk_free_bytes=None if report is None else report.disk_free_bytes,
        temperature_celsius=None if report is None else report.temperature_celsius,
        release=_release(report),
        changes_waiting=row.changes - row.acknowledged,
    )

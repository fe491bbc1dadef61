"""Figures for Prometheus. With several workers, those of all of them (PROMETHEUS_MULTIPROC_DIR)."""

from __future__ import annotations

import os

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

from edge.hub import tables, times
from edge.hub.core import Hub
from edge.hub.fleet import SILENT_HOURS

REQUESTS = Counter("leuko_hub_requests_total", "Answers given", ("method", "route", "status"))
SECONDS = Histogram(
    "leuko_hub_request_seconds",
    "Time until an answer was ready",
    ("route",),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60),
)


def text(hub: Hub) -> bytes:
    """Give all figures in Prometheus' text format."""
    found = b""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        shared = CollectorRegistry()
        multiprocess.MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
        found = generate_latest(shared)
    else:
        from prometheus_client import REGISTRY

        found = generate_latest(REGISTRY)
    return found + generate_latest(_state(hub))


def _state(hub: Hub) -> CollectorRegistry:
    """Ask the database what is true for all workers."""
    registry = CollectorRegistry()
    devices = Gauge("leuko_hub_devices", "Devices", ("state",), registry=registry)
    waiting = Gauge("leuko_hub_changes_waiting", "Versions that devices have not fetched", registry=registry)
    conflicts = Gauge("leuko_hub_conflicts", "Versions refused for other contents", registry=registry)
    second = Gauge("leuko_hub_second_readings_waiting", "Cases that wait for a second reader", registry=registry)
    halted = Gauge("leuko_hub_rollouts_halted", "Roll-outs that were halted", registry=registry)
    rows = tables.devices.c
    silent = sa.or_(rows.seen.is_(None), rows.seen < times.ago(hours=SILENT_HOURS))
    with hub.database.read() as connection:

        def count(*conditions: sa.ColumnElement[bool], of: sa.Table = tables.devices) -> int:
            query = sa.select(sa.func.count()).select_from(of).where(*conditions)
            return int(connection.scalar(query) or 0)

        devices.labels("silent").set(count(rows.revoked.is_(None), silent))
        devices.labels("talking").set(count(rows.revoked.is_(None), sa.not_(silent)))
        devices.labels("revoked").set(count(rows.revoked.is_not(None)))
        waiting.set(int(connection.scalar(sa.select(sa.func.sum(rows.changes - rows.acknowledged))) or 0))
        conflicts.set(count(of=tables.conflicts))
        second.set(count(tables.results.c.second_reading.is_(True), of=tables.results))
        halted.set(count(tables.rollouts.c.halted.is_not(None), of=tables.rollouts))
    return registry

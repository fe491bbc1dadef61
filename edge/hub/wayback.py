"""What goes back to a device: its state, and the versions that were made here."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from edge.hub import tables, times
from edge.hub.audit import clean
from edge.hub.core import Device, Hub
from edge.hub.problems import RefusedError
from edge.sync.messages import Change, Changes, ClockAnchor, DeviceState

_changes = tables.changes
_devices = tables.devices


def state(hub: Hub, device: Device) -> DeviceState:
    """Tell a device what the hub knows about it."""
    return DeviceState(device.id, device.name, hub.epoch, times.now(), tuple(sorted(device.scopes)), device.cohort)


def add(connection: Connection, device_id: str, identifier: str, version: int) -> None:
    """Queue a version for its device, under the lock of the device's row: numbers appear in their order."""
    connection.execute(_devices.update().where(_devices.c.id == device_id).values(changes=_devices.c.changes + 1))
    number = connection.scalar(sa.select(_devices.c.changes).where(_devices.c.id == device_id))
    connection.execute(_changes.insert().values(device_id=device_id, sequence=number, id=identifier, version=version))


def changes(hub: Hub, device: Device, after: str, limit: int) -> Changes:
    """Give the versions after a cursor, which acknowledges all up to it. Raises RefusedError `cursor-invalid`."""
    start = _number(after)
    with hub.database.read() as connection:
        versions = tables.versions
        rows = connection.execute(
            sa.select(_changes.c.sequence, versions.c.content_sha256, versions.c.body)
            .join(versions, sa.and_(versions.c.id == _changes.c.id, versions.c.version == _changes.c.version))
            .where(_changes.c.device_id == device.id, _changes.c.sequence > start)
            .order_by(_changes.c.sequence)
            .limit(limit + 1)
        ).all()
        known = connection.execute(
            sa.select(_devices.c.acknowledged, _devices.c.changes).where(_devices.c.id == device.id)
        ).one()
    if known.acknowledged < start <= known.changes:
        with hub.database.write() as connection:
            connection.execute(
                _devices.update()
                .where(_devices.c.id == device.id, _devices.c.acknowledged < start)
                .values(acknowledged=start)
            )
    given = tuple(Change(str(row.sequence), row.content_sha256, msgspec.Raw(row.body)) for row in rows[:limit])
    return Changes(given, given[-1].cursor if given else after, len(rows) > limit)


def keep_anchor(hub: Hub, device: Device, boot_id: str, anchor: ClockAnchor) -> bool:
    """Keep the anchor of a boot; False when one was there. Raises RefusedError when the path names another boot."""
    if anchor.device.boot_id != boot_id:
        raise RefusedError(422, "not-an-anchor", "The path names another boot than the body.")
    if times.parse(anchor.trusted) is None:
        raise RefusedError(422, "not-an-anchor", "The trusted time is not in ISO 8601.")
    with hub.database.write() as connection:
        values = {
            "device_id": device.id,
            "boot_id": clean(boot_id),
            "monotonic": float(anchor.device.monotonic),
            "wall": clean(anchor.device.wall),
            "tier": anchor.device.tier,
            "trusted": clean(anchor.trusted),
            "source": anchor.source,
        }
        return hub.database.insert_missing(connection, tables.clock_anchors, values) > 0


def _number(cursor: str) -> int:
    if not cursor:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 18):
        raise RefusedError(400, "cursor-invalid", "The cursor is not one of this hub.", "Begin without a cursor.")
    return int(cursor)

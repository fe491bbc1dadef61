"""What came from a hub: versions that contradict this device's, and the true time of a boot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from edge.core import clock
from edge.core.types import ClockReading
from edge.store.database import translated
from edge.store.deliveries import Anchor, Deliveries, Delivery, Incoming


class Exchange(Deliveries):
    """`Deliveries`, and what is kept of the way back."""

    def unseen(self, destination: str) -> bool:
        """Whether versions were saved that `enlist` has not given to the destination yet."""
        with translated(self._path):
            row = (
                self._connection()
                .execute(
                    """SELECT COALESCE(MAX(sequence), 0) >
                       COALESCE((SELECT seen FROM destinations WHERE destination = ?), 0) FROM audit""",
                    (destination,),
                )
                .fetchone()
            )
        return bool(row[0])

    def is_overtaken(self, delivery: Delivery) -> bool:
        """Whether a later version of the same result is at the destination already."""
        with translated(self._path):
            row = (
                self._connection()
                .execute(
                    """SELECT 1 FROM deliveries WHERE destination = ? AND id = ? AND version > ?
                       AND state = 'delivered'""",
                    (delivery.destination, delivery.id, delivery.version),
                )
                .fetchone()
            )
        return row is not None

    def reopen(self, delivery: Delivery, newest: int) -> int:
        """Make the versions between `newest` and this one pending again; returns how many."""
        with self._writing() as connection:
            return int(
                connection.execute(
                    """UPDATE deliveries SET state = 'pending' WHERE destination = ? AND id = ?
                       AND version > ? AND version < ? AND state IN ('accepted', 'delivered', 'settled')""",
                    (delivery.destination, delivery.id, newest, delivery.version),
                ).rowcount
            )

    def documents_since(self, wall: str) -> Iterator[dict[str, Any]]:
        """Read the documents of first versions saved since a moment (UTC in ISO 8601, by the device's clock)."""
        with translated(self._path):
            for row in self._connection().execute(
                """SELECT document FROM results JOIN audit USING (id, version)
                   WHERE version = 1 AND audit.wall >= ? ORDER BY sequence""",
                (wall,),
            ):
                yield json.loads(row[0])

    def keep_incoming(self, destination: str, identifier: str, version: int, content_sha256: str, body: bytes) -> None:
        """Keep a version that cannot be saved as that number, until a person decides. Keeping it again does nothing."""
        with self._writing() as connection:
            connection.execute(
                """INSERT OR IGNORE INTO incoming (destination, id, version, content_sha256, body, received)
                   VALUES (?, ?, ?, ?, ?, ?)""",
                (destination, identifier, version, content_sha256, body, clock.read().wall),
            )

    def incoming(self, destination: str | None = None, identifier: str | None = None) -> tuple[Incoming, ...]:
        """List the versions that wait for a person's decision, oldest first."""
        with translated(self._path):
            return tuple(
                Incoming(*row)
                for row in self._connection().execute(
                    """SELECT destination, id, version, content_sha256, body, received FROM incoming
                       WHERE settled = 0 AND COALESCE(?, destination) = destination AND COALESCE(?, id) = id
                       ORDER BY id, version""",
                    (destination, identifier),
                )
            )

    def settle_incoming(self, destination: str, identifier: str) -> None:
        """Take the versions of a result off the list."""
        with self._writing() as connection:
            connection.execute(
                "UPDATE incoming SET settled = 1 WHERE destination = ? AND id = ?", (destination, identifier)
            )

    def anchor(self, boot_id: str) -> Anchor | None:
        """Read the anchor of a boot; None when no trusted clock was met in it."""
        with translated(self._path):
            row = (
                self._connection()
                .execute(
                    "SELECT wall, monotonic, boot_id, tier, trusted, source FROM clock_anchors WHERE boot_id = ?",
                    (boot_id,),
                )
                .fetchone()
            )
        return None if row is None else _anchor(row)

    def keep_anchor(self, anchor: Anchor) -> bool:
        """Keep the anchor of a boot; False, having changed nothing, when the boot has one."""
        device = anchor.device
        with self._writing() as connection:
            return bool(
                connection.execute(
                    "INSERT OR IGNORE INTO clock_anchors VALUES (?, ?, ?, ?, ?, ?)",
                    (device.boot_id, device.wall, device.monotonic, device.tier, anchor.trusted, anchor.source),
                ).rowcount
            )

    def unsent_anchors(self, destination: str) -> tuple[Anchor, ...]:
        """List the anchors that the destination does not have."""
        with translated(self._path):
            return tuple(
                _anchor(row)
                for row in self._connection().execute(
                    """SELECT wall, monotonic, boot_id, tier, trusted, source FROM clock_anchors
                       WHERE boot_id NOT IN (SELECT boot_id FROM anchors_sent WHERE destination = ?)""",
                    (destination,),
                )
            )

    def mark_anchor_sent(self, destination: str, boot_id: str) -> None:
        """Note that the destination has the anchor of a boot."""
        with self._writing() as connection:
            connection.execute("INSERT OR IGNORE INTO anchors_sent VALUES (?, ?)", (destination, boot_id))

    def forget_anchors_sent(self, destination: str) -> None:
        """Send all anchors again: the destination was restored from a backup."""
        with self._writing() as connection:
            connection.execute("DELETE FROM anchors_sent WHERE destination = ?", (destination,))


def _anchor(row: tuple[object, ...]) -> Anchor:
    wall, monotonic, boot_id, tier, trusted, source = row
    return Anchor(ClockReading(wall, monotonic, boot_id, tier), str(trusted), str(source))  # type: ignore[arg-type]

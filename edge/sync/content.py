"""A stored version as the message that a hub gets, and a hub's message as a version to store."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from edge.core.types import ClockReading, ResultRecord
from edge.store.deliveries import Parcel, PictureRow
from edge.sync import messages, privacy

Load = Callable[[str], bytes | None]
"""Reads the bytes of a picture by its hash; None when they were let go."""


def moment(reading: ClockReading) -> messages.Moment:
    """Write a clock reading as a message."""
    return messages.Moment(reading.wall, reading.monotonic, reading.boot_id, reading.tier)


def version(parcel: Parcel, load: Load) -> messages.ResultVersion:
    """Make the message of a version."""
    record, entry = parcel.record, parcel.entry
    document: dict[str, Any] = dict(record.document)
    return messages.ResultVersion(
        id=record.id,
        version=record.version,
        sample=record.sample,
        patient=document.get("patient") if isinstance(document.get("patient"), str) else None,
        operator=record.operator,
        device=record.device,
        created=moment(record.created),
        status=record.status,
        bundle=record.bundle,
        bundle_sha256=record.bundle_sha256,
        runtime=record.runtime,
        calibration=record.calibration,
        throttle_bits=record.throttle_bits,
        training_consent=document.get("training_consent") is True,
        document=privacy.outgoing(document),
        pictures=tuple(reference(row, load) for row in parcel.pictures),
        audit=messages.AuditLink(
            event=entry.event,
            operator=entry.operator,
            reason=entry.reason,
            recorded=moment(entry.recorded),
            sequence=entry.sequence,
            previous=entry.previous,
            link=entry.link,
        ),
    )


def reference(row: PictureRow, load: Load) -> messages.PictureReference:
    """Name a picture by the hash of what is sent: the stored one, without metadata should it hold any."""
    jpeg = load(row.sha256)
    cleaned = None if jpeg is None else privacy.without_metadata(jpeg)
    if cleaned is None or cleaned == jpeg:
        return messages.PictureReference(row.kind, row.field, row.cell, row.sha256, row.bytes)
    return messages.PictureReference(row.kind, row.field, row.cell, messages.sha256(cleaned), len(cleaned))


def record(received: messages.ResultVersion, local: ResultRecord) -> ResultRecord:
    """Make the version to store of one that was made at a hub, of which `local` is the version before it.

    Only what a person decides there is taken: status, operator and document. What the device knows better, it keeps.
    """
    return dataclasses.replace(
        local,
        version=received.version,
        operator=received.operator,
        status=received.status,
        document=privacy.restored(received.document, local.document),
        pictures=(),
    )

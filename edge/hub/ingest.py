"""Results as they arrive: each version once, whole, and never replaced."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from edge.hub import tables, times
from edge.hub.audit import clean
from edge.hub.core import Device, Hub
from edge.hub.problems import RefusedError
from edge.sync import messages
from edge.sync.messages import Acknowledgement, MissingPicture, ResultVersion

_results = tables.results
_versions = tables.versions
_MAX_INTEGER = 2**31 - 1

# Made once: building a statement costs as much as running it.
_HELD = sa.select(_results.c.device_id, _results.c.newest).where(_results.c.id == sa.bindparam("id")).with_for_update()
_NEW_RESULT = _results.insert()
_NEW_VERSION = _versions.insert()
_NEW_PICTURES = tables.version_pictures.insert()


def receive(  # noqa: PLR0917  # in the order of the request
    hub: Hub, device: Device, identifier: str, version: int, stated_hash: str | None, body: bytes
) -> tuple[Acknowledgement, bool]:
    """Store one version in one transaction; returns the acknowledgement and whether it is new.

    Raises RefusedError as docs/sync-protocol.md says. Returns only after the transaction is committed.
    """
    content = messages.sha256(body)
    if stated_hash != content:
        raise RefusedError(422, "other-hash", "The body has not the hash that its header states.", "Send it again.")
    sent = _read(body)
    if (sent.id, sent.version) != (identifier, version):
        raise RefusedError(422, "not-a-result", "The path names another result than the body.")

    def work(connection: Connection) -> tuple[Acknowledgement, bool] | RefusedError:
        held = connection.execute(_HELD, {"id": identifier}).first()
        if held is not None and held.device_id != device.id:
            return RefusedError(409, "not-yours", "The result belongs to another device.")
        newest = 0 if held is None else held.newest
        if version > newest + 1:
            return RefusedError(412, "version-gap", f"Version {newest} is the newest here.", newest=newest)
        if version <= newest:
            there = connection.execute(
                sa.select(_versions.c.content_sha256, _versions.c.received).where(
                    _versions.c.id == identifier, _versions.c.version == version
                )
            ).one()
            if there.content_sha256 == content:
                return _acknowledge(hub, connection, device.id, sent, content, there.received), False
            _keep_conflict(hub, connection, device, sent, content, body)
            return RefusedError(
                409,
                "other-content",
                "That version holds other contents here.",
                "Let a person compare the two: leuko sync conflicts.",
                content_sha256=there.content_sha256,
            )
        received = times.now()
        store(connection, sent, body, content, device_id=device.id, site=device.site, origin="device", at=received)
        return _acknowledge(hub, connection, device.id, sent, content, received), True

    done = hub.database.repeat(work)
    if isinstance(done, RefusedError):  # only now: a conflict is kept, and raising would have undone that
        raise done
    return done


def store(
    connection: Connection,
    sent: ResultVersion,
    body: bytes,
    content: str,
    *,
    device_id: str,
    site: str,
    origin: str,
    at: str,
) -> None:
    """Insert a version, and make it the newest of its result."""
    facts = {**_facts(sent), "newest": sent.version, "changed": at}
    if sent.version == 1:
        first = {"id": sent.id, "device_id": device_id, "site": site, "received": at}
        connection.execute(_NEW_RESULT, {**first, **facts, "second_reader": None, "second_reading": False})
    else:
        connection.execute(_results.update().where(_results.c.id == sent.id).values(**facts))
    connection.execute(
        _NEW_VERSION,
        {
            "id": sent.id,
            "version": sent.version,
            "content_sha256": content,
            "origin": origin,
            "author": clean(sent.operator),
            "received": at,
            "body": body,
        },
    )
    if sent.pictures:
        connection.execute(
            _NEW_PICTURES,
            [
                {
                    "id": sent.id,
                    "version": sent.version,
                    "position": position,
                    "kind": picture.kind,
                    "field": picture.field,
                    "cell": picture.cell,
                    "sha256": picture.sha256,
                }
                for position, picture in enumerate(sent.pictures)
            ],
        )


def missing(connection: Connection, device_id: str, hashes: tuple[str, ...]) -> tuple[MissingPicture, ...]:
    """Name those of the pictures that the device has not sent whole, each once, and how much of them is here."""
    wanted = list(dict.fromkeys(hashes))
    held: set[str] = set()
    begun: dict[str, int] = {}
    for start in range(0, len(wanted), 500):
        some = wanted[start : start + 500]
        pictures, parts = tables.pictures.c, tables.picture_parts.c
        held.update(
            connection.scalars(
                sa.select(pictures.sha256).where(pictures.device_id == device_id, pictures.sha256.in_(some))
            )
        )
        if len(held) < len(wanted):
            query = sa.select(parts.sha256, parts.offset).where(parts.device_id == device_id, parts.sha256.in_(some))
            begun.update({row.sha256: row.offset for row in connection.execute(query)})
    return tuple(MissingPicture(each, begun.get(each, 0)) for each in wanted if each not in held)


def _read(body: bytes) -> ResultVersion:
    refusal = RefusedError(422, "not-a-result", "The body is not a version of a result.")
    try:
        sent = messages.decode(body, ResultVersion)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        refusal.problem = msgspec.structs.replace(refusal.problem, cure=str(error)[:400])
        raise refusal from None
    biggest = max((max(each.field, each.cell or 0, each.bytes) for each in sent.pictures), default=0)
    if biggest > _MAX_INTEGER or len(sent.pictures) > 100_000:
        raise refusal
    return sent


def _acknowledge(  # noqa: PLR0917  # of this module alone
    hub: Hub, connection: Connection, device: str, sent: ResultVersion, content: str, received: str
) -> Acknowledgement:
    lacking = missing(connection, device, tuple(picture.sha256 for picture in sent.pictures)) if sent.pictures else ()
    return Acknowledgement(sent.id, sent.version, content, received, hub.epoch, lacking)


def _keep_conflict(  # noqa: PLR0917  # of this module alone
    hub: Hub, connection: Connection, device: Device, sent: ResultVersion, content: str, body: bytes
) -> None:
    hub.database.insert_missing(
        connection,
        tables.conflicts,
        {
            "id": sent.id,
            "version": sent.version,
            "content_sha256": content,
            "device_id": device.id,
            "received": times.now(),
            "body": body,
        },
    )


def _facts(sent: ResultVersion) -> dict[str, Any]:
    """Take from a version what results are searched by."""
    counts: dict[str, Any] = {"counted": None, "other": None, "fields": None, "refused": None, "classes": "{}"}
    # A document of another shape is kept as it came; only its numbers are not searchable.
    with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
        counts = _counts(sent.document)
    return {
        "status": sent.status,
        "sample": clean(sent.sample),
        "patient": None if sent.patient is None else clean(sent.patient),
        "boot_id": clean(sent.created.boot_id),
        "monotonic": float(sent.created.monotonic),
        "wall": clean(sent.created.wall),
        "tier": sent.created.tier,
        "bundle": clean(sent.bundle),
        "consent": sent.training_consent,
        **counts,
    }


def _counts(document: Mapping[str, Any]) -> dict[str, Any]:
    differential = document["differential"]
    fields = document["fields"]
    return {
        "counted": _whole(differential["counted"]),
        "other": _whole(differential["other"]),
        "fields": len(fields),
        "refused": sum(not entry.get("quality", {}).get("accepted", False) for entry in fields),
        "classes": json.dumps(
            {str(label)[:40]: _whole(share["count"]) for label, share in list(differential["classes"].items())[:20]}
        ),
    }


def _whole(value: Any) -> int:
    number = int(value)
    if not 0 <= number <= _MAX_INTEGER:
        raise ValueError(number)
    return number

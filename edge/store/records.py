"""How a `ResultRecord` lies in the tables, and its canonical JSON."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

from edge.core.errors import StoreError
from edge.core.types import ClockReading, Picture, ResultRecord

COLUMNS: Final = (
    "id",
    "version",
    "sample",
    "operator",
    "device",
    "wall",
    "monotonic",
    "boot_id",
    "tier",
    "status",
    "bundle",
    "bundle_sha256",
    "runtime",
    "calibration",
    "throttle_bits",
    "document",
)
"""Columns of the table `results`, in the order of `to_row`."""

Row = Sequence[Any]


def canonical(value: object) -> str:
    """Write `value` as the one JSON text that means it: sorted keys, no spaces, ASCII, no NaN or infinity.

    Raises `StoreError` `result-invalid` when JSON cannot hold it.
    """
    try:
        return json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False, default=_plain
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError(
            "result-invalid",
            f"The result is not JSON ({error}).",
            "Give numbers, text, lists and mappings only, and no NaN or infinity.",
        ) from error


def sha256(data: bytes) -> str:
    """Hash of `data` in lower-case hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def check(record: ResultRecord) -> None:
    """Raise `StoreError` `result-invalid` unless the record can be told apart from every other."""
    try:
        proper = str(uuid.UUID(record.id)) == record.id
    except ValueError:
        proper = False
    if not proper:
        raise StoreError(
            "result-invalid", f"{record.id!r} is not the id of a result.", "Give a UUID in lower case, with hyphens."
        )
    if not record.sample.strip():
        raise StoreError("result-invalid", "The result names no sample.", "Give the sample's id.")
    if record.version < 1:
        raise StoreError("result-invalid", f"Versions start at 1, not {record.version}.", "Save it as version 1.")


def to_row(record: ResultRecord) -> tuple[object, ...]:
    """Lay the record out in the order of `COLUMNS`."""
    moment = record.created
    return (
        record.id,
        record.version,
        record.sample,
        record.operator,
        record.device,
        moment.wall,
        float(moment.monotonic),
        moment.boot_id,
        moment.tier,
        record.status,
        record.bundle,
        record.bundle_sha256,
        record.runtime,
        record.calibration,
        None if record.throttle_bits is None else int(record.throttle_bits),
        canonical(record.document),
    )


def from_row(row: Row, pictures: tuple[Picture, ...]) -> ResultRecord:
    """Make the record from a row of `COLUMNS` and its pictures."""
    values = dict(zip(COLUMNS, row, strict=True))
    created = ClockReading(*(values.pop(name) for name in ("wall", "monotonic", "boot_id", "tier")))
    document = json.loads(values.pop("document"))
    return ResultRecord(created=created, document=document, pictures=pictures, **values)


def load_row(connection: sqlite3.Connection, identifier: str, version: int) -> Row | None:
    """Read one version of a result as a row of `COLUMNS`."""
    found = connection.execute(
        f"SELECT {', '.join(COLUMNS)} FROM results WHERE id = ? AND version = ?",  # noqa: S608 - names of our own columns
        (identifier, version),
    ).fetchone()
    return None if found is None else tuple(found)


def load_picture_rows(connection: sqlite3.Connection, identifier: str, version: int) -> tuple[Row, ...]:
    """Read what pictures a version has, as (kind, field, cell, sha256) in their order."""
    return tuple(
        tuple(row)
        for row in connection.execute(
            "SELECT kind, field, cell, sha256 FROM result_pictures WHERE id = ? AND version = ? ORDER BY position",
            (identifier, version),
        )
    )


def to_picture_rows(record: ResultRecord) -> tuple[Row, ...]:
    """Lay the record's pictures out as (kind, field, cell, sha256)."""
    return tuple(
        (
            picture.kind,
            int(picture.field),
            None if picture.cell is None else int(picture.cell),
            sha256(picture.jpeg),
        )
        for picture in record.pictures
    )


def insert(connection: sqlite3.Connection, row: Row, pictures: Sequence[Row], carried: Sequence[Picture]) -> None:
    """Insert a row of `COLUMNS`, its picture rows, and those pictures that it carries.

    A later version may carry fewer pictures than it names: the others are kept already.
    """
    connection.execute(f"INSERT INTO results VALUES ({', '.join('?' * len(COLUMNS))})", tuple(row))  # noqa: S608
    connection.executemany(
        "INSERT OR IGNORE INTO pictures VALUES (?, ?)",
        ((sha256(picture.jpeg), picture.jpeg) for picture in carried),
    )
    connection.executemany(
        "INSERT INTO result_pictures VALUES (?, ?, ?, ?, ?, ?, ?)",
        ((row[0], row[1], position, *picture) for position, picture in enumerate(pictures)),
    )


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not a JSON value")

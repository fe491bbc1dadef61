"""A copy of everything, as plain files: rows as JSON lines and pictures by hash. It is read back by either database.

The rows are those of one moment. Pictures never change, and are in their store before a row names them: a copy that is
made after the rows has them all. A second backup into the same folder copies only what is new.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from edge import __version__
from edge.core import durable
from edge.core.identifiers import uuid7
from edge.hub import objects, tables, times
from edge.hub.database import Database, translated
from edge.hub.problems import HubError
from edge.hub.settings import Settings

FORMAT: Final = 1
LEFT_OUT: Final = {"sessions", "attempts", "picture_parts"}
"""What a restored hub begins without."""

_BATCH: Final = 500
_MANIFEST: Final = "backup.json"


def save(settings: Settings, folder: Path) -> dict[str, int]:
    """Write a backup; returns how many rows and pictures it holds. Raises HubError."""
    database = Database(settings.database)
    store = objects.open_objects(settings.objects)
    try:
        database.require_current()
        (folder / "tables").mkdir(parents=True, exist_ok=True)
        (folder / "objects").mkdir(exist_ok=True)
        hashes: dict[str, str] = {}
        rows = 0
        with translated(settings.database), database.read(still=True) as connection:
            for table in _saved():
                count, hashes[table.name] = _dump(connection, table, folder / "tables" / f"{table.name}.jsonl.gz")
                rows += count
            named = {str(name) for name in connection.scalars(sa.select(tables.pictures.c.sha256).distinct())}
        copy = objects.FolderStore(folder / "objects")
        there = set(copy.names())
        for sha256 in sorted(named - there):
            data = store.get(sha256)
            if hashlib.sha256(data).hexdigest() != sha256:
                raise HubError("picture-altered", f"Picture {sha256} is not what was stored.", "Check the disk.")
            copy.put(sha256, data)
        manifest = {"format": FORMAT, "version": __version__, "made": times.now(), "tables": hashes}
        manifest |= {"pictures": len(named), "rows": rows}
        durable.write_text(folder / _MANIFEST, json.dumps(manifest, indent=1) + "\n")
        return {"rows": rows, "pictures": len(named)}
    finally:
        database.close()


def restore(settings: Settings, folder: Path) -> dict[str, int]:
    """Read a backup into an empty database and store, and begin a new epoch: devices then send what is missing.

    Everything is checked by its hash, and written in one transaction. Raises HubError.
    """
    manifest = _manifest(folder)
    database = Database(settings.database)
    store = objects.open_objects(settings.objects)
    try:
        database.migrate()
        store.check()
        copy = objects.FolderStore(folder / "objects")
        pictures = 0
        for sha256 in copy.names():
            data = copy.get(sha256)
            if hashlib.sha256(data).hexdigest() != sha256:
                raise HubError("backup-damaged", f"Picture {sha256} of the backup is damaged.", "Use another backup.")
            store.put(sha256, data)
            pictures += 1
        rows = 0
        with translated(settings.database), database.write() as connection:
            if connection.execute(sa.select(tables.devices.c.id).limit(1)).first() is not None:
                raise HubError("database-in-use", "The database is not empty.", "Restore into a new one.")
            connection.execute(tables.state.delete())
            for table in _saved():
                path = folder / "tables" / f"{table.name}.jsonl.gz"
                if _file_hash(path) != manifest["tables"].get(table.name):
                    raise HubError("backup-damaged", f"{path} is damaged.", "Use another backup.")
                rows += _load(connection, table, path)
            connection.execute(tables.state.update().where(tables.state.c.key == "epoch").values(value=uuid7()))
            if not database.is_sqlite:
                connection.execute(
                    sa.text(
                        "SELECT setval(pg_get_serial_sequence('accesses', 'sequence'), "
                        "COALESCE((SELECT MAX(sequence) FROM accesses), 0) + 1, false)"
                    )
                )
        return {"rows": rows, "pictures": pictures}
    finally:
        database.close()


def _saved() -> Iterator[sa.Table]:
    for table in tables.metadata.sorted_tables:
        if table.name not in LEFT_OUT:
            yield table


def _dump(connection: Connection, table: sa.Table, path: Path) -> tuple[int, str]:
    count = 0
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=3, mtime=0) as file:
        rows = connection.execution_options(yield_per=_BATCH).execute(sa.select(table).order_by(*table.primary_key))
        for row in rows:
            file.write(json.dumps([_plain(value) for value in row]).encode("ascii") + b"\n")
            count += 1
    with temporary.open("rb") as written:
        os.fsync(written.fileno())
    temporary.replace(path)
    return count, _file_hash(path)


def _load(connection: Connection, table: sa.Table, path: Path) -> int:
    names = [column.name for column in table.columns]
    batch: list[dict[str, Any]] = []
    count = 0
    with gzip.open(path, "rb") as file:
        for line in file:
            batch.append(dict(zip(names, (_value(value) for value in json.loads(line)), strict=True)))
            count += 1
            if len(batch) == _BATCH:
                connection.execute(table.insert(), batch)
                batch = []
    if batch:
        connection.execute(table.insert(), batch)
    return count


def _plain(value: Any) -> Any:
    return {"base64": base64.b64encode(value).decode("ascii")} if isinstance(value, (bytes, memoryview)) else value


def _value(value: Any) -> Any:
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else value


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        known = found["format"] == FORMAT and isinstance(found["tables"], dict)
    except (OSError, ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise HubError("backup-unknown", f"{folder} holds no backup of a hub.", "Name a folder of leuko hub backup.")
    return found


def _file_hash(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except FileNotFoundError:
        return ""
    return digest.hexdigest()

"""Makes keys, encrypts a store and copies one: each is whole or not there, whenever it stops."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from edge.core import durable
from edge.core.errors import StoreError, UsageError
from edge.store import database, encryption, migrations

_MOVED: Final = 0x4C455558
"""Marks the readable file, right before the encrypted one takes its place: who opens it now must not write there."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a store is kept. `key` is where its key is, None when it is not encrypted; `cipher` the library's version."""

    path: Path
    encrypted: bool
    key: str | None
    cipher: str | None


def make_key(path: Path) -> None:
    """Write a new key of 256 random bits into a new file of mode 0600. Raises UsageError `key-exists`, StoreError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise UsageError(
            "key-exists", f"There is a file {path} already; a key is never replaced.", "Name another file."
        ) from None
    except OSError as error:
        raise durable.as_store_error(path, error) from error
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(32) + "\n")
        file.flush()
        os.fsync(file.fileno())
    durable.sync_folder(path.absolute().parent)


def standing(path: Path) -> Standing:
    """Tell whether a store is encrypted, and prove that its key opens it. Raises `StoreError`."""
    where = encryption.place(path)
    if where is None:
        return Standing(path, False, None, None)
    with contextlib.closing(database.connect(path, read_only=True)) as connection:
        version = connection.execute("PRAGMA cipher_version").fetchone()
    return Standing(path, True, where, str(version[0]))


def encrypt(path: Path, where: str) -> None:
    """Encrypt the store at `path` with the key at `where`; a store that is not there yet is made.

    An encrypted store keeps its key, and learns that this is now at `where`. The store must not be in use. Whenever
    this stops, the results are in one whole file, and running it again goes on. Raises `StoreError`.
    """
    path = path.absolute()
    if not where.startswith(encryption.CREDENTIAL):
        where = str(Path(where).expanduser().absolute())
    key = encryption.read_key(where)
    driver = encryption.driver()
    if path.exists() and path.stat().st_size and encryption.is_plain(path):
        with _owned(driver.connect(str(path), timeout=database.BUSY_SECONDS, isolation_level=None), path) as plain:
            if not _moved(plain):
                migrations.check(plain, str(path))
                _fill(plain, path, key)
                _write_note(path, where)
                plain.execute(f"PRAGMA application_id = {_MOVED}")
            _replace(path, key)
        return
    with contextlib.closing(driver.connect(str(path), isolation_level=None)) as connection:
        encryption.unlock(connection, path, key)
    _write_note(path, where)
    database.connect(path, read_only=False).close()


def copy(path: Path, target: Path, *, plain: bool) -> None:
    """Copy the whole store into a new file, while it is in use: encrypted as it is, or `plain` for anybody to read.

    Raises UsageError `copy-exists`, `StoreError`.
    """
    if target.exists():
        raise UsageError("copy-exists", f"There is a file {target} already.", "Name another file.")
    where = encryption.place(path)
    part = target.with_name(target.name + ".part")
    try:
        part.unlink(missing_ok=True)
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with contextlib.closing(database.connect(path, read_only=where is None)) as connection:
            if where is None:
                with contextlib.closing(sqlite3.connect(part)) as other:
                    connection.backup(other)
            else:
                _export(connection, part, "" if plain else encryption.read_key(where))
        _sync(part)
        part.rename(target)
        if where is not None and not plain:
            _write_note(target, where)
        durable.sync_folder(target.absolute().parent)
    except encryption.errors() as error:
        raise StoreError("copy-failed", f"{target} could not be written ({error}).", "Choose another disk.") from error
    except OSError as error:
        raise durable.as_store_error(target, error) from error


@contextlib.contextmanager
def _owned(connection: Any, path: Path) -> Iterator[Any]:
    """Hold a store alone: leaving the write-ahead log is refused as long as anybody else has it open."""
    try:
        with database.translated(path), contextlib.closing(connection):
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            if connection.execute("PRAGMA journal_mode = DELETE").fetchone()[0] != "delete":
                raise sqlite3.OperationalError("database is locked")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("COMMIT")
            yield connection
    except StoreError as error:
        if error.code != "store-locked":
            raise
        raise StoreError(
            "store-in-use",
            f"{path} is in use by another process.",
            "Stop it (systemctl stop leukoscope, leuko sync run --watch), then run this again.",
        ) from None


def _moved(connection: Any) -> bool:
    return int(connection.execute("PRAGMA application_id").fetchone()[0]) == _MOVED


def _fill(plain: Any, path: Path, key: str) -> None:
    """Make the encrypted copy, and compare it row by row with what it is a copy of."""
    made = encryption.unfinished(path)
    needed = path.stat().st_size
    if shutil.disk_usage(path.parent).free < needed + needed // 10:
        raise StoreError(
            "disk-nearly-full",
            f"The encrypted copy of {path} needs {needed // 1_000_000 + 1} MB beside it.",
            "Make room: leuko sync release lets pictures go that were sent.",
        )
    for ending in ("", "-journal", "-wal", "-shm"):
        made.with_name(made.name + ending).unlink(missing_ok=True)
    os.close(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, path.stat().st_mode & 0o777))
    _export(plain, made, key)
    _sync(made)


def _export(connection: Any, target: Path, key: str) -> None:
    """Write everything into another file, with a key or (empty) readable, and compare."""
    connection.execute("ATTACH DATABASE ? AS copied KEY ?", (str(target), f"x'{key}'" if key else ""))
    try:
        connection.execute("SELECT sqlcipher_export('copied')")
        for name in ("application_id", "user_version"):
            value = int(connection.execute(f"PRAGMA main.{name}").fetchone()[0])
            connection.execute(f"PRAGMA copied.{name} = {value}")
        _compare(connection)
    finally:
        connection.execute("DETACH DATABASE copied")


def _compare(connection: Any) -> None:
    schema = "SELECT type, name, tbl_name, sql FROM {}.sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY 1, 2"
    first, second = (connection.execute(schema.format(side)).fetchall() for side in ("main", "copied"))
    same = first == second
    names = [str(row[1]) for row in first if row[0] == "table"]
    if any("AUTOINCREMENT" in str(row[3]) for row in first):
        names.append("sqlite_sequence")
    for name in names:
        # `EXCEPT` compares values; the counts find rows that are there twice.
        counts = {
            connection.execute(f'SELECT COUNT(*) FROM {side}."{name}"').fetchone()[0]  # noqa: S608 - names of ours
            for side in ("main", "copied")
        }
        missing = connection.execute(
            f'SELECT 1 FROM (SELECT * FROM main."{name}" EXCEPT SELECT * FROM copied."{name}") LIMIT 1'  # noqa: S608
        ).fetchone()
        same = same and len(counts) == 1 and missing is None
    if not same:
        raise StoreError("copy-differs", "The copy is not what it was made from.", "Check the disk, then try again.")


def _replace(path: Path, key: str) -> None:
    """Put the encrypted copy, once it is proven to open, where the readable file was."""
    made = encryption.unfinished(path)
    with contextlib.closing(encryption.driver().connect(f"{made.as_uri()}?mode=ro", uri=True)) as connection:
        encryption.unlock(connection, made, key)
        damaged = connection.execute("PRAGMA cipher_integrity_check").fetchall()
    if damaged:
        raise StoreError("copy-differs", f"{made} is damaged ({damaged[0][0]}).", "Check the disk, then try again.")
    made.rename(path)
    durable.sync_folder(path.parent)


def _write_note(path: Path, where: str) -> None:
    durable.write_bytes(encryption.note(path), msgspec.json.encode(encryption.Place(where)) + b"\n")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

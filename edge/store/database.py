"""Opens the store's file with the settings that make a commit durable, and names what can go wrong with it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, TypeVar

from edge.core.errors import StoreError
from edge.store import encryption, migrations

_Self = TypeVar("_Self", bound="StoreFile")

BUSY_SECONDS: Final = 10.0
"""How long to wait for another process that is writing."""

# SQLite's messages, since Python 3.10 does not hand out its error codes.
_CAUSES: Final = (
    (
        ("locked", "busy"),
        "store-locked",
        "is being written by another process",
        "Close the other Leukoscope process, or wait until it is done, and run it again.",
    ),
    (
        ("readonly", "read-only"),
        "store-read-only",
        "may not be written",
        "Give the user that runs this the right to write the file and its folder, or remount the disk for writing.",
    ),
    (("is full",), "disk-full", "has no space left on its disk", "Free space on that disk and run it again."),
    (
        ("not a database",),
        "not-a-database",
        "is not a Leukoscope store; it was left as it is",
        "Choose another file for the results, or put back a backup of this one.",
    ),
    (
        ("malformed", "corrupt"),
        "store-damaged",
        "is damaged; it was left as it is",
        "Copy the file and those beside it (-wal, -shm) away, check the disk, and put back a backup "
        "or rescue the rows with `sqlite3 FILE .recover`.",
    ),
    (
        ("unable to open",),
        "store-unreachable",
        "cannot be opened",
        "Check that the folder exists and that the user that runs this may use it.",
    ),
    (
        ("disk i/o error",),
        "disk-error",
        "could not be read or written: the disk reported an error",
        "Check the space, the quota and the health of that disk, then run it again.",
    ),
    (("too big", "too large"), "result-too-large", "cannot hold so large a value", "Save fewer or smaller pictures."),
    (
        ("append-only", "constraint"),
        "store-conflict",
        "refused a row that contradicts what it holds",
        "Read the result again and repeat the change on its latest version.",
    ),
)


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn the errors of SQLite, and of values it cannot hold, into a `StoreError` with a cure."""
    try:
        yield
    except encryption.errors() as error:
        raise _store_error(path, str(error)) from error
    except UnicodeDecodeError as error:
        # A page that is damaged within the text of the schema or of a row.
        raise _store_error(path, "malformed: text that is not UTF-8") from error
    except (UnicodeEncodeError, OverflowError) as error:
        raise StoreError(
            "result-invalid",
            f"A value of the result cannot be stored ({error}).",
            "Give sample, operator and device as plain text.",
        ) from error


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, *, write: bool) -> Iterator[None]:
    """Run the block in one transaction: committed when it ends, rolled back when it raises."""
    connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            # A failed rollback is made good when the file is next opened; the first error is the one to tell.
            with contextlib.suppress(*encryption.errors()):
                connection.execute("ROLLBACK")
        raise


def connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """Open the store at `path`; a missing file is made, unless `read_only`.

    Write-ahead log with a sync at each commit (or, on a file system that cannot share memory, a rollback journal with
    the strictest sync), foreign keys enforced, statements outside a transaction committed at once.

    Raises `StoreError`; a file that is damaged, foreign or newer is never changed.
    """
    # An absolute path is never one of SQLite's special names, such as ":memory:", which keeps nothing.
    path = path.absolute()
    _check_files(path, read_only)
    with translated(path):
        if read_only:
            return _connect_read_only(path)
        connection = encryption.open_database(path, str(path), timeout=BUSY_SECONDS, isolation_level=None)
        try:
            migrations.check(connection, str(path))
            _make_durable(connection)
            migrations.migrate(connection, str(path))
        except BaseException:
            connection.close()
            raise
        return connection


def _connect_read_only(path: Path) -> sqlite3.Connection:
    uri = path.resolve().as_uri()
    try:
        return _checked(f"{uri}?mode=ro", path)
    except encryption.errors():
        # On a write-protected disk the log's shared memory cannot be made; without a log it is not needed.
        if os.access(path.parent, os.W_OK) or _size(_beside(path, "-wal")):
            raise
        return _checked(f"{uri}?immutable=1", path)


def _checked(uri: str, path: Path) -> sqlite3.Connection:
    connection = encryption.open_database(path, uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        if len(migrations.check(connection, str(path))) < len(migrations.MIGRATIONS):
            raise StoreError(
                "older-schema",
                f"{path} is empty or was written by an older version of Leukoscope.",
                "Open it once for writing, which brings it up to date.",
            )
    except BaseException:
        connection.close()
        raise
    return connection


def _make_durable(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    mode = _write_ahead(connection)
    connection.execute(f"PRAGMA synchronous = {'FULL' if mode == 'wal' else 'EXTRA'}")


def _write_ahead(connection: sqlite3.Connection) -> str:
    """Switch to the write-ahead log and return the mode reached.

    While two processes open a new file at once, SQLite refuses this switch without waiting.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return str(connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])
        except encryption.errors() as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _check_files(path: Path, read_only: bool) -> None:
    try:
        if read_only and not path.exists():
            raise StoreError("no-store", f"There are no results at {path}.", "Analyse a sample first.")
        if not path.parent.is_dir():
            raise StoreError(
                "missing-folder", f"The folder {path.parent} does not exist.", "Make it, or choose another folder."
            )
        if path.is_dir():
            raise StoreError("is-a-folder", f"{path} is a folder.", "Choose a file for the results.")
        # SQLite deletes the log of an empty database, and with it every result not yet copied into the database.
        if path.exists() and _size(path) == 0 and _size(_beside(path, "-wal")):
            raise _store_error(path, "malformed: the database is empty, but its log is not")
        # The log and its index are made beside the file, so the folder has to be writable too.
        if not read_only and not all(os.access(each, os.W_OK) for each in (path.parent, path) if each.exists()):
            raise _store_error(path, "read-only file or folder")
    except PermissionError as error:
        raise _store_error(path, "unable to open") from error


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _store_error(path: Path, message: str) -> StoreError:
    for words, code, what, cure in _CAUSES:
        if any(word in message.lower() for word in words):
            return StoreError(code, f"{path} {what} ({message}).", cure)
    return StoreError("store-failed", f"{path} could not be used ({message}).", "Run it again; if it stays, report it.")


class StoreFile:
    """A part of the store's file, open inside a `with` block, where alone it touches the file.

    Everything raises `StoreError`; `store-closed` when it is used outside the block.
    """

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False) -> None:
        self._path = Path(path)
        self._read_only = read_only
        self._open: sqlite3.Connection | None = None

    def __enter__(self: _Self) -> _Self:
        self._open = connect(self._path, read_only=self._read_only)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection, self._open = self._open, None
        if connection is not None:
            with translated(self._path):
                connection.close()

    def _connection(self) -> sqlite3.Connection:
        if self._open is None:
            raise StoreError("store-closed", f"{self._path} is not open.", "Use it inside its `with` block.")
        return self._open

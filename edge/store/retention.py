"""What may be let go when the disk fills, and when no new sample may be taken.

Results are kept for ever. The bytes of a picture may go once every version that shows it was acknowledged by every
destination; that condition is a trigger of the database, not a habit of this code. The picture's hash stays, so that
the audit chain still binds it.
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge.core import clock
from edge.core.errors import StoreError
from edge.store import encryption
from edge.store.database import connect, transaction, translated

_BATCH: Final = 200


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes on the disk of the store. `usable` counts what the database's own free pages will take as well."""

    total: int
    free: int
    usable: int


@dataclass(frozen=True, slots=True)
class Released:
    """What `release` let go."""

    pictures: int
    bytes: int


def is_released(connection: sqlite3.Connection, digest: str) -> bool:
    """Whether the bytes of a picture were let go."""
    return connection.execute("SELECT 1 FROM released_pictures WHERE sha256 = ?", (digest,)).fetchone() is not None


def space(database: Path) -> Space:
    """Measure the disk that the store lies on; the file need not exist yet. Raises `StoreError`."""
    folder = database.absolute().parent
    while not folder.exists():
        folder = folder.parent
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    unused = 0
    if database.exists():
        with translated(database):
            connection = encryption.open_database(database, f"{database.resolve().as_uri()}?mode=ro", uri=True)
            try:
                pages, size = (
                    int(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("freelist_count", "page_size")
                )
            finally:
                connection.close()
        unused = pages * size
    return Space(status.f_blocks * status.f_frsize, free, free + unused)


def require_space(database: Path, least: int) -> None:
    """Refuse a new sample while fewer than `least` bytes are usable, so that what is kept stays kept.

    Raises `StoreError` `disk-nearly-full`.
    """
    usable = space(database).usable
    if usable < least:
        raise StoreError(
            "disk-nearly-full",
            f"Only {usable // 1_000_000} MB are left for results; below {least // 1_000_000} no new sample is taken.",
            "Send what waits (leuko sync run), then let pictures go (leuko sync release), or clear the disk.",
        )


def release(database: Path, *, older_than: str, enough: int | None = None) -> Released:
    """Let go of the bytes of acknowledged pictures, the oldest first, and return how many.

    Only pictures of results first saved before `older_than` (UTC in ISO 8601, by the device's clock) are touched, and
    none that any destination still lacks. With `enough` it stops when so many bytes were freed. Raises `StoreError`.
    """
    count = freed = 0
    with translated(database):
        connection = connect(database, read_only=False)
        try:
            while enough is None or freed < enough:
                done = _release_some(connection, older_than, None if enough is None else enough - freed)
                if not done.pictures:
                    break
                count, freed = count + done.pictures, freed + done.bytes
        finally:
            connection.close()
    return Released(count, freed)


def _release_some(connection: sqlite3.Connection, older_than: str, enough: int | None) -> Released:
    now = clock.read().wall
    taken: list[tuple[str, int]] = []
    with transaction(connection, write=True):
        # The newest version counts: a result that was changed lately is kept whole.
        for digest, length in connection.execute(
            """SELECT pictures.sha256, length(jpeg) FROM pictures
               JOIN result_pictures USING (sha256) JOIN outbox USING (id, version) JOIN audit USING (id, version)
               WHERE length(jpeg) > 0
               GROUP BY pictures.sha256
               HAVING COUNT(*) = COUNT(outbox.delivered) AND MAX(audit.wall) < ?
               ORDER BY MIN(audit.sequence) LIMIT ?""",
            (older_than, _BATCH),
        ):
            taken.append((digest, length))
            if enough is not None and sum(length for _, length in taken) >= enough:
                break
        for digest, _ in taken:
            connection.execute("INSERT INTO released_pictures VALUES (?, ?)", (digest, now))
            connection.execute("UPDATE pictures SET jpeg = x'' WHERE sha256 = ?", (digest,))
    return Released(len(taken), sum(length for _, length in taken))

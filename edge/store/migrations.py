"""The store's schema, as steps that are applied once, in order, and are never edited after a release."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from edge.core.clock import read
from edge.core.errors import StoreError
from edge.store import encryption

APPLICATION_ID: Final = 0x4C45554B
"""Marks the file as a Leukoscope store ("LEUK"), in the SQLite header."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema: a name that never changes, and its statements."""

    name: str
    statements: tuple[str, ...]


def _append_only(table: str) -> tuple[str, str]:
    """Refuse every change and removal of a row, so that a mistake in later code cannot edit a result in place."""
    return (
        f"""CREATE TRIGGER {table}_never_updated BEFORE UPDATE ON {table}
            BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END""",
        f"""CREATE TRIGGER {table}_never_deleted BEFORE DELETE ON {table}
            BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END""",
    )


MIGRATIONS: Final = (
    Migration(
        "results-pictures-outbox-audit",
        (
            """CREATE TABLE results (
                id TEXT NOT NULL,
                version INTEGER NOT NULL CHECK (version >= 1),
                sample TEXT NOT NULL,
                operator TEXT NOT NULL,
                device TEXT NOT NULL,
                wall TEXT NOT NULL,
                monotonic REAL NOT NULL,
                boot_id TEXT NOT NULL,
                tier TEXT NOT NULL CHECK (tier IN ('network', 'rtc', 'unknown')),
                status TEXT NOT NULL CHECK (status IN ('preliminary', 'final', 'corrected')),
                bundle TEXT NOT NULL,
                bundle_sha256 TEXT NOT NULL,
                runtime TEXT NOT NULL,
                calibration TEXT,
                throttle_bits INTEGER,
                document TEXT NOT NULL,
                PRIMARY KEY (id, version)
            )""",
            "CREATE INDEX results_by_sample ON results (sample)",
            # Pictures are kept by content: the versions of a result share them.
            "CREATE TABLE pictures (sha256 TEXT PRIMARY KEY NOT NULL, jpeg BLOB NOT NULL)",
            """CREATE TABLE result_pictures (
                id TEXT NOT NULL,
                version INTEGER NOT NULL,
                position INTEGER NOT NULL,
                kind TEXT NOT NULL CHECK (kind IN ('field', 'cell', 'activation')),
                field INTEGER NOT NULL,
                cell INTEGER,
                sha256 TEXT NOT NULL REFERENCES pictures (sha256),
                PRIMARY KEY (id, version, position),
                FOREIGN KEY (id, version) REFERENCES results (id, version)
            )""",
            # AUTOINCREMENT keeps the highest sequence ever given, which betrays removed links at the end.
            """CREATE TABLE audit (
                sequence INTEGER PRIMARY KEY AUTOINCREMENT,
                id TEXT NOT NULL,
                version INTEGER NOT NULL,
                event TEXT NOT NULL CHECK (event IN ('saved', 'signed', 'corrected')),
                operator TEXT NOT NULL,
                reason TEXT NOT NULL,
                wall TEXT NOT NULL,
                monotonic REAL NOT NULL,
                boot_id TEXT NOT NULL,
                tier TEXT NOT NULL,
                previous TEXT NOT NULL,
                link TEXT NOT NULL UNIQUE,
                UNIQUE (id, version),
                FOREIGN KEY (id, version) REFERENCES results (id, version)
            )""",
            # The id is the idempotency key towards the receiver; each version is delivered once.
            """CREATE TABLE outbox (
                id TEXT NOT NULL,
                version INTEGER NOT NULL,
                queued TEXT NOT NULL,
                attempts INTEGER NOT NULL DEFAULT 0,
                delivered TEXT,
                PRIMARY KEY (id, version),
                FOREIGN KEY (id, version) REFERENCES results (id, version)
            )""",
            *_append_only("results"),
            *_append_only("pictures"),
            *_append_only("result_pictures"),
            *_append_only("audit"),
        ),
    ),
    Migration(
        "live-sessions",
        (
            # A session's working memory: it changes while it runs, and what it holds becomes a result at its end.
            """CREATE TABLE live_sessions (
                id TEXT PRIMARY KEY NOT NULL,
                sample TEXT NOT NULL,
                operator TEXT NOT NULL,
                camera TEXT NOT NULL,
                target INTEGER NOT NULL,
                precision REAL,
                stack INTEGER NOT NULL,
                wall TEXT NOT NULL,
                monotonic REAL NOT NULL,
                boot_id TEXT NOT NULL,
                tier TEXT NOT NULL,
                bundle TEXT NOT NULL,
                bundle_sha256 TEXT NOT NULL,
                runtime TEXT NOT NULL,
                calibration TEXT,
                throttle_bits INTEGER,
                phase TEXT NOT NULL CHECK (phase IN ('running', 'paused', 'finished', 'aborted', 'failed')),
                running_seconds REAL NOT NULL DEFAULT 0,
                tallies TEXT NOT NULL DEFAULT '{}'
            )""",
            """CREATE TABLE live_fields (
                session TEXT NOT NULL REFERENCES live_sessions (id),
                number INTEGER NOT NULL,
                entry TEXT NOT NULL,
                preview BLOB,
                PRIMARY KEY (session, number)
            )""",
            """CREATE TABLE live_cells (
                session TEXT NOT NULL,
                number INTEGER NOT NULL,
                position INTEGER NOT NULL,
                entry TEXT NOT NULL,
                crop BLOB NOT NULL,
                activation BLOB,
                PRIMARY KEY (session, number, position),
                FOREIGN KEY (session, number) REFERENCES live_fields (session, number)
            )""",
            """CREATE TABLE live_events (
                sequence INTEGER PRIMARY KEY,
                session TEXT NOT NULL REFERENCES live_sessions (id),
                event TEXT NOT NULL,
                detail TEXT NOT NULL,
                wall TEXT NOT NULL,
                monotonic REAL NOT NULL,
                boot_id TEXT NOT NULL,
                tier TEXT NOT NULL
            )""",
            *_append_only("live_events"),
        ),
    ),
    Migration(
        "deliveries-anchors-released-pictures",
        (
            # What each destination has of each version. `body` is frozen before the first attempt, so that a repeated
            # attempt sends the same bytes also after an update of this software.
            """CREATE TABLE deliveries (
                destination TEXT NOT NULL,
                sequence INTEGER NOT NULL,
                id TEXT NOT NULL,
                version INTEGER NOT NULL,
                state TEXT NOT NULL CHECK (state IN
                    ('pending', 'accepted', 'delivered', 'conflict', 'refused', 'settled')),
                attempts INTEGER NOT NULL DEFAULT 0,
                content_sha256 TEXT,
                body BLOB,
                code TEXT NOT NULL DEFAULT '',
                message TEXT NOT NULL DEFAULT '',
                changed TEXT NOT NULL,
                PRIMARY KEY (destination, id, version),
                FOREIGN KEY (id, version) REFERENCES results (id, version)
            )""",
            "CREATE INDEX deliveries_by_state ON deliveries (destination, state, sequence)",
            """CREATE TABLE destinations (
                destination TEXT PRIMARY KEY NOT NULL,
                seen INTEGER NOT NULL DEFAULT 0,
                epoch TEXT NOT NULL DEFAULT '',
                cursor TEXT NOT NULL DEFAULT '',
                failures INTEGER NOT NULL DEFAULT 0,
                wait_boot_id TEXT NOT NULL DEFAULT '',
                wait_until REAL NOT NULL DEFAULT 0,
                code TEXT NOT NULL DEFAULT '',
                message TEXT NOT NULL DEFAULT '',
                contact TEXT NOT NULL DEFAULT '',
                reports INTEGER NOT NULL DEFAULT 0
            )""",
            # Versions made at a hub whose number is taken here by other contents.
            """CREATE TABLE incoming (
                destination TEXT NOT NULL,
                id TEXT NOT NULL,
                version INTEGER NOT NULL,
                content_sha256 TEXT NOT NULL,
                body BLOB NOT NULL,
                settled INTEGER NOT NULL DEFAULT 0,
                received TEXT NOT NULL,
                PRIMARY KEY (destination, id, version)
            )""",
            # The true time of one moment of a boot, by which all moments of that boot are dated. Written once.
            """CREATE TABLE clock_anchors (
                boot_id TEXT PRIMARY KEY NOT NULL,
                wall TEXT NOT NULL,
                monotonic REAL NOT NULL,
                tier TEXT NOT NULL,
                trusted TEXT NOT NULL,
                source TEXT NOT NULL
            )""",
            *_append_only("clock_anchors"),
            """CREATE TABLE anchors_sent (
                destination TEXT NOT NULL,
                boot_id TEXT NOT NULL REFERENCES clock_anchors (boot_id),
                PRIMARY KEY (destination, boot_id)
            )""",
            # Pictures whose bytes were let go after every version that shows them was acknowledged everywhere.
            "CREATE TABLE released_pictures (sha256 TEXT PRIMARY KEY NOT NULL, released TEXT NOT NULL)",
            "CREATE INDEX result_pictures_by_content ON result_pictures (sha256)",
            """CREATE TRIGGER released_when_delivered BEFORE INSERT ON released_pictures
                WHEN NOT EXISTS (SELECT 1 FROM result_pictures WHERE sha256 = NEW.sha256)
                  OR EXISTS (SELECT 1 FROM result_pictures JOIN outbox USING (id, version)
                             WHERE sha256 = NEW.sha256 AND delivered IS NULL)
                BEGIN SELECT RAISE(ABORT, 'pictures are append-only until acknowledged'); END""",
            "DROP TRIGGER pictures_never_updated",
            """CREATE TRIGGER pictures_never_updated BEFORE UPDATE ON pictures
                WHEN NEW.sha256 IS NOT OLD.sha256 OR length(NEW.jpeg) > 0
                  OR NOT EXISTS (SELECT 1 FROM released_pictures WHERE sha256 = OLD.sha256)
                BEGIN SELECT RAISE(ABORT, 'pictures is append-only'); END""",
        ),
    ),
    Migration(
        "control-log",
        (
            """CREATE TABLE control_log (
                sequence INTEGER PRIMARY KEY AUTOINCREMENT,
                event TEXT NOT NULL CHECK (event IN ('run', 'override')),
                passed INTEGER NOT NULL CHECK (passed IN (0, 1)),
                set_name TEXT NOT NULL,
                finding TEXT NOT NULL,
                operator TEXT NOT NULL,
                reason TEXT NOT NULL,
                hours REAL NOT NULL,
                bundle TEXT NOT NULL,
                wall TEXT NOT NULL,
                monotonic REAL NOT NULL,
                boot_id TEXT NOT NULL,
                tier TEXT NOT NULL,
                previous TEXT NOT NULL,
                link TEXT NOT NULL UNIQUE
            )""",
            *_append_only("control_log"),
        ),
    ),
)


def applied(connection: sqlite3.Connection) -> tuple[str, ...]:
    """Names of the migrations a store has had, in order; empty for a new file."""
    known = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'migrations'").fetchone()
    if known is None:
        return ()
    return tuple(str(row[0]) for row in connection.execute("SELECT name FROM migrations ORDER BY version"))


@contextlib.contextmanager
def _one_moment(connection: sqlite3.Connection) -> Iterator[None]:
    """Let several reads see the same state, or a store that is being made would look like another program's."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN")
    try:
        yield
    finally:
        # After an error of the disk there is no transaction left to end.
        with contextlib.suppress(*encryption.errors()):
            connection.execute("ROLLBACK")


def check(connection: sqlite3.Connection, path: str) -> tuple[str, ...]:
    """Return the migrations a store has had, having changed nothing.

    Raises `StoreError`: `foreign-database` when the file belongs to another program, `newer-schema` when a newer
    version of this one wrote it.
    """
    with _one_moment(connection):
        mark = int(connection.execute("PRAGMA application_id").fetchone()[0])
        tables = int(connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0])
        done = applied(connection)
    if mark != APPLICATION_ID and (mark or tables):
        raise StoreError(
            "foreign-database",
            f"{path} is a database of another program; it was left as it is.",
            "Choose another file for the results.",
        )
    names = tuple(migration.name for migration in MIGRATIONS)
    if done != names[: len(done)]:
        raise StoreError(
            "newer-schema",
            f"{path} was written by a newer version of Leukoscope (schema step {done[-1]!r}); it was left as it is.",
            "Update Leukoscope on this device, then open it again.",
        )
    return done


def migrate(connection: sqlite3.Connection, path: str) -> None:
    """Bring a store to the present schema: the missing steps and their record in one transaction, or nothing.

    Raises as `check` does.
    """
    if len(check(connection, path)) == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    # Asked again under the lock: another process may have migrated in between.
    done = check(connection, path)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(
        """CREATE TABLE IF NOT EXISTS migrations
           (version INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, wall TEXT NOT NULL)"""
    )
    for version, migration in enumerate(MIGRATIONS[len(done) :], start=len(done) + 1):
        for statement in migration.statements:
            connection.execute(statement)
        connection.execute("INSERT INTO migrations VALUES (?, ?, ?)", (version, migration.name, read().wall))
    connection.execute("COMMIT")

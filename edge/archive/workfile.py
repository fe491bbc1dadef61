"""The work file: which fields there are, and what was found in those that are done, to go on from.

It holds no result yet, and can be made again: a power cut may cost the last seconds, and never the file.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge.archive.engine import Piece
from edge.core.errors import StoreError
from edge.store.database import translated

_SCHEMA: Final = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE folders (number INTEGER PRIMARY KEY, name BLOB NOT NULL);
CREATE TABLE names (folder INTEGER NOT NULL, sort BLOB NOT NULL, path BLOB NOT NULL);
CREATE TABLE pieces (number INTEGER PRIMARY KEY, folder INTEGER NOT NULL, path BLOB NOT NULL,
    done INTEGER NOT NULL DEFAULT 0);
CREATE TABLE parts (number INTEGER NOT NULL, frame INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (number, frame)) WITHOUT ROWID;
"""
_PAGE: Final = 256
_DIGITS: Final = re.compile(rb"(\d+)")


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of the archive, with the numbers of its first piece and of the one after its last."""

    name: str
    first: int
    end: int


class WorkFile:
    """The file at `path`, for one process at a time, inside a `with` block. Made where there is none.

    Raises StoreError as `edge.store.database.connect` does, and `analysis-running` when another process has it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> WorkFile:
        self._stack = contextlib.ExitStack()
        with translated(self._path), contextlib.ExitStack() as stack:
            try:
                lock = stack.enter_context(_lock_of(self._path).open("a"))
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StoreError(
                    "analysis-running", "Another process is at work on this analysis.", "Wait for it, or stop it."
                ) from None
            except OSError as error:
                raise StoreError(
                    "store-unreachable", f"{self._path} cannot be opened: {error.strerror}.", "Check the folder."
                ) from None
            self._connection = sqlite3.connect(self._path, isolation_level=None)
            stack.callback(self._connection.close)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            if not self._connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'parts'").fetchone():
                self._connection.executescript(f"BEGIN;{_SCHEMA}COMMIT;")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def remove(self) -> None:
        """Delete the file: its result is safe elsewhere. Nothing else may be done with it afterwards."""
        for path in (self._path, *(self._path.with_name(self._path.name + end) for end in ("-wal", "-shm"))):
            path.unlink(missing_ok=True)
        _lock_of(self._path).unlink(missing_ok=True)

    def facts(self) -> Mapping[str, str]:
        """What the analysis was begun with; empty while the list of its fields is not complete."""
        with translated(self._path):
            return {str(name): str(value) for name, value in self._connection.execute("SELECT * FROM facts")}

    def enlist(self, folders: Iterable[tuple[str, Iterable[str]]], facts: Mapping[str, str], *, ordered: bool) -> None:
        """Write down the pieces, folder by folder, and the facts: all, or nothing.

        Paths that are not `ordered` are put in natural order (2 before 10) within their folder, by the disk: they are
        never all in memory.
        """
        execute = self._connection.execute
        with translated(self._path), self._transaction():
            execute("DELETE FROM names")
            for number, (name, paths) in enumerate(folders):
                execute("INSERT INTO folders VALUES (?, ?)", (number, os.fsencode(name)))
                self._connection.executemany(
                    "INSERT INTO names VALUES (?, ?, ?)",
                    (
                        (number, place.to_bytes(8, "big") if ordered else natural(path), os.fsencode(path))
                        for place, path in enumerate(paths)
                    ),
                )
            execute(
                """INSERT INTO pieces (number, folder, path) SELECT ROW_NUMBER() OVER (ORDER BY folder, sort, path) - 1,
                   folder, path FROM names ORDER BY folder, sort, path"""
            )
            execute("DELETE FROM names")
            self._connection.executemany("INSERT INTO facts VALUES (?, ?)", facts.items())

    def counts(self) -> tuple[int, int]:
        """How many pieces are done, and how many there are."""
        with translated(self._path):
            done, number = self._connection.execute("SELECT TOTAL(done), COUNT(*) FROM pieces").fetchone()
        return int(done), int(number)

    def pending(self) -> Iterator[Piece]:
        """Give the pieces that are not done, in order, a page at a time."""
        last = -1
        while True:
            with translated(self._path):
                page = self._connection.execute(
                    "SELECT number, path FROM pieces WHERE number > ? AND NOT done ORDER BY number LIMIT ?",
                    (last, _PAGE),
                ).fetchall()
            for number, path in page:
                yield Piece(int(number), os.fsdecode(path))
            if len(page) < _PAGE:
                return
            last = int(page[-1][0])

    def write(self, parts: Iterable[tuple[int, int, bytes]], done: Iterable[int]) -> None:
        """Keep parts, as (number, frame, data), and note which pieces are done: in one transaction."""
        with translated(self._path), self._transaction():
            self._connection.executemany("INSERT OR REPLACE INTO parts VALUES (?, ?, ?)", parts)
            self._connection.executemany("UPDATE pieces SET done = 1 WHERE number = ?", ((each,) for each in done))

    def path_of(self, number: int) -> str:
        """The path of a piece."""
        with translated(self._path):
            return os.fsdecode(
                self._connection.execute("SELECT path FROM pieces WHERE number = ?", (number,)).fetchone()[0]
            )

    def frames_of(self, number: int) -> int:
        """How many parts of a piece are kept."""
        with translated(self._path):
            row = self._connection.execute("SELECT COUNT(*) FROM parts WHERE number = ?", (number,)).fetchone()
        return int(row[0])

    def parts(self, first: int = 0, end: int = 1 << 62) -> Iterator[bytes]:
        """Read the parts of the pieces from `first` to before `end`, in order, a page at a time."""
        after = (first, -1)
        while True:
            with translated(self._path):
                page = self._connection.execute(
                    """SELECT number, frame, data FROM parts WHERE (number, frame) > (?, ?) AND number < ?
                       ORDER BY number, frame LIMIT ?""",
                    (*after, end, _PAGE),
                ).fetchall()
            yield from (bytes(data) for _, _, data in page)
            if len(page) < _PAGE:
                return
            after = page[-1][:2]

    def folders(self) -> Iterator[Folder]:
        """Give the folders that hold a piece, in order."""
        with translated(self._path):
            found = self._connection.execute(
                """SELECT name, MIN(pieces.number), MAX(pieces.number) FROM folders
                   JOIN pieces ON pieces.folder = folders.number GROUP BY folders.number ORDER BY folders.number"""
            )
            for name, first, last in found:
                yield Folder(os.fsdecode(name), int(first), int(last) + 1)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise


def natural(path: str) -> bytes:
    """Give bytes that sort as `edge.files.expand` orders the pictures of a folder: digits by value, without case."""
    pieces = _DIGITS.split(os.fsencode(path.casefold()))
    return b"".join(
        itertools.chain.from_iterable(
            (len(number := piece.lstrip(b"0")).to_bytes(2, "big"), number) if index % 2 else (piece, b"\0")
            for index, piece in enumerate(pieces)
        )
    )


def facts_text(value: object) -> str:
    """Write a fact as the one text that means it."""
    return json.dumps(value, sort_keys=True)


def _lock_of(path: Path) -> Path:
    return path.with_name(path.name + ".lock")

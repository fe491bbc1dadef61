"""Opens the store's file, encrypted or not: SQLCipher (AES-256, each page authenticated) with a key kept elsewhere.

Beside an encrypted store lies `NAME.encryption`, which says where its key is, never the key. Whoever opens the store
asks here; nobody else needs to know. How a store becomes encrypted: `edge.store.encrypting`.
"""

from __future__ import annotations

import os
import re
import sqlite3
import stat
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import msgspec

from edge.core.errors import StoreError

CREDENTIAL: Final = "credential:"
"""Begins the place of a key that the service manager hands over (LoadCredentialEncrypted= of systemd)."""

_PLAIN: Final = b"SQLite format 3\0"
_KEY: Final = re.compile(r"[0-9a-f]{64}")
_MAX_BYTES: Final = 4096
_loaded: list[type[Exception]] = [sqlite3.Error]


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the key of a store is: a file, or `credential:NAME`."""

    key: str


def errors() -> tuple[type[Exception], ...]:
    """What SQLite and, once it is loaded, SQLCipher raise."""
    return tuple(_loaded)


def note(path: Path) -> Path:
    """The file that says where the key of the store at `path` is."""
    return path.with_name(path.name + ".encryption")


def unfinished(path: Path) -> Path:
    """The copy that is being made when a store is encrypted."""
    return path.with_name(path.name + ".encrypting")


def is_plain(path: Path) -> bool:
    """Whether a file is a database that anybody can read."""
    with path.open("rb") as file:
        return file.read(len(_PLAIN)) == _PLAIN


def place(path: Path) -> str | None:
    """Where the key of a store is; None for one that is not encrypted. Raises `StoreError` `encryption-damaged`."""
    try:
        with note(path).open("rb") as file:
            return msgspec.json.decode(file.read(_MAX_BYTES), type=Place).key
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StoreError(
            "encryption-damaged",
            f"{note(path)} cannot be understood ({error}).",
            "Remove it, then say where the key is: leuko store encrypt --key KEY (the store itself is whole).",
        ) from None


def driver() -> ModuleType:
    """SQLCipher's module. Raises `StoreError` `encryption-missing`."""
    try:
        from sqlcipher3 import dbapi2
    except ImportError:
        raise StoreError(
            "encryption-missing",
            "An encrypted store needs SQLCipher, which is not installed; nothing was changed.",
            "pip install 'leukoscope[encryption]'",
        ) from None
    if dbapi2.Error not in _loaded:
        _loaded.append(dbapi2.Error)
    found: ModuleType = dbapi2
    return found


def read_key(where: str) -> str:
    """Read a key: 64 hexadecimal digits.

    Raises `StoreError`: `store-key-missing`, `store-key-exposed` (others may read it), `store-key-invalid`.
    """
    path = Path(where).expanduser()
    if where.startswith(CREDENTIAL):
        folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
        if not folder:
            raise StoreError(
                "store-key-missing",
                f"The key of the store is the credential {where.removeprefix(CREDENTIAL)!r}, which nobody handed over.",
                "Run this by its service, or as docs/encryption.md says: systemd-run -p LoadCredentialEncrypted=...",
            )
        path = Path(folder) / where.removeprefix(CREDENTIAL)
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        with path.open(encoding="ascii") as file:
            text = file.read(_MAX_BYTES).strip().lower()
    except FileNotFoundError:
        raise StoreError(
            "store-key-missing",
            f"The key of the store is not at {path}. The results are whole, and cannot be read without it.",
            "Put the stick with the key in, or say where the key is now: leuko store encrypt --key KEY",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(
            "store-key-invalid", f"The key at {path} cannot be read ({error}).", "Check the file, or use its copy."
        ) from None
    # What the service manager hands over shows the mask of its access list as the group's rights.
    if mode & 0o077 and not where.startswith(CREDENTIAL):
        raise StoreError(
            "store-key-exposed",
            f"{path} may be read by others on this machine (mode {mode:03o}).",
            f"Run: chmod 600 {path}  (on a stick without permissions: mount it with umask=077)",
        )
    if not _KEY.fullmatch(text):
        raise StoreError(
            "store-key-invalid", f"{path} holds no key of 64 hexadecimal digits.", "Use the file or its copy."
        )
    return text


def open_database(path: Path, target: str, **options: Any) -> sqlite3.Connection:
    """Connect to the store at `path` by the name or URI `target`, with its key where it has one.

    Takes the options of `sqlite3.connect`. Raises `StoreError`: as `read_key`, and `store-key-wrong`,
    `encryption-unfinished`; `sqlite3.Error` as that does.
    """
    where = place(path)
    if where is None:
        return _plainly(target, options)
    if path.exists() and path.stat().st_size and is_plain(path):
        raise StoreError(
            "encryption-unfinished",
            f"The encryption of {path} was interrupted at its last step; nothing is lost.",
            f"Run it again: leuko store encrypt --key {where}",
        )
    key = read_key(where)
    connection: sqlite3.Connection = driver().connect(target, **options)
    try:
        unlock(connection, path, key)
    except BaseException:
        connection.close()
        raise
    return connection


def _plainly(target: str, options: dict[str, Any]) -> sqlite3.Connection:
    connection: sqlite3.Connection = sqlite3.connect(target, **options)
    return connection


def unlock(connection: sqlite3.Connection, path: Path, key: str) -> None:
    """Give an open connection its key. Raises `StoreError` `store-key-wrong`."""
    connection.execute(f"PRAGMA key = \"x'{key}'\"")
    try:
        connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    except errors() as error:
        if "not a database" not in str(error):
            raise
        raise StoreError(
            "store-key-wrong",
            f"{path} is not opened by this key; it was left as it is.",
            "Use the key that it was encrypted with, or a copy of that: leuko store encrypt --key KEY",
        ) from None

"""An encrypted store: nothing readable on the disk, nothing lost on the way, one clear refusal without its key."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from test_store import corrected, made

from edge.core import durable
from edge.core.errors import StoreError, UsageError
from edge.core.types import Picture
from edge.store import database, encrypting, encryption
from edge.store.results import ResultStore

pytest.importorskip("sqlcipher3", reason="the extra `encryption` is not installed")

SAMPLE = "SAMPLE-4711-OF-OKAFOR"
PICTURE = b"\xff\xd8" + b"a picture that is easily found" * 40
WORDS = (b"4711", b"OKAFOR", b"easily found", b"student@1", b"CREATE TABLE", b"scope-7")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    (tmp_path / "stick").mkdir()
    encrypting.make_key(tmp_path / "stick" / "leuko.key")
    return tmp_path / "stick" / "leuko.key"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / "results.sqlite3"


def fill(path: Path, count: int = 5) -> list[str]:
    """Save results, one of them signed and one corrected; their ids."""
    saved = []
    with ResultStore(path) as store:
        for number in range(count):
            record = made(f"{SAMPLE}-{number}", pictures=(Picture("cell", 0, 0, PICTURE + bytes([number])),))
            store.save(record)
            saved.append(record.id)
        store.sign(saved[0], "Dr Okafor", "seen")
        if count > 1:
            second = store.get(saved[1])
            assert second is not None
            store.save(corrected(second), reason="wrong label")
    return saved


def assert_whole(path: Path, saved: list[str]) -> None:
    with ResultStore(path) as store:
        assert store.check_integrity() == () and store.verify_audit().intact
        for number, identifier in enumerate(saved):
            found = store.get(identifier, 1)
            assert found is not None and found.sample == f"{SAMPLE}-{number}"
            assert found.pictures == (Picture("cell", 0, 0, PICTURE + bytes([number])),)
        assert len(store.outbox()) == len(saved) + 2


def readable(folder: Path) -> list[str]:
    """What of the known words stands in any file of a folder, as it lies on the disk."""
    return [
        f"{file.name}: {word!r}"
        for file in folder.rglob("*")
        if file.is_file()
        for word in WORDS
        if word.lower() in file.read_bytes().lower()
    ]


def tree(folder: Path) -> dict[str, str]:
    return {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in folder.iterdir()}


def refused(code: str, act: Callable[[], Any]) -> StoreError:
    with pytest.raises(StoreError) as caught:
        act()
    assert caught.value.code == code and caught.value.cure, caught.value
    return caught.value


def opened(path: Path) -> None:
    with ResultStore(path) as store:
        store.verify_audit()


def test_nothing_readable_is_on_the_disk(path: Path, key: Path, tmp_path: Path) -> None:
    # The same search finds what it looks for where nothing is encrypted.
    (tmp_path / "plain").mkdir()
    fill(tmp_path / "plain" / "results.sqlite3")
    assert len(readable(tmp_path / "plain")) >= len(WORDS)
    encrypting.encrypt(path, str(key))  # a new store
    saved = fill(path)
    with ResultStore(path) as store:  # with its log beside it
        store.save(made(f"{SAMPLE}-open"))
        assert path.with_name(path.name + "-wal").stat().st_size > 0
        assert readable(path.parent) == []
    assert not path.read_bytes().startswith(b"SQLite format 3")
    assert key.read_text().strip() not in encryption.note(path).read_text()
    with ResultStore(path) as store:
        assert store.get(saved[0], 1) is not None
    with closing(sqlite3.connect(path)) as connection, pytest.raises(sqlite3.DatabaseError):
        connection.execute("SELECT * FROM results")


def test_a_store_that_is_there_is_encrypted_whole(path: Path, key: Path) -> None:
    saved = fill(path)
    with ResultStore(path) as store:
        head = store.verify_audit().head
    assert not encrypting.standing(path).encrypted
    encrypting.encrypt(path, str(key))
    assert readable(path.parent) == []
    assert_whole(path, saved)
    with ResultStore(path) as store:
        assert store.verify_audit(head).intact
    found = encrypting.standing(path)
    assert found.encrypted and found.key == str(key) and found.cipher
    fill(path)  # it goes on
    # The key moves to another stick: the store learns where it is.
    moved = key.rename(key.with_name("other.key"))
    refused("store-key-missing", lambda: opened(path))
    encrypting.encrypt(path, str(moved))
    opened(path)


def test_a_missing_wrong_or_exposed_key_is_refused_and_nothing_changes(
    path: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encrypting.encrypt(path, str(key))
    saved = fill(path)
    before = tree(path.parent)
    right = key.read_text()
    key.unlink()
    assert "stick" in refused("store-key-missing", lambda: opened(path)).cure
    encrypting.make_key(key)
    refused("store-key-wrong", lambda: opened(path))
    refused("store-key-wrong", lambda: encrypting.encrypt(path, str(key)))
    key.chmod(0o644)
    assert "chmod 600" in refused("store-key-exposed", lambda: opened(path)).cure
    key.chmod(0o600)
    for text in ("", "ab", "zz" * 32, right.strip() + "00"):
        key.write_text(text)
        refused("store-key-invalid", lambda: opened(path))
    with pytest.raises(UsageError, match="already"):
        encrypting.make_key(key)
    note = encryption.note(path).read_bytes()
    encryption.note(path).write_text("{")
    refused("encryption-damaged", lambda: opened(path))
    encryption.note(path).write_bytes(note)
    assert tree(path.parent) == before
    key.write_text(right)
    assert_whole(path, saved)
    # By the service manager: the folder of its credentials, which only the service can read.
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "leuko-store").write_text(right)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    encrypting.encrypt(path, "credential:leuko-store")
    key.unlink()
    assert_whole(path, saved)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    assert "LoadCredentialEncrypted" in refused("store-key-missing", lambda: opened(path)).cure


def test_without_the_library_the_cure_is_named(path: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encrypting.encrypt(path, str(key))
    monkeypatch.setitem(sys.modules, "sqlcipher3", None)
    assert "leukoscope[encryption]" in refused("encryption-missing", lambda: opened(path)).cure


def test_a_store_in_use_is_left_as_it_is(path: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = fill(path)
    # In a process of its own: locks are a process's, and this one would have two libraries at one file.
    words = [sys.executable, "-c", HOLDER, str(path), saved[0]]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(each or str(Path.cwd()) for each in sys.path)}
    with subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"open\n"
        monkeypatch.setattr(database, "BUSY_SECONDS", 0.2)
        refused("store-in-use", lambda: encrypting.encrypt(path, str(key)))
        other.communicate(b"\n")
    assert not encryption.note(path).exists()
    assert_whole(path, saved)
    encrypting.encrypt(path, str(key))
    assert_whole(path, saved)


HOLDER = """
import sys
from pathlib import Path
from edge.store.results import ResultStore
with ResultStore(Path(sys.argv[1])) as store:
    assert store.get(sys.argv[2]) is not None
    print("open", flush=True)
    sys.stdin.readline()
"""


class _StoppedError(BaseException):
    """As if the process had ended there."""


STEPS = {
    "before the copy": (encrypting, "_fill"),
    "in the copy": (encrypting, "_compare"),
    "after the copy": (encrypting, "_write_note"),
    "after the note": (encrypting, "_replace"),
    "before the new name": (Path, "rename"),
    "after the new name": (durable, "sync_folder"),
}


@pytest.mark.parametrize("step", STEPS)
def test_whenever_it_stops_nothing_is_lost(path: Path, key: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    saved = fill(path)
    owner, name = STEPS[step]

    def stop(*_: Any, **__: Any) -> None:
        raise _StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, stop)
        if step == "after the new name":  # the note's own folder is synced before
            patch.setattr(encrypting, "_write_note", _noted)
        with pytest.raises(_StoppedError):
            encrypting.encrypt(path, str(key))
    try:
        assert_whole(path, saved)
    except StoreError as error:
        # Between two names nobody may write; the cure is to run it again.
        assert error.code == "encryption-unfinished" and "leuko store encrypt" in error.cure
        assert step in {"after the note", "before the new name"}
    encrypting.encrypt(path, str(key))
    assert_whole(path, saved)
    assert readable(path.parent) == []


def _noted(path: Path, where: str) -> None:
    encryption.note(path).write_text(json.dumps({"key": where}))


def test_a_copy_is_a_backup_with_its_key_or_for_everybody(path: Path, key: Path, tmp_path: Path) -> None:
    encrypting.encrypt(path, str(key))
    saved = fill(path)
    (tmp_path / "backup").mkdir()
    safe, open_to_all = tmp_path / "backup" / "a.sqlite3", tmp_path / "open.sqlite3"
    with ResultStore(path) as store:  # while it is in use
        store.get(saved[0])
        encrypting.copy(path, safe, plain=False)
    assert readable(safe.parent) == [] and safe.stat().st_mode & 0o777 == 0o600
    assert_whole(safe, saved)
    encrypting.copy(path, open_to_all, plain=True)
    assert encryption.is_plain(open_to_all) and not encryption.note(open_to_all).exists()
    assert_whole(open_to_all, saved)
    with pytest.raises(UsageError):
        encrypting.copy(path, safe, plain=False)
    # A store that was never encrypted is copied too.
    encrypting.copy(open_to_all, tmp_path / "again.sqlite3", plain=False)
    assert_whole(tmp_path / "again.sqlite3", saved)


def test_a_page_that_was_changed_is_not_read(path: Path, key: Path) -> None:
    encrypting.encrypt(path, str(key))
    fill(path, 40)
    data = bytearray(path.read_bytes())
    for place in range(4096 * 3, len(data), 4096):
        data[place + 100] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError) as caught, ResultStore(path) as store:
        store.check_integrity()
        for entry in store.outbox():
            store.get(entry.id)
    assert caught.value.cure


def test_a_person_encrypts_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from edge.cli.main import app
    from edge.health import doctor

    monkeypatch.setenv("LEUKO_DATA_FOLDER", str(tmp_path / "data"))
    path, key = tmp_path / "data" / "results.sqlite3", tmp_path / "leuko.key"

    def run(*words: object) -> str:
        done = CliRunner().invoke(app, ["store", *map(str, words)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    run("key", key)
    assert key.stat().st_mode & 0o777 == 0o600 and len(key.read_text().strip()) == 64
    assert "encrypted" in run("encrypt", "--key", key)
    shown = json.loads(run("status", "--json"))
    assert (shown["encrypted"], shown["key"], shown["store"]) == (True, str(key), str(path))
    saved = fill(path)
    run("copy", tmp_path / "open.sqlite3", "--plain")
    assert_whole(tmp_path / "open.sqlite3", saved)
    assert doctor.database_sound(path).verdict == "ok"
    key.rename(tmp_path / "elsewhere")
    found = doctor.database_sound(path)
    assert found.verdict == "fail" and "key" in found.evidence and "stick" in found.cure

"""Files that are no store, or no longer one: each is refused with its cure and left as it is. And migrations."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from test_store import made

from edge.core.errors import StoreError
from edge.store import database, migrations
from edge.store.migrations import MIGRATIONS, Migration
from edge.store.results import ResultStore


def refusal(path: Path, *, read_only: bool = False) -> StoreError:
    with pytest.raises(StoreError) as caught, ResultStore(path, read_only=read_only):
        pytest.fail("the store was opened")
    assert caught.value.cure
    return caught.value


def stored(path: Path, count: int = 40) -> Path:
    with ResultStore(path) as store:
        for _ in range(count):
            store.save(made())
    return path


def garbage(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(50_000))


def text(path: Path) -> None:
    path.write_text("sample,neutrophil\n" * 500)


def damaged_header(path: Path) -> None:
    stored(path)
    data = bytearray(path.read_bytes())
    data[:100] = bytes(100)
    path.write_bytes(data)


def truncated(path: Path) -> None:
    stored(path)
    path.write_bytes(path.read_bytes()[: 3 * 4096 + 17])


def first_page_scrambled(path: Path) -> None:
    stored(path)
    data = bytearray(path.read_bytes())
    data[100:4096] = random.Random(2).randbytes(3996)
    path.write_bytes(data)


def emptied_beside_its_log(path: Path) -> None:
    with ResultStore(path) as store:
        store.save(made())
        log = path.with_name(path.name + "-wal").read_bytes()
    path.write_bytes(b"")
    path.with_name(path.name + "-wal").write_bytes(log)


def of_another_program(path: Path) -> None:
    raw = sqlite3.connect(path)
    raw.execute("CREATE TABLE bookmarks (place TEXT)")
    raw.commit()
    raw.close()


def marked_by_another_program(path: Path) -> None:
    raw = sqlite3.connect(path)
    raw.execute("PRAGMA application_id = 12345")
    raw.commit()
    raw.close()


def of_a_newer_version(path: Path) -> None:
    stored(path)
    raw = sqlite3.connect(path)
    raw.execute("INSERT INTO migrations VALUES (?, 'of-the-future', '2030-01-01')", (len(MIGRATIONS) + 1,))
    raw.commit()
    raw.close()


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize(
    ("make", "code"),
    [
        (garbage, "not-a-database"),
        (text, "not-a-database"),
        (damaged_header, "not-a-database"),
        (truncated, "store-damaged"),
        (first_page_scrambled, "store-damaged"),
        (emptied_beside_its_log, "store-damaged"),
        (of_another_program, "foreign-database"),
        (marked_by_another_program, "foreign-database"),
        (of_a_newer_version, "newer-schema"),
    ],
)
def test_a_file_that_is_no_store_is_left_as_it_is(
    tmp_path: Path, make: Callable[[Path], None], code: str, read_only: bool
) -> None:
    path = tmp_path / "results.db"
    make(path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert refusal(path, read_only=read_only).code == code
    after = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert {name: after[name] for name in before} == before


def test_damage_within_is_told_and_never_shown_as_a_result(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    saved = [made(f"S-{number}") for number in range(60)]
    with ResultStore(path) as store:
        for record in saved:
            store.save(record)
    whole = path.read_bytes()
    source = random.Random(3)
    told = 0
    for _ in range(150):
        data = bytearray(whole)
        place = source.randrange(4096, len(data) - 64)
        data[place : place + 64] = source.randbytes(64)
        path.write_bytes(data)
        try:
            with ResultStore(path) as store:
                found = [store.latest(record.sample) for record in saved]
                # A damaged index may hide a row until the file is checked; what is shown is always what was saved.
                assert all(shown is None or shown == record for shown, record in zip(found, saved, strict=True))
                if store.check_integrity() or not store.verify_audit().intact:
                    told += 1
                else:
                    assert found == saved
        except StoreError as error:
            assert error.code in {"store-damaged", "result-altered", "store-failed", "not-a-database"}
            assert error.cure
            told += 1
        for ending in ("-wal", "-shm"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
    assert told > 0


def test_places_that_hold_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert refusal(tmp_path).code == "is-a-folder"
    assert refusal(tmp_path / "missing" / "results.db").code == "missing-folder"
    assert refusal(tmp_path / "file" / "results.db").code == "missing-folder"
    assert refusal(tmp_path / "results.db", read_only=True).code == "no-store"
    assert not (tmp_path / "results.db").exists()
    assert refusal(tmp_path / "file", read_only=True).code == "older-schema"


@pytest.mark.parametrize("name", [":memory:", "file:x?mode=memory", "a b#c?d%20.db", "Blut-ß.db", "\udcff.db"])
def test_any_name_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    record = made()
    with ResultStore(name) as store:
        store.save(record)
    assert (tmp_path / name).stat().st_size > 0
    with ResultStore(name, read_only=True) as store:
        assert store.latest("S-1") == record


def test_an_interrupted_first_start_can_be_repeated(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    path.touch()
    assert stored(path, 1).stat().st_size > 0


def test_another_writer_is_waited_for_and_then_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = stored(tmp_path / "results.db", 1)
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with ResultStore(path) as store:
            with pytest.raises(StoreError) as caught:
                store.save(made())
            assert caught.value.code == "store-locked"
            assert store.latest("S-1") is not None
            other.execute("ROLLBACK")
            store.save(made())
            assert store.verify_audit().entries == 2
    finally:
        other.close()


def test_a_file_in_use_by_something_else_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = stored(tmp_path / "results.db", 1)
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    assert refusal(path).code == "store-locked"
    other.close()


SECOND = Migration("second-step", ("CREATE TABLE notes (id TEXT)", "INSERT INTO notes VALUES ('kept')"))
BROKEN = Migration("broken-step", ("CREATE TABLE notes (id TEXT)", "INSERT INTO nowhere VALUES (1)"))


def tables(path: Path) -> set[str]:
    raw = sqlite3.connect(path)
    names = {str(row[0]) for row in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    raw.close()
    return names


def test_a_newer_version_brings_an_older_store_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = stored(tmp_path / "results.db", 3)
    monkeypatch.setattr(migrations, "MIGRATIONS", (*MIGRATIONS, SECOND))
    assert refusal(path, read_only=True).code == "older-schema"
    for _ in range(2):
        with ResultStore(path) as store:
            assert store.verify_audit().entries == 3
    assert "notes" in tables(path)
    monkeypatch.setattr(migrations, "MIGRATIONS", MIGRATIONS)
    assert refusal(path).code == "newer-schema"


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = stored(tmp_path / "results.db", 3)
    before = tables(path)
    monkeypatch.setattr(migrations, "MIGRATIONS", (*MIGRATIONS, BROKEN))
    assert refusal(path).code == "store-failed"
    assert tables(path) == before
    monkeypatch.setattr(migrations, "MIGRATIONS", MIGRATIONS)
    with ResultStore(path) as store:
        assert store.verify_audit().entries == 3


def test_a_write_protected_disk_can_be_read(root: Path, tmp_path: Path) -> None:
    stored(tmp_path / "results.db", 2)
    disk = tmp_path / "disk"
    disk.mkdir()
    read = (
        "import sys; from edge.store.results import ResultStore; from edge.core.errors import StoreError\n"
        "with ResultStore(sys.argv[1], read_only=True) as store: print(store.verify_audit().entries)\n"
        "try:\n"
        "    with ResultStore(sys.argv[1]) as store: store.sign(store.outbox()[0].id, 'Ann')\n"
        "except StoreError as error: print(error.code)\n"
    )
    script = (
        'mount -t tmpfs -o size=4m tmpfs "$1" && cp "$2" "$1" && mount -o remount,bind,ro "$1" && '
        'exec "$3" -c "$4" "$1/results.db"'
    )
    if shutil.which("unshare") is None:
        pytest.skip("this system has no unshare")
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run(
        [*unshare, "mount", "-t", "tmpfs", "tmpfs", str(disk)], check=False, capture_output=True
    ).returncode:
        pytest.skip("this system lets nobody mount a small disk")
    done = subprocess.run(
        [*unshare, "sh", "-c", script, "sh", str(disk), str(tmp_path / "results.db"), sys.executable, read],
        cwd=root,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["2", "store-read-only"], done.stderr

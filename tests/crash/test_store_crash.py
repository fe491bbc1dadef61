"""What was reported as saved survives a kill at any moment, a log cut by a power failure, and a full disk."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import saver

from edge.core.identifiers import uuid7
from edge.core.types import ResultRecord
from edge.store import encrypting
from edge.store.results import ResultStore

KILLS = 200
SAVER = Path(saver.__file__)


def command(root: Path, *words: str) -> tuple[list[str], dict[str, str]]:
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    return [sys.executable, str(SAVER), *words], {**os.environ, "PYTHONPATH": path}


@contextlib.contextmanager
def children(root: Path) -> Iterator[subprocess.Popen[str]]:
    words, environment = command(root, "serve")
    with subprocess.Popen(
        words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as server:
        try:
            yield server
        finally:
            assert server.stdin is not None
            server.stdin.close()


def run_and_kill(
    server: subprocess.Popen[str], work: str, path: Path, seconds: float, after: int = 0
) -> list[list[str]]:
    """Let a child work on `path`, kill it some time after so many reports, and return all that it reported."""
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(f"{work} {path}\n")
    reports = []
    child = 0
    # A child may report before its parent says that it has started.
    while not child or len(reports) < after:
        words = server.stdout.readline().split()
        if words[0] == "started":
            child = int(words[1])
        else:
            reports.append(words)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    while (words := server.stdout.readline().split())[0] != "gone":
        reports.append(words)
    assert words == ["gone", str(-signal.SIGKILL)]
    return reports


def assert_whole(record: ResultRecord | None, version: int) -> None:
    assert record is not None
    expected = saver.made(record.id)
    assert (record.version, record.status) == (version, "preliminary" if version == 1 else "final")
    assert (record.sample, record.document, record.pictures) == (expected.sample, expected.document, expected.pictures)


def assert_sound(store: ResultStore, known_link: str | None = None) -> str:
    assert store.check_integrity() == ()
    verdict = store.verify_audit(known_link)
    assert verdict.problems == ()
    # Each link of the chain has its place in the outbox: nothing was written by half.
    assert len(store.outbox()) == verdict.entries
    return verdict.head


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_nothing_reported_as_saved_is_lost_by_killing(root: Path, tmp_path: Path, encrypted: bool) -> None:
    if encrypted:
        pytest.importorskip("sqlcipher3", reason="the extra `encryption` is not installed")
        encrypting.make_key(tmp_path / "key")
    kills = KILLS // 5 if encrypted else KILLS
    moments = random.Random(20_260_101)
    killed_after_a_save = 0
    with children(root) as server:
        for number in range(kills):
            if number % 10 == 0:
                path = tmp_path / f"{number}.db"
                reported: dict[tuple[str, int], None] = {}
                head = None
                if encrypted:
                    encrypting.encrypt(path, str(tmp_path / "key"))
            # On a slow machine time alone would kill most children before their first save, and mid-save hardly any.
            after = moments.choice([0, 0, 1, 2, 3, 5])
            seconds = moments.uniform(0, 0.03 if after == 0 else 0.01)
            reports = run_and_kill(server, "save", path, seconds, after)
            new = [(identifier, int(version)) for _, identifier, version in reports]
            reported.update(dict.fromkeys(new))
            killed_after_a_save += bool(new)
            with ResultStore(path) as store:
                head = assert_sound(store, head if head and head != "0" * 64 else None)
                for identifier, version in new:
                    assert_whole(store.get(identifier, version), version)
                kept = {(entry.id, entry.version) for entry in store.outbox()}
                assert kept >= reported.keys()
    assert killed_after_a_save >= kills / 2


def test_a_durable_file_is_always_one_whole_copy(root: Path, tmp_path: Path) -> None:
    moments = random.Random(7)
    with children(root) as server:
        for number in range(50):
            path = tmp_path / f"{number}.txt"
            reports = run_and_kill(server, "write", path, moments.uniform(0, 0.01), moments.choice([0, 1, 3]))
            last = int(reports[-1][1]) if reports else 0
            if last or path.exists():
                lines = path.read_text().split()
                assert len(lines) == 5_000
                assert set(lines) in ({str(last)}, {str(last + 1)})


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[str, int]]]:
    """A store as a power cut leaves it: a database, and a log with every save still in it.

    With each saved id comes how long the log was when `save` returned.
    """
    folder = tmp_path_factory.mktemp("interrupted")
    saves = []
    with ResultStore(folder / "live.db") as store:
        log = folder / "live.db-wal"
        for _ in range(25):
            record = saver.made(uuid7(), pictures=1)
            store.save(record)
            saves.append((record.id, log.stat().st_size))
        shutil.copy(folder / "live.db", folder / "cut.db")
        shutil.copy(log, folder / "cut.db-wal")
    assert [size for _, size in saves] == sorted({size for _, size in saves}), "the log was emptied in between"
    return folder / "cut.db", saves


def cut_copy(interrupted: Path, folder: Path, log: bytes) -> Path:
    path = folder / "store.db"
    shutil.copy(interrupted, path)
    path.with_name("store.db-wal").write_bytes(log)
    path.with_name("store.db-shm").unlink(missing_ok=True)
    return path


def survivors(path: Path, ids: list[str]) -> int:
    """How many of the ids, in the order they were saved, are there; none may be missing before them."""
    with ResultStore(path) as store:
        assert_sound(store)
        there = [store.get(identifier) is not None for identifier in ids]
    count = sum(there)
    assert there == [True] * count + [False] * (len(ids) - count)
    return count


def test_a_log_cut_anywhere_keeps_every_save_before_the_cut(
    interrupted: tuple[Path, list[tuple[str, int]]], tmp_path: Path
) -> None:
    base, saves = interrupted
    log = base.with_name("cut.db-wal").read_bytes()
    ids = [identifier for identifier, _ in saves]
    places = random.Random(1)
    exact = [size for _, size in saves]
    for length in exact + [size - 1 for size in exact] + [places.randrange(len(log)) for _ in range(60)]:
        path = cut_copy(base, tmp_path, log[:length])
        assert survivors(path, ids) == sum(size <= length for size in exact)


def test_a_torn_last_frame_loses_only_what_was_not_yet_reported(
    interrupted: tuple[Path, list[tuple[str, int]]], tmp_path: Path
) -> None:
    base, saves = interrupted
    log = base.with_name("cut.db-wal").read_bytes()
    ids = [identifier for identifier, _ in saves]
    places = random.Random(2)
    begun, end = saves[-2][1], saves[-1][1]
    for _ in range(60):
        torn = bytearray(log[:end])
        place = places.randrange(begun, end)
        kind = places.choice(["zeros", "noise", "bit"])
        if kind == "bit":
            torn[place] ^= 1 << places.randrange(8)
        else:
            torn[place:] = bytes(end - place) if kind == "zeros" else places.randbytes(end - place)
        kept = survivors(cut_copy(base, tmp_path, bytes(torn)), ids)
        assert kept == len(ids) - (bytes(torn) != log[:end])


def test_saving_goes_on_after_a_power_cut(interrupted: tuple[Path, list[tuple[str, int]]], tmp_path: Path) -> None:
    base, saves = interrupted
    log = base.with_name("cut.db-wal").read_bytes()
    path = cut_copy(base, tmp_path, log[: saves[10][1] + 100])
    again = saver.made(saves[11][0], pictures=1)
    with ResultStore(path) as store:
        store.save(again)
        assert store.get(again.id) == again
        assert_sound(store)


def filled(words: list[str], environment: dict[str, str]) -> dict[str, object]:
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def assert_kept(found: dict[str, object], codes: set[str]) -> None:
    assert isinstance(found["saved"], list)
    assert isinstance(found["codes"], list)
    assert len(found["saved"]) > 3
    assert len(found["codes"]) == 3
    assert set(found["codes"]) <= codes
    assert found["kept"] == found["saved"]
    assert found["intact"] is True
    assert found["sound"] is True


def test_a_quota_that_is_used_up_loses_nothing_saved(root: Path, tmp_path: Path) -> None:
    words, environment = command(root, "fill", str(tmp_path / "store.db"), "1500000")
    assert_kept(filled(words, environment), {"disk-full", "disk-error"})


def test_a_full_disk_loses_nothing_saved(root: Path, tmp_path: Path) -> None:
    words, environment = command(root, "fill", str(tmp_path / "store.db"), "0")
    mount = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    script = f'mount -t tmpfs -o size=4m tmpfs "{tmp_path}" && exec "$@"'
    probe = (
        subprocess.run([*mount, script, "sh", "true"], capture_output=True, check=False)
        if shutil.which("unshare")
        else None
    )
    if probe is None or probe.returncode:
        pytest.skip("this system lets nobody mount a small disk")
    assert_kept(filled([*mount, script, "sh", *words], environment), {"disk-full"})

"""What a user is told when the disk, the store, the model or the reader of the answer lets the command down."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import commands
import pytest
from commands import assert_refused, leuko

from edge.bundle import find
from edge.core.labels import LABELS

# What root may do in spite of a file's mode.
POWERS = "-dac_override,-dac_read_search"


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return commands.draw_files(tmp_path_factory.mktemp("fields"), 1)[0]


@pytest.fixture(scope="module")
def ordinary() -> list[str]:
    """A command that starts another with no more rights than an ordinary user has over files of his own."""
    if os.geteuid() != 0:
        return []
    words = ["setpriv", f"--bounding-set={POWERS}"]
    if not shutil.which("setpriv") or subprocess.run([*words, "true"], check=False, capture_output=True).returncode:
        pytest.skip("root cannot be kept from writing everywhere here")
    return words


def limited(size: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def samples(home: Path) -> list[str]:
    listed = leuko(home, "report", "--json")
    assert listed.code == 0, listed.err
    return list(listed.document)


def test_a_quota_too_small_for_a_store(field: Path, tmp_path: Path) -> None:
    done = leuko(tmp_path, "analyze", field, "--sample", "S", "--json", setup=limited(8_000))
    assert_refused(done, 3)
    assert any(f"[{code}]" in done.err for code in ("disk-full", "disk-error"))


def test_a_quota_too_small_for_one_more_result_loses_none_before_it(field: Path, tmp_path: Path) -> None:
    assert leuko(tmp_path, "analyze", field, "--sample", "before").code == 0
    size = commands.store_of(tmp_path).stat().st_size
    done = leuko(tmp_path, "analyze", field, "--sample", "S", "--json", setup=limited(min(size, 60_000)))
    assert_refused(done, 3)
    assert "saved" not in done.err
    assert samples(tmp_path) == ["before"]
    assert leuko(tmp_path, "analyze", field, "--sample", "after").code == 0
    assert samples(tmp_path) == ["after", "before"]


def test_a_full_disk(field: Path, tmp_path: Path) -> None:
    mount = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    script = f'mount -t tmpfs -o size=100k tmpfs "{tmp_path}" && exec "$@"'
    tried = [*mount, script, "sh"]
    if not shutil.which("unshare") or subprocess.run([*tried, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a small disk")
    store = str(tmp_path / "store")
    assert_refused(leuko(tmp_path, "analyze", field, before=tried, LEUKO_DATA_FOLDER=store), 3, "disk-nearly-full")
    # Whoever takes samples to the last byte is told when it is taken.
    site = tmp_path.with_name(f"{tmp_path.name}.toml")
    site.write_text("[storage]\nrefuse_below_megabytes = 0\n")
    full = leuko(tmp_path, "--config", str(site), "analyze", field, before=tried, LEUKO_DATA_FOLDER=store)
    assert_refused(full, 3, "disk-full")


def test_no_space_for_the_report_still_keeps_the_result(field: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    done = leuko(tmp_path, "analyze", field, "--sample", "S", "--out", "taken", "--json")
    assert done.document["sample"] == "S", "the answer does not depend on the report"
    assert_refused(replace(done, out=""), 3, "saved ", "folder-not-writable")
    assert samples(tmp_path) == ["S"]


def test_folders_that_may_not_be_written(field: Path, tmp_path: Path, ordinary: list[str]) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    for folder, words in (("locked", ("[read-only]", "locked")), ("locked/below", ("locked/below",))):
        done = leuko(tmp_path, "analyze", field, "--sample", "S", "--out", folder, before=ordinary)
        assert "cells counted" in done.out, "the answer does not depend on the report"
        assert_refused(replace(done, out=""), 3, "saved ", *words)
    assert samples(tmp_path) == ["S"]
    for folder in ("locked", "locked/below"):
        done = leuko(tmp_path, "analyze", field, before=ordinary, LEUKO_DATA_FOLDER=folder)
        assert_refused(done, 3, "locked")
        assert "saved" not in done.err
    assert_refused(leuko(tmp_path, "demo", "--fields", "1", "--out", "locked/demo", before=ordinary), 3, "locked")


def test_a_store_that_may_not_be_written_can_still_be_read(field: Path, tmp_path: Path, ordinary: list[str]) -> None:
    assert leuko(tmp_path, "analyze", field, "--sample", "S").code == 0
    store = commands.store_of(tmp_path)
    store.chmod(0o400)
    store.parent.chmod(0o500)
    try:
        assert_refused(leuko(tmp_path, "analyze", field, before=ordinary), 3, "store-read-only")
        read = leuko(tmp_path, "report", "S", "--json", before=ordinary)
        assert read.code == 0, read.err
        assert read.document["sample"] == "S"
    finally:
        store.parent.chmod(0o700)


def test_a_store_that_is_not_one_is_left_as_it_is(field: Path, tmp_path: Path) -> None:
    store = commands.store_of(tmp_path)
    store.parent.mkdir(parents=True)
    store.write_bytes(b"no database " * 1000)
    for words in (["analyze", str(field)], ["report"], ["report", "S"]):
        assert_refused(leuko(tmp_path, *words), 3, "not-a-database")
    assert store.read_bytes() == b"no database " * 1000


def test_a_damaged_store_is_told(field: Path, tmp_path: Path) -> None:
    assert leuko(tmp_path, "analyze", field, "--sample", "S").code == 0
    store = commands.store_of(tmp_path)
    data = bytearray(store.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    store.write_bytes(data)
    assert_refused(leuko(tmp_path, "report", "S", "--json"), 3, "store-damaged")
    assert_refused(leuko(tmp_path, "analyze", field), 3, "store-damaged")


def test_an_altered_result_is_not_shown(field: Path, tmp_path: Path) -> None:
    assert leuko(tmp_path, "analyze", field, "--sample", "S").code == 0
    with sqlite3.connect(commands.store_of(tmp_path)) as connection:
        triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in triggers:
            connection.execute(f'DROP TRIGGER "{name}"')
        connection.execute("UPDATE results SET document = replace(document, 'neutrophil', 'lymphocyte')")
        assert connection.total_changes == 1
    connection.close()
    assert_refused(leuko(tmp_path, "report", "S", "--json"), 3)


def test_no_store_yet(tmp_path: Path) -> None:
    """What a new user sees first."""
    done = leuko(tmp_path, "report")
    assert_refused(done, 3, "Analyse a sample first")


@pytest.mark.parametrize("words", [["analyze"], ["classify"], ["demo"], ["bench"], ["model", "show"]])
def test_a_missing_bundle(words: list[str], field: Path, tmp_path: Path) -> None:
    more = [str(field)] if words[0] in {"analyze", "classify"} else []
    assert_refused(leuko(tmp_path, *words, *more, LEUKO_BUNDLE="absent"), 3, "bundle-missing", "absent")


def test_a_damaged_bundle_counts_nothing(field: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(find.default(), folder)
    (network,) = folder.glob("*int8.tflite")
    data = bytearray(network.read_bytes())
    data[len(data) // 2] ^= 1
    network.write_bytes(data)
    for words in (["analyze", field], ["classify", field], ["demo"]):
        assert_refused(leuko(tmp_path, *words, LEUKO_BUNDLE=str(folder)), 3, "bundle-damaged", network.name)
    manifest = folder / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:500])
    assert_refused(leuko(tmp_path, "classify", field, LEUKO_BUNDLE=str(folder)), 3, "manifest-invalid")
    done = leuko(tmp_path, "doctor", "--json", LEUKO_BUNDLE=str(folder))
    assert done.code == 3
    assert done.document["verdict"] == "fail"


def piped(home: Path, reader: str, *words: str | Path) -> tuple[int, str, str]:
    """Run the command into a shell's reader: its own exit code, what the reader kept, and standard error."""
    done = subprocess.run(
        ["bash", "-c", f'"$@" | {reader}; exit "${{PIPESTATUS[0]}}"', "bash", *commands.LEUKO, *map(str, words)],
        cwd=home,
        env=commands.environment(home),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    cells = commands.draw_cells(tmp_path / "cells", LABELS * 3)
    code, kept, err = piped(tmp_path, "head -n 1", "classify", "--json", *cells)
    assert (code, err) == (0, "")
    assert json.loads(kept)["file"] == str(cells[0])
    for words in (["doctor"], ["model", "show"], ["analyze", cells[0]], ["--help"]):
        _, _, err = piped(tmp_path, "true", *words)
        assert "Traceback" not in err and "Exception ignored" not in err and "error" not in err, words


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_a_result_is_saved_though_nobody_listens(field: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    words = '"$@" 2>&1 >/dev/null | true; exit "${PIPESTATUS[0]}"'
    done = subprocess.run(
        ["bash", "-c", words, "bash", *commands.LEUKO, "analyze", bad, field, "--sample", "S"],
        cwd=tmp_path,
        env=commands.environment(tmp_path),
        timeout=300,
        check=False,
    )
    assert done.returncode == 1
    assert samples(tmp_path) == ["S"]


def test_a_result_is_saved_with_every_stream_closed(field: Path, tmp_path: Path) -> None:
    words = [*commands.LEUKO, "analyze", str(field), "--sample", "S", "--json"]
    done = subprocess.run(
        ["sh", "-c", '"$@" <&- >&- 2>&-', "sh", *words],
        cwd=tmp_path,
        env=commands.environment(tmp_path),
        timeout=300,
        check=False,
    )
    assert done.returncode == 0
    assert samples(tmp_path) == ["S"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_an_answer_that_cannot_be_written_is_told(field: Path, tmp_path: Path, as_json: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*commands.LEUKO, "analyze", str(field), "--sample", "S", *as_json],
            cwd=tmp_path,
            env=commands.environment(tmp_path),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=300,
            check=False,
        )
    assert_refused(commands.Done(done.returncode, "", done.stderr), 3, "answer-not-written")
    assert samples(tmp_path) == ["S"]


def test_a_terminal_with_few_letters_is_no_obstacle(tmp_path: Path) -> None:
    (cell,) = commands.draw_cells(tmp_path / "образец", ["monocyte"])
    done = leuko(tmp_path, "classify", cell, PYTHONIOENCODING="latin-1:strict")
    assert done.code == 0, done.err
    assert "monocyte.png" in done.out


def interrupted(home: Path, words: list[str], seconds: float) -> commands.Done:
    """Press Ctrl-C that long after the demo's store is there."""
    with subprocess.Popen(
        [*commands.LEUKO, *words],
        cwd=home,
        env=commands.environment(home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  (no thread runs here)
    ) as child:
        deadline = time.monotonic() + 60
        while not list(home.glob("*/store/results.sqlite3")) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(seconds)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    return commands.Done(child.returncode, out.decode(), err.decode())


@pytest.mark.parametrize("seconds", [0.0, 0.2, 1.5])
def test_ctrl_c_ends_with_one_message_and_nothing_half_saved(tmp_path: Path, seconds: float) -> None:
    done = interrupted(tmp_path, ["demo", "--fields", "500", "--json"], seconds)
    assert_refused(done, 130, "Interrupted")
    assert len(done.err.splitlines()) == 1
    listed = leuko(tmp_path, "report", "--json", LEUKO_DATA_FOLDER=str(tmp_path / "demo-report" / "store"))
    # Before the store had its tables there is none to list.
    assert listed.code == 3 or json.loads(listed.out) == []

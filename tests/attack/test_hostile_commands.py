"""The whole program over every odd, damaged and hostile file: each is read or refused by name, and the rest go on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import commands
import pytest
from hostile_files import make
from making import READ, HostileFile

from edge.core.labels import LABELS, OTHER
from edge.files import display_name, expand

MOST_MEMORY = 700_000_000

# Resident memory at its highest, of this process alone: what `getrusage` gives starts at that of its parent.
MEASURED = """
import atexit, sys
from pathlib import Path
from edge.health.machine import resident_memory
written = Path(sys.argv.pop(1))
atexit.register(lambda: written.write_text(str(resident_memory()[1])))
from edge.cli.main import main
main()
"""

# A replayed file that starts like a film is opened as one, and then has no pictures in it.
FILMS = {"film.jpg", "film avi.jpg"}


@dataclass(frozen=True)
class Case:
    home: Path
    table: list[HostileFile]
    fields: list[Path]
    cells: list[Path]


@pytest.fixture(scope="module")
def case() -> Iterator[Case]:
    # Not in pytest's folder, whose name may be too long for a socket's.
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        hostile = home / "files"
        hostile.mkdir()
        table = make(hostile)
        fields = commands.draw_files(home / "fields", 3)
        yield Case(home, table, fields, commands.draw_cells(home / "cells", LABELS))
        for path in hostile.iterdir():
            if not path.is_symlink() and path.is_dir():
                path.chmod(0o700)


def run(home: Path, *words: str | Path) -> commands.Done:
    """Run the command, and hold its memory and its manners to account."""
    measured = home / "memory"
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(measured), *map(os.fspath, words)],
        cwd=home,
        env=commands.environment(home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=300,
        check=False,
    )
    memory = int(measured.read_text())
    assert 20_000_000 < memory < MOST_MEMORY
    err = done.stderr.decode()
    for word in ("Traceback", "Exception ignored", "Warning", "Corrupt", "libpng", "libjpeg"):
        assert word not in err, err
    return commands.Done(done.returncode, done.stdout.decode(), err)


def order(case: Case, healthy: list[Path]) -> list[tuple[Path, str]]:
    """Every hostile file, with healthy pictures before, among and after them."""
    rows = [(row.path, row.expectation) for row in case.table]
    half = len(rows) // 2
    good = [(path, READ) for path in healthy]
    return [good[0], *rows[:half], *good[1:-1], *rows[half:], good[-1]]


def test_every_file_given_to_analyze_has_its_entry(case: Case) -> None:
    rows = order(case, case.fields)
    done = run(case.home, "analyze", *(path for path, _ in rows), "--sample", "hostile", "--json")
    assert done.code == 1
    document = done.document
    assert [field["file"] for field in document["fields"]] == [display_name(path) for path, _ in rows]
    wrong = {}
    for field, (path, expectation) in zip(document["fields"], rows, strict=True):
        wanted = "damaged" if path.name in FILMS else expectation
        got = field["error"]["code"] if "error" in field else READ
        if got != wanted:
            wrong[field["file"]] = f"{got} instead of {wanted}"
        if "error" in field:
            assert field["error"]["message"]
            assert f"[{got}]" in done.err
    assert wrong == {}
    healthy = [field for field in document["fields"] if field["file"] in set(map(str, case.fields))]
    assert [(field["width"], field["height"]) for field in healthy] == [(1440, 900)] * 3
    assert all(field["quality"]["accepted"] and field["cells"] for field in healthy)
    stored = commands.leuko(case.home, "report", "hostile", "--json")
    assert stored.document == document


def test_every_file_given_to_classify_has_its_line(case: Case) -> None:
    rows = order(case, case.cells)
    done = run(case.home, "classify", *(path for path, _ in rows), "--json")
    assert done.code == 1
    # The very bytes of a name come back, also of one that is no text.
    assert [os.fsencode(line["file"]) for line in done.lines] == [os.fsencode(path) for path, _ in rows]
    got = [line["error"]["code"] if "error" in line else READ for line in done.lines]
    assert got == [expectation for _, expectation in rows]
    for line in done.lines:
        if "error" not in line:
            assert line["label"] in (*LABELS, OTHER)
            assert sum(line["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_the_text_of_classify_steers_no_terminal(case: Case) -> None:
    rows = [row for row in case.table if row.expectation == READ]
    done = run(case.home, "classify", *(row.path for row in rows))
    assert done.code == 0
    lines = done.out.splitlines()
    assert [line.partition(".png  ")[0] + ".png" for line in lines if ".png  " in line] == [
        display_name(row.path) for row in rows if row.path.name.endswith(".png")
    ]
    assert len(lines) == len(rows)
    assert "\x1b" not in done.out and "\u202e" not in done.out


def test_a_folder_of_them_is_taken_in_order(case: Case) -> None:
    folder = case.home / "files"
    done = run(case.home, "analyze", folder, "--json")
    assert done.code == 1
    files = [display_name(path) for path in expand([folder])]
    assert len(files) > 100
    assert [field["file"] for field in done.document["fields"]] == files


@pytest.mark.parametrize("command", ["analyze", "classify"])
def test_the_exit_code_says_how_much_could_be_read(case: Case, command: str) -> None:
    healthy = case.fields if command == "analyze" else case.cells
    bad = [row.path for row in case.table if row.expectation in {"truncated", "not-an-image"}]
    assert run(case.home, command, *healthy, "--json").code == 0
    assert run(case.home, command, healthy[0], bad[0], "--json").code == 1
    none = run(case.home, command, *bad, "--json")
    assert none.code == 3
    assert "error [no-" in none.err
    entries = none.document["fields"] if command == "analyze" else none.lines
    assert [set(entry["error"]) for entry in entries] == [{"code", "message"}] * len(bad)
    missing = run(case.home, command, "no such file.png")
    assert missing.code == 3 and missing.out == ""
    commands.assert_refused(commands.leuko(case.home, command), 2, "PATH")
    # What an unset variable gives; it must not become the current folder.
    commands.assert_refused(commands.leuko(case.home, command, ""), 2, "empty-path")
    commands.assert_refused(commands.leuko(case.home, command, "--no-such-option", healthy[0]), 2, "--no-such-option")


def test_nothing_is_stored_when_nothing_was_read(case: Case, tmp_path: Path) -> None:
    commands.assert_refused(commands.leuko(tmp_path, "analyze", case.table[0].path / "x", "--sample", "S"), 3)
    listed = commands.leuko(tmp_path, "report", "--json")
    assert json.loads(listed.out) == []


def test_a_picture_named_twice_is_counted_once(case: Case) -> None:
    folder = case.fields[0].parent
    once = commands.leuko(case.home, "analyze", folder, "--json").document
    twice = commands.leuko(case.home, "analyze", folder, case.fields[1], folder, case.fields[1], "--json").document
    assert once["differential"] == twice["differential"]
    assert [field["file"] for field in twice["fields"]] == [str(path) for path in case.fields]

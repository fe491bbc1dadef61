"""A live session survives a kill at any moment: what it showed as saved is there, and its count goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import session_kills

from edge.core import durable

KILLS = 12


@pytest.mark.slow
def test_nothing_shown_as_saved_is_lost_and_the_count_goes_on(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ai_edge_litert")
    monkeypatch.setenv("PYTHONPATH", str(root))
    found = session_kills.kill_often(KILLS, 20_261_124, tmp_path)
    assert found["kills"] == KILLS
    assert found["resumed"] >= 3
    assert found["after_a_save"] >= KILLS / 2
    # However often it was cut off, the same slide gives the same count.
    assert len({tuple(each) for each in found["results"]}) <= 1


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[session_kills.Disk, Path]]:
    if os.geteuid() != 0 or shutil.which("mke2fs") is None:
        pytest.skip("a file system of its own needs root and e2fsprogs")
    folder = tmp_path / "data"
    folder.mkdir()
    try:
        with session_kills.Disk(tmp_path / "disk.img", folder) as made:
            yield made, folder
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no loop device can be mounted here: {error}")


@pytest.mark.slow
def test_a_power_cut_takes_what_was_not_on_the_disk_and_nothing_that_was_shown_as_saved(
    root: Path, disk: tuple[session_kills.Disk, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ai_edge_litert")
    power, folder = disk
    # The cut is a true one: without being forced to the disk a file does not survive it.
    durable.write_text(folder / "forced", "kept")
    (folder / "not-forced").write_text("lost")
    power.cut()
    power.back()
    assert (folder / "forced").read_text() == "kept"
    assert not (folder / "not-forced").exists() or (folder / "not-forced").read_text() == ""
    monkeypatch.setenv("PYTHONPATH", str(root))
    found = session_kills.kill_often(3, 20_261_124, folder, power)
    # What was lost would have been raised. Few cuts, since each mounts and checks a file system: more by the script.
    assert found["kills"] == 3

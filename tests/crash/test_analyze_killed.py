"""No result that was reported as saved is lost when the power goes, at whatever moment of an analysis."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import commands
import numpy as np
import pytest
from test_store_crash import assert_sound, run_and_kill

from edge.store.results import ResultStore

KILLS = 200
COMMAND_KILLS = 10
ANALYSER = Path(__file__).with_name("analyser.py")


def check(folder: Path, saved: dict[str, int]) -> None:
    """Whatever was reported is there, whole, with its pictures; and nothing is there by half."""
    path = folder / "results.sqlite3"
    if not path.exists():
        assert not saved
        return
    with ResultStore(path) as store:
        assert_sound(store)
        kept = {entry.id for entry in store.outbox()}
        assert kept >= saved.keys()
        for identifier, pictures in saved.items():
            record = store.get(identifier)
            assert record is not None
            assert len(record.pictures) == pictures
            assert record.document["sample"] == record.sample
            assert len(record.document["fields"]) == 2


@pytest.mark.slow
def test_nothing_reported_as_saved_is_lost_by_killing_an_analysis(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    fields = tmp_path / "fields.npy"
    np.save(fields, np.stack([frame.image for frame in commands.draw(2, width=400, height=300)]))
    moments = random.Random(20_261_123)
    killed_after_a_save = 0
    with subprocess.Popen(
        [sys.executable, str(ANALYSER), str(fields)],
        env=commands.environment(tmp_path),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as server:
        assert server.stdin is not None
        for number in range(KILLS):
            if number % 20 == 0:
                folder = tmp_path / f"store {number}"
                saved: dict[str, int] = {}
            # Loading the network takes a while: by time alone most children would die before their first save.
            after = moments.choice([0, 1, 1, 1, 2])
            reports = run_and_kill(server, "analyse", folder, moments.uniform(0, 0.3 if after == 0 else 0.06), after)
            new = {identifier: int(pictures) for _, identifier, pictures in reports}
            killed_after_a_save += bool(new)
            check(folder, new)
            saved |= new
            if number % 20 == 19:
                check(folder, saved)
        server.stdin.close()
    assert killed_after_a_save >= KILLS / 2


@pytest.mark.slow
def test_the_command_may_be_killed_at_any_moment(tmp_path: Path) -> None:
    pictures = commands.draw_files(tmp_path / "fields", 2, width=480, height=360)
    words = [*commands.LEUKO, "analyze", *map(str, pictures), "--sample"]
    environment = commands.environment(tmp_path, LEUKO_DATA_FOLDER=str(tmp_path / "store"))
    started = time.monotonic()
    subprocess.run([*words, "whole"], env=environment, check=True, capture_output=True, timeout=300)
    whole = time.monotonic() - started
    moments = random.Random(3)
    for number in range(COMMAND_KILLS):
        with subprocess.Popen(
            [*words, f"killed-{number}"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as child:
            # Most of its life is imports; what can be lost is done in the last part.
            time.sleep(moments.uniform(0.3, 1.1) * whole)
            child.kill()
            _, told = child.communicate()
        said = re.findall(r"^saved (\S+) ", os.fsdecode(told), re.M)
        with ResultStore(tmp_path / "store" / "results.sqlite3") as store:
            assert_sound(store)
            assert {entry.id for entry in store.outbox()} >= set(said)
            for identifier in said:
                assert store.get(identifier) is not None
            found = store.latest(f"killed-{number}")
            assert found is None or len(found.document["fields"]) == 2
    # The store goes on being one that can be worked with.
    assert subprocess.run([*words, "last"], env=environment, check=False, capture_output=True).returncode == 0

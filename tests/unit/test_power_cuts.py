"""The judge of the power cuts: an honest machine passes, one that loses what it has shown as saved is found out."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

MACHINE = '''
"""Stands for the virtual machine: counts on, one field of two cells at a time, and tells it over its serial port."""
import json, os, sys, time
state, forgets = sys.argv[1], sys.argv[2] == "forgets"
serial = open(sys.argv[-1].removeprefix("file:"), "a", buffering=1)
def keep():
    json.dump(kept, open(state + ".new", "w"))
    os.replace(state + ".new", state)
say = lambda words: serial.write(words + "\\r\\n")
try:
    kept = json.load(open(state))
except FileNotFoundError:
    kept = []
say("booted")
say("kept " + json.dumps(kept))
while True:
    if not kept or kept[-1]["result"] is not None:
        kept.append({"session": f"{len(kept):036}", "fields": 0, "cells": 0, "result": None})
    now = kept[-1]
    say("session " + now["session"])
    while now["fields"] < 9:
        now["fields"] += 1
        now["cells"] += 2
        if not forgets or now["fields"] % 3:
            keep()
        say(f"running: {now['cells']} of 100 cells; saved {now['fields']} fields {now['cells']} cells; seen 9")
        time.sleep(0.01)
    now["result"] = [now["cells"], 1, 2]
    keep()
    say(f"saved {now['session']} (sample cut)")
'''


@pytest.fixture
def judge(root: Path) -> Any:
    specification = importlib.util.spec_from_file_location("power_cuts", root / "devices/verify/power_cuts.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["power_cuts"] = module
    specification.loader.exec_module(module)
    return module


def machine(tmp_path: Path, manner: str) -> list[str]:
    script = tmp_path / "machine.py"
    script.write_text(MACHINE)
    return [sys.executable, str(script), str(tmp_path / "state.json"), manner]


def test_an_honest_machine_is_cut_off_resumes_and_misses_nothing(judge: Any, tmp_path: Path) -> None:
    judge.CUT_DELAY = 0.05
    found = judge.run(machine(tmp_path, "keeps"), tmp_path, 5, 3)
    assert found["cuts"] == found["in session"] + found["while booting"] == 5
    assert found["resumed"] >= 1
    assert found["missing"] == []


def test_a_machine_that_forgets_is_found_out(judge: Any, tmp_path: Path) -> None:
    judge.CUT_DELAY = 0.05
    found = judge.run(machine(tmp_path, "forgets"), tmp_path, 6, 1)
    assert any("were shown as saved" in each for each in found["missing"])


def test_what_was_shown_and_is_not_there_is_named(judge: Any) -> None:
    shown, session, other = judge.Shown(), "0" * 36, "1" * 36
    for line in (
        "running: 1 of 100 cells; saved 9 fields 9 cells",
        f"session {session}",
        "running: 4 of 100 cells; saved 2 fields 4 cells; seen 3, refused 0",
        f"session {other}",
        "running: 100 of 100 cells; saved 8 fields 100 cells; seen 9",
        f"saved {other} (sample cut-1)",
    ):
        shown.hear(line)
    whole = [
        {"session": session, "fields": 2, "cells": 4, "result": None},
        {"session": other, "fields": 8, "cells": 100, "result": [100, 60]},
    ]
    assert shown.missing(whole) == []
    assert len(shown.missing([whole[0] | {"cells": 3}, whole[1]])) == 1
    assert len(shown.missing([whole[0], whole[1] | {"result": None}])) == 1
    assert len(shown.missing([])) == 3

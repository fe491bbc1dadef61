"""Cuts the power of the virtual machine again and again in mid-session, and holds what is left against what was shown.

    python3 devices/verify/power_cuts.py WORK-FOLDER --cuts 50 --seed 1 -- QEMU-COMMAND...

Run by `vm.sh`. The power cut is SIGKILL to qemu: what the machine had not yet written to its disk is gone, the cache of
its kernel and of its file system included. What it had shown over the serial port as saved before that must be there
after the next boot, and the session must go on from there. Standard library alone; nothing of the application.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_LOG = logging.getLogger("power-cuts")

BOOT_SECONDS = 900.0
"""Longest wait for the next word of a machine: software emulation on a busy processor is slow."""
CUT_DELAY = 2.0
"""The power goes at a moment drawn from so many seconds after the save it was waited for."""
SAVED = re.compile(r"saved (\d+) fields (\d+) cells")
SESSION = re.compile(r"^session ([0-9a-f-]{36})$")
RESULT = re.compile(r"^saved ([0-9a-f-]{36}) \(sample")


@dataclass
class Shown:
    """What the machine has shown as saved: of each session the fields and cells, and which are finished."""

    fields: dict[str, int] = field(default_factory=dict)
    cells: dict[str, int] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)
    session: str = ""

    def hear(self, line: str) -> None:
        """Take in one line of the machine."""
        if found := SESSION.match(line):
            self.session = found[1]
        elif found := RESULT.match(line):
            self.finished.add(found[1])
        elif self.session and (found := SAVED.search(line)):
            fields, cells = int(found[1]), int(found[2])
            self.fields[self.session] = max(fields, self.fields.get(self.session, 0))
            self.cells[self.session] = max(cells, self.cells.get(self.session, 0))

    def missing(self, kept: list[dict[str, Any]]) -> list[str]:
        """What was shown as saved and is not in the machine's account of what it has."""
        there = {each["session"]: each for each in kept}
        problems = []
        for session in {*self.fields, *self.finished}:
            found = there.get(session, {"fields": 0, "cells": 0, "result": None})
            if found["fields"] < self.fields.get(session, 0) or found["cells"] < self.cells.get(session, 0):
                problems.append(
                    f"{session}: {self.fields.get(session, 0)} fields and {self.cells.get(session, 0)} cells were"
                    f" shown as saved, {found['fields']} and {found['cells']} are there"
                )
            if session in self.finished and found["result"] is None:
                problems.append(f"{session}: its result was shown as saved and is not there")
        return problems


class Machine:
    """One boot of the machine, until its power is cut."""

    def __init__(self, command: list[str], words: Path) -> None:
        words.write_bytes(b"")
        self._words, self._read = words, 0
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def lines(self) -> list[str]:
        """The whole lines that came since the last call."""
        data = self._words.read_bytes()[self._read :]
        whole, newline, _ = data.rpartition(b"\n")
        self._read += len(whole) + len(newline)
        return [line.strip() for line in whole.decode(errors="replace").splitlines() if line.strip()]

    def alive(self) -> bool:
        """Whether the machine still runs."""
        return self._process.poll() is None

    def cut(self) -> None:
        """Take its power away."""
        self._process.kill()
        self._process.wait()


def run(command: list[str], work: Path, cuts: int, seed: int) -> dict[str, Any]:
    """Cut the power so often; what was found. Stops at the first machine that does not come up or is damaged."""
    moments = random.Random(seed)  # noqa: S311 - moments, not secrets
    shown = Shown()
    found: dict[str, Any] = {"cuts": 0, "in session": 0, "while booting": 0, "resumed": 0, "missing": [], "results": []}
    for boot in range(cuts + 1):
        words = work / "power-cut.txt"
        machine = Machine([*command, "-serial", f"file:{words}"], words)
        # Now and then the power goes while the machine is still coming up.
        early = boot < cuts and moments.random() < 0.1
        after, delay = moments.choice([1, 1, 2, 3, 4, 6]), moments.uniform(0, CUT_DELAY)
        saves, kept, patience = 0, None, time.monotonic() + BOOT_SECONDS
        try:
            while True:
                heard = machine.lines()
                if heard:
                    patience = time.monotonic() + BOOT_SECONDS
                for line in heard:
                    shown.hear(line)
                    saves += kept is not None and SAVED.search(line) is not None
                    if line.startswith("kept "):
                        first, kept = kept is None, json.loads(line[5:])
                        if first:
                            found["missing"] += shown.missing(kept)
                            resumes = any(each["result"] is None for each in kept)
                            found["resumed"] += resumes
                        found["results"] = [each["result"] for each in kept if each["result"] is not None]
                    if line.startswith(("damaged", "broken")):
                        found["missing"].append(line)
                        return found
                if boot == cuts and kept is not None:
                    break  # the last boot only looks
                if (early and heard) or saves > after:
                    time.sleep(delay)
                    break
                if time.monotonic() > patience or not machine.alive():
                    found["missing"].append(f"boot {boot + 1}: the machine says nothing more")
                    return found
                time.sleep(0.05)
        finally:
            machine.cut()
            for line in machine.lines():
                shown.hear(line)
        if boot < cuts:
            found["cuts"] += 1
            found["while booting" if kept is None else "in session"] += 1
        said = f"{saves} saves seen, then cut" if boot < cuts else "looked"
        _LOG.info("  boot %d: %s; %d cells shown as saved so far", boot + 1, said, sum(shown.cells.values()))
    return found


def main() -> int:
    """Exit code 0 when nothing was missing and every finished session of the same fields has the same counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--cuts", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("command", nargs="+")
    chosen = parser.parse_args()
    os.environ.setdefault("TMPDIR", str(chosen.work))
    found = run(chosen.command, chosen.work, chosen.cuts, chosen.seed)
    different = {tuple(each) for each in found["results"]}
    good = not found["missing"] and len(different) <= 1
    _LOG.info("%s\n%s  %d power cuts", json.dumps(found), "PASS" if good else "FAIL", found["cuts"])
    return 0 if good else 1


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.exit(main())

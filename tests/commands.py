"""Runs the real command in a process of its own, as a user would, and draws fields for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from devices.cameras.simulated import Faults, SimulatedCamera
from edge.core.types import Frame

ROOT = Path(__file__).resolve().parents[1]
LEUKO = (sys.executable, "-m", "edge.cli")


@dataclass(frozen=True)
class Done:
    """What a run left behind. `out` and `err` are text; a byte that is no UTF-8 fails the test that looks."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document of standard output."""
        assert self.out.count("\n") == 1 and self.out.endswith("\n"), self.out[:300]
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """The JSON lines of standard output."""
        return [json.loads(line) for line in self.out.splitlines()]


def environment(home: Path, **more: str) -> dict[str, str]:
    """A user's environment whose home is `home`, without settings of Leukoscope but `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LEUKO_", "XDG_", "PYTHON"))}
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(home),
        "NO_COLOR": "1",
        "COLUMNS": "120",
        "OMP_NUM_THREADS": "1",
        **more,
    }


def leuko(
    home: Path, *words: str | Path, before: Sequence[str] = (), setup: Any = None, limit: float = 300, **more: str
) -> Done:
    """Run `leuko` with these words in the folder `home`. `before` is a command that starts it."""
    done = subprocess.run(
        [*before, *LEUKO, *map(os.fspath, words)],
        cwd=home,
        env=environment(home, **more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=limit,
        check=False,
        preexec_fn=setup,
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def store_of(home: Path) -> Path:
    """Where results are kept when nothing says otherwise."""
    return home / ".local" / "share" / "leukoscope" / "results.sqlite3"


def draw(count: int, faults: Faults | None = None, **settings: Any) -> list[Frame]:
    """The first fields of a simulated slide that do not arrive damaged."""
    with SimulatedCamera(5, fields=count, cells_per_field=6, faults=faults, **settings) as camera:
        return [frame for frame in camera.frames() if isinstance(frame, Frame)]


def draw_files(folder: Path, count: int, **settings: Any) -> list[Path]:
    """The same as picture files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"field {number}.png" for number in range(count)]
    for path, frame in zip(paths, draw(count, **settings), strict=True):
        assert cv2.imwrite(str(path), frame.image)
    return paths


def draw_cells(folder: Path, labels: Sequence[str]) -> list[Path]:
    """Pictures of single cells."""
    import numpy as np

    from devices.cameras.slide import render_cell

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, label in enumerate(labels):
        paths.append(folder / f"{number} {label}.png")
        assert cv2.imwrite(str(paths[-1]), render_cell(label, np.random.default_rng(number), 240))
    return paths


def assert_refused(done: Done, code: int, *words: str) -> None:
    """One message with its cure, nothing else: no answer, no traceback."""
    assert done.code == code, (done.code, done.err)
    assert done.out == ""
    assert "Traceback" not in done.err and "Exception ignored" not in done.err, done.err
    for word in words:
        assert word in done.err, done.err
    if code == 3:
        assert done.err.count("error [") == 1
        assert len(done.err.strip().splitlines()) >= 2, "no cure"


def keys(value: Mapping[str, Any]) -> list[str]:
    """The keys, in order."""
    return list(value)

"""A peer as a row of the table: its predictions of every cell, and how it was made, in one folder."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from edge.core.durable import write_text
from edge.core.errors import UsageError
from training.config import RunConfig
from training.data import cells as cell_cache
from training.data.cells import Cells
from training.peers import choi, di_ruberto, rezatofighi, zhang
from training.peers.learning import Outcome
from training.predictions import Predictions

PREDICTIONS_FILE: Final = "predictions.npz"
SETTINGS_FILE: Final = "peer.json"

NAMES: Final = ("di_ruberto", "rezatofighi", "zhang", "choi")


@dataclass(frozen=True, slots=True)
class Settings:
    """What decides a peer's result. `size` is the side of the crops, `epochs`, `steps` and `batch` train a network.

    `selected` features are kept where features are selected. `leave_out` names sources that are not learnt from,
    `runs` the folders that vote, and `vote` how.
    """

    peer: str
    size: int = 128
    leave_out: tuple[str, ...] = ()
    seed: int = 0
    selected: int = 24
    epochs: int = 20
    steps: int = 100
    batch: int = 32
    vote: choi.Vote = "soft"
    runs: tuple[str, ...] = field(default=())

    @property
    def config(self) -> RunConfig:
        """The configuration that cuts the cells, and trains where there is a network to train."""
        return RunConfig(
            model="plain_cnn",
            size=self.size,
            batch=self.batch,
            epochs=self.epochs,
            steps=self.steps,
            leave_out=self.leave_out,
            seed=self.seed,
            rendered_share=0.0,
        )


def judge(cells: Cells, settings: Settings, folder: Path) -> Outcome:
    """Let a peer learn from the training split and judge every cell. Raises UsageError `unknown-peer`."""
    if settings.peer == "di_ruberto":
        return di_ruberto.classify(cells, settings.size, settings.leave_out, settings.seed)
    if settings.peer == "rezatofighi":
        return rezatofighi.classify(cells, settings.size, settings.leave_out, settings.seed, settings.selected)
    if settings.peer == "zhang":
        return zhang.classify(cells, settings.config, folder / "network")
    raise UsageError("unknown-peer", f"There is no peer {settings.peer!r}.", f"Choose one of: {', '.join(NAMES)}.")


def run(data: Path | None, settings: Settings, folder: Path, cache: Path | None = None) -> Path:
    """Make a row of the table and return the file of its predictions, `predictions.npz` in `folder`.

    The cells are taken from `cache`, or from one in `folder`. Beside the file `peer.json` says how it was made: the
    settings, the seconds it took, and what was chosen or selected on the way.
    Raises UsageError `unknown-peer` or `no-data`, and what reading the data folder or the runs raises.
    """
    if settings.peer not in NAMES:
        raise UsageError("unknown-peer", f"There is no peer {settings.peer!r}.", f"Choose one of: {', '.join(NAMES)}.")
    if settings.peer == "choi":
        return _vote(data, settings, folder, cache)
    if data is None:
        raise UsageError("no-data", f"{settings.peer} learns from labelled cells.", "Name their folder with --data.")
    cells = cell_cache.load_or_build(data, settings.config, cache or folder / "cache")
    return record(cells, settings, folder)


def record(cells: Cells, settings: Settings, folder: Path) -> Path:
    """Judge cells that are already cut, and write predictions and settings."""
    start = time.monotonic()
    outcome = judge(cells, settings, folder)
    kept = {name: getattr(cells, name) for name in Predictions.__slots__ if name != "logits"}
    return _write(Predictions(logits=outcome.logits, **kept), settings, outcome.notes, time.monotonic() - start, folder)


def _vote(data: Path | None, settings: Settings, folder: Path, cache: Path | None) -> Path:
    start = time.monotonic()
    runs = [Path(name) for name in settings.runs]
    found = choi.read(runs, data, cache)
    voted = replace(found[0], logits=choi.vote([each.logits for each in found], settings.vote))
    settings = replace(settings, leave_out=choi.left_out(runs))
    return _write(voted, settings, {}, time.monotonic() - start, folder)


def _write(predictions: Predictions, settings: Settings, notes: dict[str, Any], seconds: float, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    predictions.save(folder / PREDICTIONS_FILE)
    written = {"settings": asdict(settings), "seconds": round(seconds, 1), "notes": notes}
    write_text(folder / SETTINGS_FILE, json.dumps(written, indent=2, sort_keys=True) + "\n")
    return folder / PREDICTIONS_FILE


def names_of(runs: Sequence[Path] | None) -> tuple[str, ...]:
    """Give the folders of runs as they are written into the settings."""
    return tuple(str(path) for path in runs or ())

"""The study behind docs/results.md: every run of the table by the commands that a user would give, then the judging.

`python -m training.study --data DIR --weights DIR --out DIR` goes on where it was broken off: a run that is finished is
not repeated. `make results` calls it.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge.core.errors import LeukoError
from training.config import RunConfig

_LOG = logging.getLogger(__name__)

_MOBILE: Final = "mobilenet_v2_0.35_224_imagenet_notop.npz"
_WIDE: Final = "mobilenet_v2_1.0_224_imagenet_dequant.npz"
_LITE: Final = "efficientnet_lite0.npz"


class StudyError(LeukoError):
    """A command of the study failed."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: `command` after `leuko train`, given once per seed.

    `weights` is a file in the folder of pretrained weights. `after` names the row whose run of the same seed teaches,
    `votes` the row whose runs of all seeds vote.
    """

    name: str
    command: tuple[str, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    weights: str | None = None
    after: str | None = None
    votes: str | None = None

    def run(self, seed: int) -> str:
        """Name the folder of the run of one seed."""
        return f"{self.name}-{seed}"


def _row(name: str, command: str, weights: str | None = None, **more: object) -> Row:
    return Row(name, tuple(command.split()), weights=weights, **more)  # type: ignore[arg-type]


_SHORT: Final = "--size 96 --epochs 5 --steps 80"
_FULL: Final = (
    "--size 96 --augmentation 0.5 --epochs 10 --frozen-epochs 1 --steps 100 --batch 32 --fine-tuning-rate 4e-4"
)

ROWS: Final = (
    _row("student", "fit --epochs 20 --steps 160", _MOBILE),
    _row("full", f"fit --model full {_FULL}", _LITE),
    _row("baseline", "fit --model baseline --epochs 10 --steps 100"),
    _row("transfer", "fit --model transfer --size 96 --augmentation 0.5 --epochs 10 --steps 100", _WIDE),
    _row("loso-embedded", f"fit {_SHORT} --leave-out embedded", _MOBILE),
    _row("loso-bccd", f"fit {_SHORT} --leave-out bccd", _MOBILE),
    _row("short", f"distill {_SHORT} --share 0", _MOBILE, after="full"),
    _row("distilled", f"distill {_SHORT}", _MOBILE, after="full"),
    _row("full-no-attention", f"fit --model full --no-attention {_FULL}", _LITE, seeds=(0,)),
    _row("stain-as-it-is", f"fit {_SHORT} --stain none --leave-out bccd --leave-out embedded", _MOBILE, seeds=(0,)),
    _row("stain-by-nucleus", f"fit {_SHORT} --leave-out bccd --leave-out embedded", _MOBILE, seeds=(0,)),
    _row("noise-reduction", f"fit {_SHORT} --noise-reduction median", _MOBILE, seeds=(0,)),
    _row("weighted-loss", f"fit {_SHORT} --loss weighted", _MOBILE, seeds=(0,)),
    _row("class-balanced-loss", f"fit {_SHORT} --loss class-balanced", _MOBILE, seeds=(0,)),
    _row("focal-loss", f"fit {_SHORT} --loss focal", _MOBILE, seeds=(0,)),
    _row("lightweight", f"fit --model lightweight {_SHORT}", _MOBILE, seeds=(0,)),
    _row("tek", "fit --model plain_cnn --epochs 10 --steps 100", seeds=(0,)),
    _row("wang", "fit --model resnet_transfer --size 96 --epochs 5 --steps 60 --no-pretrained", seeds=(0,)),
    _row("di-ruberto", "peer di_ruberto", seeds=(0,)),
    _row("rezatofighi", "peer rezatofighi", seeds=(0,)),
    _row("zhang", "peer zhang --size 96 --epochs 10 --steps 100", seeds=(0,)),
    _row("choi", "peer choi", seeds=(0,), votes="full"),
    _row("loso-embedded-vote", "peer choi", seeds=(0,), votes="loso-embedded"),
    _row("loso-bccd-vote", "peer choi", seeds=(0,), votes="loso-bccd"),
)
"""In the order in which they are run: what ships first, then the table, then the ablations and the peers."""

_CORRUPTED: Final = ("student", "full")
"""The rows whose first seed is also judged through corruptions: seventy more looks at every cell."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where things are: images, pretrained weights, runs."""

    data: Path
    weights: Path
    out: Path


def command(row: Row, seed: int, place: Place) -> list[str]:
    """Give the command of one run, as a user would type it."""
    given = ["leuko", "train", *row.command, "--data", str(place.data)]
    if row.votes is not None:
        voters = next(item for item in ROWS if item.name == row.votes)
        given += [part for each in voters.seeds for part in ("--run", str(place.out / voters.run(each)))]
    given += ["--out", str(place.out / row.run(seed)), "--seed", str(seed)]
    given += ["--cache", str(place.out / "cache")]
    if row.weights is not None:
        given += ["--weights", str(place.weights / row.weights)]
    if row.after is not None:
        given += ["--teacher", str(place.out / f"{row.after}-{seed}")]
    return given


def finished(folder: Path) -> bool:
    """Whether a run folder holds a finished run."""
    if (folder / "predictions.npz").is_file() and not (folder / "config.json").is_file():
        return True
    history, config = folder / "history.json", folder / "config.json"
    if not history.is_file() or not config.is_file():
        return False
    settings = RunConfig.load(config)
    return settings.patience > 0 or len(json.loads(history.read_text(encoding="utf-8"))) >= settings.epochs


def _execute(given: Sequence[str], log: Path) -> None:
    """Run one command in a process of its own: memory and threads of a framework end with it."""
    environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as stream:
        done = subprocess.run(
            [sys.executable, "-m", "edge.cli", *given[1:]],
            stdout=stream,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            check=False,
        )
    if done.returncode != 0:
        raise StudyError("run-failed", f"{shlex.join(given)} ended with {done.returncode}.", f"Read {log}.")


def _run_all(rows: Sequence[Row], place: Place, jobs: int) -> None:
    wanted = [(row, seed) for row in rows for seed in row.seeds if not finished(place.out / row.run(seed))]
    for stage in (
        [(row, seed) for row, seed in wanted if row.after is None and row.votes is None],
        [(row, seed) for row, seed in wanted if row.after is not None or row.votes is not None],
    ):
        with ThreadPoolExecutor(jobs) as pool:

            def one(item: tuple[Row, int]) -> None:
                row, seed = item
                given = command(row, seed, place)
                _LOG.info("%s", shlex.join(given))
                _execute(given, place.out / row.run(seed) / "log")

            list(pool.map(one, stage))


def judge(rows: Sequence[Row], place: Place) -> Path:
    """Evaluate every finished run, and return the folder of tables, plots and page; corruptions have another beside it.

    Raises StudyError `no-finished-run` when there is none.
    """
    folders = {row: [place.out / row.run(seed) for seed in row.seeds] for row in rows}
    ready = {row: [folder for folder in found if finished(folder)] for row, found in folders.items()}
    chosen = [str(folder) for found in ready.values() for folder in found]
    if not chosen:
        raise StudyError("no-finished-run", f"{place.out} holds no finished run.", "Run the study without --judge.")
    groups = [
        part
        for row, found in ready.items()
        if found
        for part in ("--name", f"{row.name}={','.join(str(folder) for folder in found)}")
    ]
    out = place.out / "results"
    _evaluate([*chosen, *groups, "--conformal", "0.1"], out, place)
    corrupted = [str(ready[row][0]) for row in rows if row.name in _CORRUPTED and ready[row]]
    if corrupted:
        _evaluate([*corrupted, "--corruptions", "--per-class", "20"], place.out / "corruptions", place)
    return out


def _evaluate(what: Sequence[str], out: Path, place: Place) -> None:
    given = ["leuko", "train", "evaluate", *what, "--data", str(place.data), "--out", str(out)]
    _execute([*given, "--cache", str(place.out / "cache")], out / "log")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, then judge."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(prog="python -m training.study", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of labelled images, with manifest.csv")
    parser.add_argument("--weights", type=Path, required=True, help="folder of pretrained weights (.npz)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time, one thread each")
    parser.add_argument("--only", nargs="*", help="names of rows; all without")
    parser.add_argument("--judge", action="store_true", help="only judge what is finished")
    given = parser.parse_args(arguments)
    place = Place(given.data.resolve(), given.weights.resolve(), given.out.resolve())
    rows = [row for row in ROWS if given.only is None or row.name in given.only]
    try:
        if not given.judge:
            _run_all(rows, place, given.jobs)
        _LOG.info("judged: %s", judge(rows, place))
    except LeukoError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

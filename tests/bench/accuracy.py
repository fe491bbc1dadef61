"""How often the shipped model is right on cells that it was not trained on, through `leuko classify` itself.

    python tests/bench/accuracy.py --data DIR [--source NAME ...] [--markdown] [--check]

The split is computed again from the data folder with the seed of the training run: 70/15/15 by group, duplicates kept
together. Only the five classes are asked for here; the model card also has the cells that are none of them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from edge.core.labels import LABELS  # noqa: E402
from training.config import CLASSES, RunConfig  # noqa: E402
from training.data import cells as cell_cache  # noqa: E402
from training.evaluation import device_path  # noqa: E402
from training.metrics import Figures, figures, table  # noqa: E402

TARGETS = {"pbc": 0.95}
"""Least macro-F1 by source; the other sources are reported, whatever they are."""


@dataclass(frozen=True)
class Row:
    """Figures of one source; `abstained` is the share of cells left for review, `right_when_counted` of the others."""

    figures: Figures
    abstained: float
    right_when_counted: float
    milliseconds: float


def classify(files: Sequence[Path]) -> list[dict]:
    """Run `leuko classify --json` over files; one answer each, in their order."""
    answers: list[dict] = []
    for start in range(0, len(files), 500):
        command = [sys.executable, "-m", "edge.cli", "classify", "--json", *map(str, files[start : start + 500])]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        answers += [json.loads(line) for line in done.stdout.splitlines()]
    return answers


def measure(data: Path, sources: Sequence[str]) -> list[Row]:
    """Figures of each source over its held-out pictures of the five classes."""
    held_out = device_path.held_out(data, cell_cache.build(data, RunConfig(), workers=os.cpu_count() or 1))
    rows = []
    for source, samples in held_out.items():
        wanted = [sample for sample in samples if sample.label in LABELS]
        if not wanted or (sources and source not in sources):
            continue
        answers = classify([data / sample.file for sample in wanted])
        truth = np.array([CLASSES.index(sample.label) for sample in wanted])
        called = np.array([CLASSES.index(answer["label"]) for answer in answers])
        abstained = np.array([answer["abstained"] or answer["label"] not in LABELS for answer in answers])
        rows.append(
            Row(
                figures(source, truth, called),
                float(abstained.mean()),
                float((truth == called)[~abstained].mean()),
                float(np.median([answer["milliseconds"] for answer in answers])),
            )
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--source", action="append", default=[], help="only this source; may be given again")
    parser.add_argument("--markdown", action="store_true", help="print a table")
    parser.add_argument("--check", action="store_true", help="end with status 3 when a target is missed")
    arguments = parser.parse_args()
    rows = measure(arguments.data, arguments.source)
    if arguments.markdown:
        print(table([row.figures for row in rows]))
        for row in rows:
            rest = f"{row.right_when_counted:.1%} of the rest right"
            print(f"\n{row.figures.source}: {row.abstained:.1%} left for review, {rest}")
    else:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    missed = [row for row in rows if row.figures.macro_f1 < TARGETS.get(row.figures.source, 0)]
    for row in missed:
        print(f"{row.figures.source}: macro-F1 {row.figures.macro_f1:.3f}", file=sys.stderr)
    if arguments.check and missed:
        sys.exit(3)


if __name__ == "__main__":
    main()

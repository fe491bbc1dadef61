"""Is a live count right? Sessions on simulated slides whose every cell is known.

    python tests/bench/live_truth.py --runs 100 --out truth.jsonl     runs that are in the file already are not repeated
    python tests/bench/live_truth.py --runs 0 --out truth.jsonl       the summary alone

Each run counts a slide of its own to 400 cells in overlapping fields, by the whole path: camera, loop, journal, result.
The saved result is then compared with the slide: how many cells were counted twice, what each was called, and whether
the 95 % Wilson interval of each class holds the slide's own share. The classifier confuses classes, which no interval
of counting knows; so the share that it would give on endless cells, the slide's composition passed through its
confusion in all runs, is compared as well.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from devices.cameras import slide, slide_placement
from devices.cameras.simulated import SimulatedCamera
from devices.cameras.slide import CellTruth
from devices.cameras.slide_placement import NORMAL_COMPOSITION
from edge import app, config
from edge.core.differential import wilson
from edge.core.labels import LABELS, OTHER
from edge.live.order import SessionOrder

CELLS = 400


def specification(seed: int, cells_per_field: float, overlap: float) -> str:
    # Coarser than the default camera, over the same field of view: drawing the slide is what takes the time here.
    size = "width=800,height=500,scale=0.396"
    return f"simulated:seed={seed},fields=endless,cells={cells_per_field:g},overlap={overlap:g},{size}"


def paint_once() -> None:
    """Keep every painted cell: fields that overlap, and the comparison afterwards, would paint it anew each time."""
    kept = lru_cache(maxsize=2048)(slide_placement.painted.__wrapped__)
    slide_placement.painted = slide.painted = kept  # type: ignore[assignment]


def run(seed: int, cells_per_field: float, overlap: float, cells: int = CELLS) -> dict[str, Any]:
    """Count one slide and compare the saved result with it."""
    camera = specification(seed, cells_per_field, overlap)
    with tempfile.TemporaryDirectory() as folder:
        settings = msgspec.structs.replace(config.load(), data_folder=folder)
        state = app.start_session(SessionOrder(f"truth-{seed}", camera, target=cells), settings).wait()
        if state.result is None:
            raise SystemExit(f"seed {seed}: {state.phase}, {state.trouble}")
        with app.open_store(settings, read_only=True) as store:
            record = store.get(state.result)
    assert record is not None
    return {"seed": seed, "seconds": state.running_seconds, **compare(record.document, camera)}


def compare(document: dict[str, Any], camera: str) -> dict[str, Any]:
    """Compare a result with the slide it was counted on."""
    drawn = SimulatedCamera.from_spec(camera)
    seen: Counter[tuple[int, int]] = Counter()
    confusion: Counter[str] = Counter()
    strangers = 0
    for field in document["fields"]:
        number = int(field["file"].rpartition("#")[2])
        window = drawn.window(number)
        truth = drawn.truth(number)
        for cell in field["cells"]:
            called = OTHER if cell["abstained"] else cell["label"]
            true = matched(cell["box"], truth)
            if true is None:
                strangers += 1
                continue
            seen[round(window.left + true.centre[0]), round(window.top + true.centre[1])] += 1
            confusion[f"{true.label}>{called}"] += 1
    counts = document["differential"]
    return {
        "fields": len(document["fields"]),
        "counted": counts["counted"],
        "other": counts["other"],
        "duplicates": sum(times - 1 for times in seen.values()),
        "strangers": strangers,
        "repeated": document["session"]["repeated_cells"],
        "confusion": dict(confusion),
        "classes": {label: [share["count"], share["wilson"]] for label, share in counts["classes"].items()},
    }


def matched(box: list[int], truth: list[CellTruth]) -> CellTruth | None:
    """The cell of the slide that a box belongs to: the one whose middle is nearest, within its own size."""
    x, y = box[0] + box[2] / 2, box[1] + box[3] / 2
    near = min(truth, key=lambda cell: math.hypot(cell.centre[0] - x, cell.centre[1] - y), default=None)
    if near is None:
        return None
    reach = 0.6 * max(near.box.width, near.box.height)
    return near if math.hypot(near.centre[0] - x, near.centre[1] - y) <= reach else None


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """How often the intervals hold the truth, with and without the classifier's confusion."""
    confusion: Counter[str] = Counter()
    for each in runs:
        confusion.update(each["confusion"])
    expected = through(confusion, NORMAL_COMPOSITION)
    held = {"slide": Counter[str](), "slide through the confusion": Counter[str]()}
    every = Counter[str]()
    for each in runs:
        for name, shares in (("slide", NORMAL_COMPOSITION), ("slide through the confusion", expected)):
            inside = [
                wilson is not None and wilson[0] <= 100 * shares[label] <= wilson[1]
                for label, (_, wilson) in each["classes"].items()
            ]
            held[name].update(label for label, good in zip(each["classes"], inside, strict=True) if good)
            every[name] += all(inside)
    cells = sum(each["counted"] + each["other"] for each in runs)
    right = sum(count for key, count in confusion.items() if len(set(key.split(">"))) == 1)
    return {
        "runs": len(runs),
        "cells": cells,
        "counted twice, percent": 100 * sum(each["duplicates"] for each in runs) / max(1, cells),
        "no cell of the slide, percent": 100 * sum(each["strangers"] for each in runs) / max(1, cells),
        "sightings of counted cells": sum(each["repeated"] for each in runs),
        "called right, percent": 100 * right / max(1, sum(confusion.values())),
        "percentages withheld": sum(each["classes"]["neutrophil"][1] is None for each in runs),
        "slide, percent": {label: round(100 * NORMAL_COMPOSITION[label], 2) for label in LABELS},
        "slide through the confusion, percent": {label: round(100 * expected[label], 2) for label in LABELS},
        "runs whose interval holds it": {name: dict(counter) for name, counter in held.items()},
        "runs in which all five hold": dict(every),
        "by chance alone it holds in percent of runs": by_chance(expected),
    }


def by_chance(shares: dict[str, float], draws: int = 20_000) -> dict[str, float]:
    """How often, in percent, the intervals hold these shares when 400 cells are drawn from them by chance alone."""
    counts = np.random.default_rng(0).multinomial(CELLS, [shares[label] for label in LABELS], draws)
    limits = [wilson(count, CELLS) for count in range(CELLS + 1)]
    low, high = (np.array([getattr(each, side) for each in limits]) for side in ("low", "high"))
    expected = np.array([shares[label] for label in LABELS])
    inside = (low[counts] <= expected) & (expected <= high[counts])
    found = {label: round(100 * float(inside[:, index].mean()), 1) for index, label in enumerate(LABELS)}
    return {**found, "all five": round(100 * float(inside.all(axis=1).mean()), 1)}


def through(confusion: Counter[str], composition: Any) -> dict[str, float]:
    """The shares that the classifier gives of a composition, among the cells it counts."""
    shares = dict.fromkeys(LABELS, 0.0)
    for true in LABELS:
        total = sum(confusion[f"{true}>{called}"] for called in (*LABELS, OTHER))
        for called in LABELS:
            shares[called] += composition[true] * confusion[f"{true}>{called}"] / max(1, total)
    total = sum(shares.values())
    return {label: share / total if total else 0.0 for label, share in shares.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--first", type=int, default=1000, help="seed of the first run")
    parser.add_argument("--cells-per-field", type=float, default=20.0)
    parser.add_argument("--overlap", type=float, default=0.25)
    parser.add_argument("--out", type=Path, default=Path("live-truth.jsonl"))
    chosen = parser.parse_args()
    done = [json.loads(line) for line in chosen.out.read_text().splitlines()] if chosen.out.exists() else []
    known = {each["seed"] for each in done}
    paint_once()
    for seed in range(chosen.first, chosen.first + chosen.runs):
        if seed not in known:
            found = run(seed, chosen.cells_per_field, chosen.overlap)
            done.append(found)
            with chosen.out.open("a") as file:
                file.write(json.dumps(found) + "\n")
            print(json.dumps({k: found[k] for k in ("seed", "seconds", "counted", "other", "duplicates")}), flush=True)
    print(json.dumps(summary(done), indent=2))


if __name__ == "__main__":
    main()

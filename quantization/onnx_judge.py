"""What an ONNX variant is worth: accuracy on cells that the network was not trained on, and time, side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from edge.core.types import FloatArray
from quantization.onnx_export import INPUT, run, session
from training.config import RunConfig
from training.data.augment import centre
from training.data.cells import Cells
from training.data.views import network_inputs
from training.metrics import figures

if TYPE_CHECKING:
    import onnx

ALLOWED_DROP: Final = 0.005
"""Share of all cells of a split, 0.5 points, by which a variant's accuracy may lie below that of the float network."""

ENOUGH: Final = 50
"""Sources with fewer cells name no class that pays: one cell of theirs is points of recall."""

BATCHES: Final = (1, 8)
ROUNDS: Final = 30


@dataclass(frozen=True, slots=True)
class JudgedSet:
    """Cells of one source and split (`validation`, `test` or `evaluation`): inputs float32[N, S, S, 3], labels."""

    source: str
    split: str
    inputs: FloatArray
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Score:
    """A variant on one set beside the float network. Shares 0..1; differences of logits."""

    precision: str
    source: str
    split: str
    n: int
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    float_accuracy: float
    agreement: float
    mean_difference: float
    largest_difference: float
    lost_recall: dict[str, float]


@dataclass(frozen=True, slots=True)
class Timing:
    """Median milliseconds of a batch on one thread, and its ratio to the float network's in the same run."""

    precision: str
    batch: int
    milliseconds: float
    ratio: float


def judged_sets(cells: Cells, config: RunConfig) -> list[JudgedSet]:
    """Give every source's cells that no weight was fitted on, each split of its own, as the device crops them."""
    sets = []
    whole = (cells.kind != "background") & (cells.source != "rendered") & (cells.split != "train")
    for split in sorted({str(name) for name in np.unique(cells.split[whole])}):
        for source in np.unique(cells.source[whole & (cells.split == split)]):
            chosen = cells.select(whole & (cells.split == split) & (cells.source == source))
            inputs = network_inputs([centre(crop, config.size) for crop in chosen.crops], config)
            sets.append(JudgedSet(str(source), split, inputs, chosen.labels))
    return sets


def score(precision: str, item: JudgedSet, reference: FloatArray, logits: FloatArray) -> Score:
    """Compare a variant's logits float32[N, 6] with the float network's on one set."""
    own = figures(item.source, item.labels, logits.argmax(axis=1).astype(np.int64))
    before = figures(item.source, item.labels, reference.argmax(axis=1).astype(np.int64))
    difference = np.abs(reference.astype(np.float64) - logits)
    return Score(
        precision=precision,
        source=item.source,
        split=item.split,
        n=len(item.labels),
        accuracy=own.accuracy,
        balanced_accuracy=own.balanced_accuracy,
        macro_f1=own.macro_f1,
        float_accuracy=before.accuracy,
        agreement=float(np.mean(reference.argmax(axis=1) == logits.argmax(axis=1))),
        mean_difference=float(difference.mean()),
        largest_difference=float(difference.max()),
        lost_recall={name: before.recall[name].value - own.recall[name].value for name in own.recall},
    )


def judge(networks: Mapping[str, onnx.ModelProto], sets: Sequence[JudgedSet]) -> list[Score]:
    """Score every variant, `float32` among them, on every set."""
    scores = []
    for item in sets:
        reference = run(networks["float32"], item.inputs)[0]
        for precision, network in networks.items():
            logits = reference if precision == "float32" else run(network, item.inputs)[0]
            scores.append(score(precision, item, reference, logits))
    return scores


def drop(scores: Sequence[Score], precision: str, split: str) -> float:
    """Share of all cells of a split by which a variant calls fewer rightly than the float network; negative when more.

    All sources together: one cell of a source with twenty is five points, and says nothing.
    """
    chosen = [
        item
        for item in scores
        if item.precision == precision and (item.split == "validation") == (split == "validation")
    ]
    cells = sum(item.n for item in chosen)
    return sum((item.float_accuracy - item.accuracy) * item.n for item in chosen) / cells if cells else 0.0


def fault(scores: Sequence[Score], precision: str) -> str | None:
    """Why a variant may not be shipped: where it loses more than ALLOWED_DROP, and which class pays most."""
    for split in ("validation", "test"):
        lost = drop(scores, precision, split)
        if lost > ALLOWED_DROP + 1e-9:  # shares of cells are not exact in binary
            worst = max(
                (
                    (points, name, item.source)
                    for item in scores
                    if item.precision == precision and item.n >= ENOUGH
                    for name, points in item.lost_recall.items()
                ),
                default=None,
            )
            paid = f"; {worst[1]} of {worst[2]} pays most, {100 * worst[0]:.1f} points of recall" if worst else ""
            return f"{precision} loses {100 * lost:.2f} points of accuracy on {split} cells (allowed 0.5){paid}"
    return None


def timings(networks: Mapping[str, onnx.ModelProto], inputs: FloatArray, rounds: int = ROUNDS) -> list[Timing]:
    """Time all variants in turn, one thread, so that what else the machine does hits all alike."""
    sessions: dict[str, Any] = {precision: session(network) for precision, network in networks.items()}
    found = []
    for batch in BATCHES:
        feed = {INPUT: inputs[np.arange(batch) % len(inputs)]}
        taken: dict[str, list[float]] = {precision: [] for precision in sessions}
        for opened in sessions.values():
            opened.run(None, feed)
        for _ in range(rounds):
            for precision, opened in sessions.items():
                started = time.perf_counter()
                opened.run(None, feed)
                taken[precision].append(1000 * (time.perf_counter() - started))
        medians = {precision: statistics.median(values) for precision, values in taken.items()}
        found += [Timing(name, batch, value, value / medians["float32"]) for name, value in medians.items()]
    return found


def table(scores: Sequence[Score]) -> str:
    """Give the scores as a Markdown table, one row a set."""
    lines = [
        "| split | source | n | precision | accuracy | balanced | macro-F1 | same class | mean difference | largest |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {item.split} | {item.source} | {item.n} | {item.precision} | {item.accuracy:.4f} | "
        f"{item.balanced_accuracy:.4f} | {item.macro_f1:.4f} | {item.agreement:.4f} | {item.mean_difference:.4f} | "
        f"{item.largest_difference:.3f} |"
        for item in scores
    ]
    return "\n".join(lines)


def timing_table(rows: Sequence[Timing]) -> str:
    """Give the timings as a Markdown table."""
    lines = ["| precision | batch | ms | of float32 |", "|---|---|---|---|"]
    lines += [f"| {row.precision} | {row.batch} | {row.milliseconds:.1f} | {row.ratio:.2f} |" for row in rows]
    return "\n".join(lines)

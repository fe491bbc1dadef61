"""How long each variant takes for one crop, by turns in one process: what else the machine does falls on all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from edge.core.types import FloatArray
from quantization.variants import Variant


@dataclass(frozen=True, slots=True)
class Latency:
    """Median and fastest tenth of the time of one crop in milliseconds, one thread; `size` is the file's in bytes."""

    variant: str
    size: int
    median: float
    fastest_tenth: float


def measure(variants: Sequence[Variant], inputs: FloatArray, rounds: int = 30) -> list[Latency]:
    """Time the variants that are files, on inputs float32[N, S, S, 3] taken one at a time, after one uncounted turn."""
    timed = [item for item in variants if item.file is not None and item.quick]
    return measure_each(timed, [inputs] * len(timed), rounds)


def measure_each(timed: Sequence[Variant], inputs: Sequence[FloatArray], rounds: int = 30) -> list[Latency]:
    """Time variants, each on inputs of its own, float32[N, S, S, 3]."""
    times: list[list[float]] = [[] for _ in timed]
    with ExitStack() as stack:
        runtimes = [stack.enter_context(item.open()) for item in timed]
        for turn in range(rounds + 1):
            for index in range(len(timed)):
                # Each goes first as often as any other.
                place = (index + turn) % len(timed)
                for number in range(len(inputs[place])):
                    picture = inputs[place][number : number + 1]
                    started = time.perf_counter()
                    runtimes[place].run(picture)
                    if turn:
                        times[place].append(1000 * (time.perf_counter() - started))
    return [
        Latency(
            item.name,
            item.file.stat().st_size if item.file else 0,
            statistics.median(found),
            sorted(found)[len(found) // 10],
        )
        for item, found in zip(timed, times, strict=True)
    ]


def table(rows: Sequence[Latency]) -> str:
    """Give the times as a Markdown table, with their ratio to the first row."""
    lines = [
        "| variant | bytes | ms a crop, median | fastest tenth | times the first, median |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row.variant} | {row.size} | {row.median:.2f} | {row.fastest_tenth:.2f} | "
        f"{row.median / rows[0].median:.2f} |"
        for row in rows
    ]
    return "\n".join(lines)

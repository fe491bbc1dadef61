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
    """The time of one crop in milliseconds, one thread; `size` is the file's in bytes.

    `median` and `fastest_tenth` are on the wall, `processor` is the median of the processor's time: on a machine that
    does other work it is the one to compare.
    """

    variant: str
    size: int
    median: float
    fastest_tenth: float
    processor: float


def measure(variants: Sequence[Variant], inputs: FloatArray, rounds: int = 30) -> list[Latency]:
    """Time the variants that are files, on inputs float32[N, S, S, 3] taken one at a time, after one uncounted turn."""
    timed = [item for item in variants if item.file is not None and item.quick]
    return measure_each(timed, [inputs] * len(timed), rounds)


def measure_each(timed: Sequence[Variant], inputs: Sequence[FloatArray], rounds: int = 30) -> list[Latency]:
    """Time variants, each on inputs of its own, float32[N, S, S, 3]."""
    times: list[list[tuple[float, float]]] = [[] for _ in timed]
    with ExitStack() as stack:
        runtimes = [stack.enter_context(item.open()) for item in timed]
        for turn in range(rounds + 1):
            for index in range(len(timed)):
                # Each goes first as often as any other.
                place = (index + turn) % len(timed)
                for number in range(len(inputs[place])):
                    picture = inputs[place][number : number + 1]
                    started, before = time.perf_counter(), time.process_time()
                    runtimes[place].run(picture)
                    if turn:
                        wall, processor = time.perf_counter() - started, time.process_time() - before
                        times[place].append((1000 * wall, 1000 * processor))
    return [_latency(item, found) for item, found in zip(timed, times, strict=True)]


def _latency(variant: Variant, times: Sequence[tuple[float, float]]) -> Latency:
    wall = sorted(time for time, _ in times)
    return Latency(
        variant=variant.name,
        size=variant.file.stat().st_size if variant.file else 0,
        median=statistics.median(wall),
        fastest_tenth=wall[len(wall) // 10],
        processor=statistics.median(time for _, time in times),
    )


def table(rows: Sequence[Latency]) -> str:
    """Give the times as a Markdown table, with their ratio to the first row."""
    lines = [
        "| variant | bytes | ms a crop: processor | wall, median | wall, fastest tenth | processor, times the first |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row.variant} | {row.size} | {row.processor:.2f} | {row.median:.2f} | {row.fastest_tenth:.2f} | "
        f"{row.processor / rows[0].processor:.2f} |"
        for row in rows
    ]
    return "\n".join(lines)

"""Two .tflite networks beside each other: size, time of a crop by turns in one process, and memory of a process each.

    python tests/bench/peer.py STUDENT.tflite PEER.tflite [--rounds 30]

The memory is the peak resident set of a fresh process that loads one network and runs it on a hundred crops: Python,
NumPy, OpenCV, which the device has loaded anyway, and the runtime are in it, so a row without a network stands first.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

CHILD = """
import sys
from pathlib import Path
import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from devices.runtimes.litert import LiteRTRuntime
from edge.health.machine import resident_memory
if len(sys.argv) > 1:
    with LiteRTRuntime(Path(sys.argv[1])) as runtime:
        picture = np.zeros((1, *runtime.input_shape), np.float32)
        for _ in range(100):
            runtime.run(picture)
print(resident_memory()[1])
"""


def peak_megabytes(*network: str) -> float:
    """Peak resident memory of a process that runs the network, in units of 10^6 bytes."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *network], env=environment, capture_output=True, text=True, check=True
    )
    return int(done.stdout.split()[-1]) / 1e6


def main() -> None:
    """Measure and print a table."""
    import numpy as np

    from quantization import latency, variants

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("student", type=Path)
    parser.add_argument("peer", type=Path)
    parser.add_argument("--rounds", type=int, default=30)
    given = parser.parse_args()
    files = (given.student, given.peer)
    found = [variants.of_file("litert", file, file.name) for file in files]
    sides = []
    for variant in found:
        with variant.open() as runtime:
            sides.append(runtime.input_shape)  # type: ignore[attr-defined]
    inputs = [np.random.default_rng(0).uniform(-1, 1, (8, *side)).astype(np.float32) for side in sides]
    times = latency.measure_each(found, inputs, given.rounds)
    memory = [peak_megabytes(str(file)) for file in files]
    print("| network | input | bytes | ms a crop: processor | wall, median | wall, fastest tenth | peak MB |")
    print("|---|---|---:|---:|---:|---:|---:|")
    print(f"| none | | | | | | {peak_megabytes():.0f} |")
    for side, row, peak in zip(sides, times, memory, strict=True):
        print(
            f"| {row.variant} | {'x'.join(map(str, side))} | {row.size} | {row.processor:.2f} | {row.median:.2f} | "
            f"{row.fastest_tenth:.2f} | {peak:.0f} |"
        )
    one, other = times
    print(
        f"\nThe second has {other.size / one.size:.1f} times the bytes and takes "
        f"{other.processor / one.processor:.1f} times the processor (wall: median "
        f"{other.median / one.median:.1f} times, fastest tenth {other.fastest_tenth / one.fastest_tenth:.1f} times)."
    )


if __name__ == "__main__":
    main()

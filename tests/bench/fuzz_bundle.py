"""The fuzzing of tests/fuzzing.py with as many examples as one likes.

    python tests/bench/fuzz_bundle.py --examples 100000

Half of them are manifests, half archives; slot states and roots get a tenth each on top. Ends with the first example
that is neither read right nor refused with an error of ours.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]

import fuzzing  # noqa: E402
from hypothesis import HealthCheck, Phase, given, settings  # noqa: E402

SHARES = {"manifest": 0.5, "archive": 0.5, "state": 0.1, "root": 0.1}


def run(target: str, examples: int) -> tuple[int, int]:
    """Try that many examples; returns how many there were, and how many of them were accepted."""
    made, read = fuzzing.TARGETS[target]
    tried = accepted = 0

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(made())
    def each(data: bytes) -> None:
        nonlocal tried, accepted
        tried += 1
        accepted += read(data)

    each()
    return tried, accepted


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--examples", type=int, default=100_000)
    wanted = options.parse_args().examples
    try:
        for target, share in SHARES.items():
            started = time.monotonic()
            tried, accepted = run(target, round(wanted * share))
            seconds = time.monotonic() - started
            refused = tried - accepted
            print(f"{target}: {tried} examples, {accepted} read, {refused} refused, {seconds:.0f} s", flush=True)
    finally:
        fuzzing.clean()


if __name__ == "__main__":
    main()

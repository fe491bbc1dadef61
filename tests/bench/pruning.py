"""What pruning or clustering the weights of a finished run would bring, without training it again.

    python tests/bench/pruning.py RUN --data DIR [--cache DIR]

Of every convolution the smallest weights are set to zero, or all to the nearest of a few values (k-means), and the
network is judged on the validation cells. A .tflite file stores every weight either way, and no int8 kernel of LiteRT
skips zeros: neither the file nor the time changes. What can shrink is the file in an archive, so that is what is
estimated: the kernels, rounded to int8 per channel, through zlib.
"""

from __future__ import annotations

import argparse
import os
import sys
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

Kernel = np.ndarray[Any, np.dtype[np.float32]]


def pruned(kernel: Kernel, share: float) -> Kernel:
    """The kernel with this share of its weights, the smallest, set to zero."""
    return np.where(np.abs(kernel) < np.quantile(np.abs(kernel), share), 0, kernel).astype(np.float32)


def clustered(kernel: Kernel, count: int) -> Kernel:
    """The kernel with each weight at the nearest of `count` values, found by k-means from even quantiles."""
    flat = kernel.ravel()
    centres = np.quantile(flat, (np.arange(count) + 0.5) / count)
    for _ in range(20):
        nearest = np.abs(flat[:, None] - centres).argmin(axis=1)
        centres = np.array([flat[nearest == index].mean() if (nearest == index).any() else centres[index]
                            for index in range(count)])  # fmt: skip
    return centres[np.abs(flat[:, None] - centres).argmin(axis=1)].reshape(kernel.shape).astype(np.float32)


def packed(kernels: Sequence[Kernel]) -> int:
    """Bytes of the kernels as int8, a scale per channel, through zlib."""
    rounded = [
        np.rint(kernel / (np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1)), keepdims=True) / 127 + 1e-12))
        for kernel in kernels
    ]
    return len(zlib.compress(b"".join(value.astype(np.int8).tobytes() for value in rounded), 9))


def main() -> None:
    """Judge each way and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path)
    given = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    from quantization import gate, variants
    from training import fit
    from training.make_student import load_cells

    model, config = fit.load(given.run)
    sets = fit.validation_sets(load_cells(given.data, config, given.run, given.cache), config)
    places = [index for index, weight in enumerate(model.weights) if weight.path.endswith("kernel")]
    original = model.get_weights()
    reference = [variants.KerasRuntime(model).run(item.inputs).logits for item in sets]
    ways: dict[str, Callable[[Kernel], Kernel]] = {
        "as trained": lambda kernel: kernel,
        **{f"pruned by {share:.0%}": partial(pruned, share=share) for share in (0.25, 0.5)},
        **{f"clustered to {count}": partial(clustered, count=count) for count in (32, 16)},
    }
    print("| weights | kernels through zlib, bytes | source | same class | macro-F1 | rules |")
    print("|---|---:|---|---:|---:|---|")
    for name, way in ways.items():
        changed = [way(value) if index in places else value for index, value in enumerate(original)]
        model.set_weights(changed)
        size = packed([changed[index] for index in places])
        for item, wanted in zip(sets, reference, strict=True):
            logits = variants.KerasRuntime(model).run(item.inputs).logits
            row = gate.judge(name, item.name, item.labels, wanted, logits)
            print(
                f"| {name} | {size} | {item.name} | {row.logits.agreement:.4f} | {100 * row.macro_f1:.1f} | "
                f"{'broken' if row.faults else 'kept'} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

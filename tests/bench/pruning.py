"""What pruning or clustering the weights of a finished run brings, as it is and after a short training with it.

    python tests/bench/pruning.py RUN --data DIR [--cache DIR] [--network INT8.tflite] [--steps 20] [--batch 32]

Of every convolution the smallest weights are set to zero, or all to the nearest of a few values (k-means). The network
is judged on the validation cells of each source, then trained for some steps, in which what is zero stays zero and what
is one value stays one value, towards what it said before on fresh views of training cells, and judged again.

A .tflite file stores every weight either way, and no int8 kernel of LiteRT skips zeros: neither the file nor the time
changes. What can shrink is the file in an archive, so that is measured, too: the run's int8 file with these weights in
the place of its own, each channel rounded to its own scale, through zlib.
"""

from __future__ import annotations

import argparse
import os
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
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


def projection(changed: Kernel, way: str) -> Callable[[Kernel], Kernel]:
    """What keeps the form while training: zeros stay zeros, weights of one value stay together."""
    if way.startswith("pruned"):
        return lambda kernel: np.where(changed == 0, 0, kernel).astype(np.float32)
    _, members = np.unique(changed, return_inverse=True)
    members = members.ravel()
    counts = np.maximum(np.bincount(members), 1)
    return lambda kernel: (
        (np.bincount(members, kernel.ravel()) / counts)[members].reshape(changed.shape).astype(np.float32)
    )


def in_file(content: bytes, kernels: Sequence[Kernel]) -> bytes:
    """The int8 file with these kernels in the place of its own: the first that is free and has the shape."""
    from quantization.layers import Graph
    from quantization.rounding import replace_constant

    graph, changed = Graph(content), bytearray(content)
    filters = [index for _, output in graph.written for index in graph.reads(output)[1:2]]
    free = {
        index: tuple(graph.details[index]["shape"]) for index in filters if graph.details[index]["dtype"] is np.int8
    }
    for kernel in kernels:
        # Keras: height, width, inputs, outputs (depthwise: channels, 1). TFLite: outputs first (depthwise: last).
        turned = kernel.transpose(3, 0, 1, 2)
        place = next((index for index, shape in free.items() if shape == turned.shape), None)
        if place is not None:
            axes = (0, 1, 2) if len(turned) == 1 else (1, 2, 3)
            scale = np.maximum(np.abs(turned).max(axis=axes, keepdims=True) / 127, 1e-12)
            replace_constant(changed, place, np.rint(turned / scale).astype(np.int8))
            del free[place]
    return bytes(changed)


def main() -> None:
    """Judge each way and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--network", type=Path, help="default: RUN/student-int8.tflite")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=32)
    given = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    import keras
    import tensorflow as tf

    from quantization import gate, qat, variants
    from training import fit
    from training.data.sampling import BatchMaker
    from training.make_student import load_cells
    from training.validation import OTHER_CAMERAS

    model, config = fit.load(given.run)
    content = (given.network or given.run / "student-int8.tflite").read_bytes()
    cells = load_cells(given.data, config, given.run, given.cache)
    sets = [item for item in fit.validation_sets(cells, config) if item.name != OTHER_CAMERAS]
    maker = BatchMaker(fit.training_cells(cells, config), replace(config, batch=given.batch, steps=given.steps))
    views = [batch.inputs for batch in maker.epoch(config.epochs + 1)]
    lessons = [qat.probabilities(model, inputs).astype(np.float32) for inputs in views]
    places = [index for index, weight in enumerate(model.weights) if weight.path.endswith("kernel")]
    original = model.get_weights()
    reference = [variants.KerasRuntime(model).run(item.inputs).logits for item in sets]

    def report(name: str) -> None:
        file = in_file(content, [model.weights[index].numpy() for index in places])
        size, small = len(file), len(zlib.compress(file, 9))
        for item, wanted in zip(sets, reference, strict=True):
            row = gate.judge(name, item.name, item.labels, wanted, variants.KerasRuntime(model).run(item.inputs).logits)
            print(
                f"| {name} | {size} | {small} | {item.name} | {row.logits.agreement:.4f} | "
                f"{100 * row.macro_f1:.1f} ({100 * (row.macro_f1 - row.macro_f1_before):+.1f}) | "
                f"{'broken' if row.faults else 'kept'} |",
                flush=True,
            )

    def train(keep: Mapping[int, Callable[[Kernel], Kernel]]) -> None:
        optimizer = keras.optimizers.Adam(1e-4)
        variables = model.trainable_variables

        @tf.function  # type: ignore[untyped-decorator]
        def step(inputs: Any, wanted: Any) -> None:
            with tf.GradientTape() as tape:
                # The normalisations keep their statistics: so few steps could only blur them.
                logits = model(inputs, training=False)["logits"]
                loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(wanted, logits))
            gradients = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            optimizer.apply_gradients(zip(gradients, variables, strict=True))

        for inputs, wanted in zip(views, lessons, strict=True):
            step(inputs, wanted)
            for index, project in keep.items():
                model.weights[index].assign(project(model.weights[index].numpy()))

    ways: dict[str, Callable[[Kernel], Kernel]] = {
        "as trained": lambda kernel: kernel,
        **{f"pruned by {share:.0%}": partial(pruned, share=share) for share in (0.25, 0.5)},
        **{f"clustered to {count}": partial(clustered, count=count) for count in (32, 16)},
    }
    print("| weights | .tflite, bytes | through zlib | source | same class | macro-F1 (change) | rules |")
    print("|---|---:|---:|---|---:|---:|---|")
    for name, way in ways.items():
        changed = [way(value) if index in places else value for index, value in enumerate(original)]
        model.set_weights(changed)
        report(name)
        if name != "as trained":
            train({index: projection(changed[index], name) for index in places})
            report(f"{name}, {given.steps} steps")


if __name__ == "__main__":
    main()

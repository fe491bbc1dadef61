"""How much the kernels of one TFLite runtime differ from another's, in counts of the output, on drawn cells.

kernels.py [BUNDLE] [--save FILE | --against FILE]

Compares LiteRT's delegate with its own two sets of kernels on this processor. With --save the logits are kept, and with
--against compared with those of another processor: run the one here and the other in the user land that
devices/verify/aarch64.sh makes. Golden vectors need a tolerance above the largest of these figures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from devices.runtimes.litert import LiteRTRuntime
from edge.bundle import find, manifest
from edge.health.engine_measure import drawn_inputs


def by_kernels(path: Path, inputs: np.ndarray, kind: OpResolverType) -> tuple[np.ndarray, float]:
    """Logits float32[N, 6], and the value of one count."""
    interpreter = Interpreter(str(path), experimental_op_resolver_type=kind, num_threads=1)
    interpreter.allocate_tensors()
    entry = interpreter.get_input_details()[0]
    scale, zero = entry["quantization"]
    leaving = next(item for item in interpreter.get_output_details() if len(item["shape"]) == 2)
    rows = []
    for image in inputs:
        stored = np.clip(np.rint(image / scale) + zero, -128, 127).astype(np.int8)
        interpreter.set_tensor(entry["index"], stored[None])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(leaving["index"])[0].astype(np.float32))
    count, offset = leaving["quantization"]
    return (np.stack(rows) - offset) * count, float(count)


def row(name: str, one: np.ndarray, other: np.ndarray, count: float) -> str:
    """One line of the table."""
    counts = np.abs(one - other).max(axis=1) / count
    same = int((one.argmax(axis=1) == other.argmax(axis=1)).sum())
    middle, high, largest = np.percentile(counts, [50, 99, 100])
    return f"| {name} | {len(one)} | {same} | {middle:.1f} | {high:.1f} | {largest:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path, nargs="?", default=None)
    parser.add_argument("--save", type=Path)
    parser.add_argument("--against", type=Path)
    given = parser.parse_args()
    folder = given.bundle or find.default()
    loaded = manifest.load(folder)
    path = folder / next(item.file for item in loaded.variants if item.runtime == "litert")
    inputs, _ = drawn_inputs(loaded, 20)
    with LiteRTRuntime(path) as runtime:
        logits = runtime.run(inputs).logits
    print("| kernels beside the delegate's | cells | same class | median counts | 99th percentile | largest |")
    print("|---|---|---|---|---|---|")
    kinds = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES, OpResolverType.BUILTIN_REF
    for name, kind in zip(("LiteRT's own", "LiteRT's reference"), kinds, strict=True):
        other, count = by_kernels(path, inputs, kind)
        print(row(name, logits, other, count))
    if given.against:
        print(row(f"of {given.against.name}", logits, np.load(given.against), count))
    if given.save:
        np.save(given.save, logits)


if __name__ == "__main__":
    main()

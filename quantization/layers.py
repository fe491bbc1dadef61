"""Where a quantized network loses: each layer's output against the same layer in floating point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.core.errors import InputError
from edge.core.types import FloatArray

_INTEGERS = (np.int8, np.int16, np.uint8)
_SCALES = frozenset({"QUANTIZE", "DEQUANTIZE"})
_SHAPES = frozenset({"SHAPE", "STRIDED_SLICE", "PACK"})


@dataclass(frozen=True, slots=True)
class LayerError:
    """One operation's output over all pictures, `position` in the order of the run.

    `signal_to_noise` compares, in decibel, the power of the output in floating point with the power of what the
    quantized network differs from it by: all that was lost up to here. `fall` is how far that lies below the worst of
    the outputs that it reads: what this operation lost, 0 for the first. `range_used` is the share of the integers that
    the output takes, 0..1: a small one says that a rare picture or channel set the scale for all. `scale` is one count.
    """

    position: int
    operation: str
    name: str
    shape: tuple[int, ...]
    signal_to_noise: float
    fall: float
    range_used: float
    scale: float


class Graph:
    """An interpreter that keeps what every operation wrote, run without the kernels that fuse them."""

    def __init__(self, content: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self._interpreter: Any = Interpreter(
            model_content=content,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
        )
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]
        self.details = {item["index"]: item for item in self._interpreter.get_tensor_details()}
        found = self._interpreter._get_ops_details()
        self._read = {int(index): (item["op_name"], item["inputs"]) for item in found for index in item["outputs"]}
        # Shapes and other whole numbers are no activations.
        self.written = [(name, index) for index, (name, _) in self._read.items() if name not in _SHAPES]

    def run(self, picture: FloatArray) -> None:
        """Run one picture, float32[S, S, 3]."""
        scale, zero = self._input["quantization"]
        values: npt.NDArray[Any] = picture[None]
        if scale:
            limits = np.iinfo(self._input["dtype"])
            values = np.clip(np.rint(values / scale) + zero, limits.min, limits.max).astype(self._input["dtype"])
        self._interpreter.set_tensor(self._input["index"], values)
        self._interpreter.invoke()

    def parents(self, index: int) -> list[int]:
        """Which outputs of operations an output was made from, seen through changes of scale."""
        found: list[int] = []
        for parent in map(int, self._read[index][1]):
            if parent in self._read:
                found += self.parents(parent) if self._read[parent][0] in _SCALES else [parent]
        return found

    def reads(self, index: int) -> list[int]:
        """Which tensors the operation reads that writes one; for a convolution: input, filter, bias."""
        return [int(number) for number in self._read[index][1] if number >= 0]

    def stored(self, index: int) -> npt.NDArray[Any]:
        """What a tensor holds after a run."""
        return np.asarray(self._interpreter.get_tensor(index))

    def real(self, index: int, stored: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """The values that it stands for."""
        scale, zero = self.details[index]["quantization"]
        return (stored.astype(np.float64) - zero) * scale if scale else stored.astype(np.float64)


def _key(name: str) -> str:
    """A tensor is named after the layers that were fused into it; the last says which value it is."""
    return name.rpartition(";")[2] or name


def compare(floating: bytes, quantized: bytes, inputs: FloatArray) -> tuple[LayerError, ...]:
    """Compare two .tflite files of one network, float32 and quantized, on inputs float32[N, S, S, 3].

    The outputs are matched by name, else by their order among those of the same operation and shape. Raises InputError
    `networks-differ` when the two are not the same network, ValueError when there is no input.
    """
    if len(inputs) == 0:
        raise ValueError("no inputs to compare on")
    one, other = Graph(floating), Graph(quantized)
    pairs = matched(one, other)
    signal, noise = np.zeros(len(pairs)), np.zeros(len(pairs))
    low, high = np.full(len(pairs), np.inf), np.full(len(pairs), -np.inf)
    for picture in inputs:
        one.run(picture)
        other.run(picture)
        for row, (_, left, right) in enumerate(pairs):
            stored = other.stored(right)
            reference = one.real(left, one.stored(left))
            signal[row] += float((reference**2).sum())
            noise[row] += float(((reference - other.real(right, stored)) ** 2).sum())
            low[row], high[row] = min(low[row], float(stored.min())), max(high[row], float(stored.max()))
    ratios = 10 * np.log10(np.maximum(signal, 1e-30) / np.maximum(noise, 1e-30))
    ratio_of = {right: float(ratio) for (_, _, right), ratio in zip(pairs, ratios, strict=True)}
    rows: list[LayerError] = []
    for number, (operation, _, right) in enumerate(pairs):
        detail = other.details[right]
        before = [ratio_of[parent] for parent in other.parents(right) if parent in ratio_of]
        counts = np.iinfo(detail["dtype"]) if detail["dtype"] in _INTEGERS else None
        used = (high[number] - low[number]) / (counts.max - counts.min) if counts else 1.0
        rows.append(
            LayerError(
                position=number,
                operation=operation,
                name=_key(detail["name"]),
                shape=tuple(int(side) for side in detail["shape"]),
                signal_to_noise=ratio_of[right],
                fall=min(before) - ratio_of[right] if before else 0.0,
                range_used=float(used),
                scale=float(detail["quantization"][0]),
            )
        )
    return tuple(rows)


def matched(one: Graph, other: Graph) -> list[tuple[str, int, int]]:
    """Pair the outputs: (operation, tensor of `one`, tensor of `other`), in the order of `other`."""
    waiting = [(operation, _shape(one, index), one.details[index]["name"], index) for operation, index in one.written]
    pairs = []
    for operation, index in other.written:
        if operation in _SCALES:
            continue
        shape, name = _shape(other, index), other.details[index]["name"]
        same = [item for item in waiting if item[:2] == (operation, shape)]
        if not same:
            raise InputError(
                "networks-differ",
                f"The float network has no {operation} of shape {list(shape)} left to compare with.",
                "Name the two files of one network.",
            )
        found = next((item for item in same if item[2] == name), same[0])
        waiting.remove(found)
        pairs.append((operation, found[3], index))
    return pairs


def _shape(part: Graph, index: int) -> tuple[int, ...]:
    return tuple(int(side) for side in part.details[index]["shape"])


def worst(rows: Sequence[LayerError], count: int) -> list[LayerError]:
    """Give the layers at which most is lost, the worst first."""
    return sorted(rows, key=lambda row: -row.fall)[:count]


def table(rows: Sequence[LayerError]) -> str:
    """Give the layers as a Markdown table."""
    lines = [
        "| layer | operation | shape | SQNR dB | fall dB | range used | one count |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row.position} {row.name} | {row.operation} | {'x'.join(map(str, row.shape))} | "
        f"{row.signal_to_noise:.1f} | {row.fall:.1f} | {row.range_used:.2f} | {row.scale:.4g} |"
        for row in rows
    ]
    return "\n".join(lines)

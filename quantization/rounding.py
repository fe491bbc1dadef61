"""Rounds an int8 file's weights anew, so that each layer says what it says in floating point.

Rounding every weight to its nearest integer is best for the weight, not for the layer's answer. Layer by layer, in the
order of the run, the 1x1 convolutions of a finished .tflite file get the weights that answer best on what the int8
layers before them really hand over: first the real ones, by least squares held to those of the network, then their
rounding, in which each weight makes up for the ones rounded before it (Frantar et al., "GPTQ", ICLR 2023). The biases
take up what is left on average (Nagel et al., ICCV 2019). Ranges, types, operations and size of the file stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge.core.types import FloatArray
from quantization.layers import Graph, matched

_POSITIONS: Final = 24
"""Places of a map that are looked at in each picture."""

_HELD: Final = 0.1
"""How strongly the weights are held to those of the network, relative to the mean power of what they multiply."""

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Layer:
    """A 1x1 convolution in both files: numbers of the tensors, (input, filter, bias)."""

    floating: tuple[int, int, int]
    quantized: tuple[int, int, int]


def improve(floating: bytes, quantized: bytes, inputs: FloatArray) -> bytes:
    """Give the int8 .tflite file with weights rounded anew; `floating` is the same network in float32.

    `inputs` float32[N, S, S, 3] are training cells. Raises InputError `networks-differ` when the two are not the same
    network, ValueError when there is no input.
    """
    if len(inputs) == 0:
        raise ValueError("no inputs to round on")
    one = Graph(floating)
    found = _layers(one, Graph(quantized))
    wanted = _collect(one, [layer.floating[0] for layer in found], inputs)
    content = bytearray(quantized)
    for layer, given in zip(found, wanted, strict=True):
        graph = Graph(bytes(content))
        (real,) = _collect(graph, [layer.quantized[0]], inputs)
        kernel, bias = _kernel(one, layer.floating[1]), one.stored(layer.floating[2]).astype(np.float64)
        scales = _scales(graph, layer.quantized[1])
        counts = rounded(real, given @ kernel.T + bias, kernel, bias, scales)
        left = (given @ kernel.T + bias - real @ (counts * scales[:, None]).T).mean(axis=0)
        unit = scales * graph.details[layer.quantized[0]]["quantization"][0]
        replace_constant(content, layer.quantized[1], counts.astype(np.int8))
        replace_constant(content, layer.quantized[2], np.rint(left / unit).astype(np.int32))
    return bytes(content)


def _layers(one: Graph, other: Graph) -> list[_Layer]:
    """Find the 1x1 convolutions over maps, in the order of the run; a vector has too few places to learn from."""
    found = []
    for operation, left, right in matched(one, other):
        if operation != "CONV_2D":
            continue
        floating, quantized = one.reads(left), other.reads(right)
        shape = other.details[quantized[1]]["shape"]
        places = int(np.prod(other.details[quantized[0]]["shape"][1:3]))
        if len(quantized) == 3 and tuple(shape[1:3]) == (1, 1) and places > 1:
            found.append(_Layer(_three(floating), _three(quantized)))
    return found


def _three(numbers: Sequence[int]) -> tuple[int, int, int]:
    first, second, third = numbers
    return first, second, third


def _collect(graph: Graph, tensors: Sequence[int], inputs: FloatArray) -> list[Matrix]:
    """Give the real values of maps at some places of each picture, float64[M, C]; the places are always the same."""
    generator = np.random.default_rng(0)
    rows: list[list[Matrix]] = [[] for _ in tensors]
    seeds = generator.integers(0, 2**31, len(inputs))
    for picture, seed in zip(inputs, seeds, strict=True):
        graph.run(picture)
        for number, tensor in enumerate(tensors):
            values = graph.real(tensor, graph.stored(tensor))
            flat = values.reshape(-1, values.shape[-1])
            chosen = np.random.default_rng(seed).integers(0, len(flat), min(_POSITIONS, len(flat)))
            rows[number].append(flat[chosen])
    return [np.concatenate(parts) for parts in rows]


def _kernel(graph: Graph, tensor: int) -> Matrix:
    """Give a filter as float64[outputs, inputs]."""
    values: Matrix = graph.stored(tensor).astype(np.float64)
    return values.reshape(len(values), -1)


def _scales(graph: Graph, tensor: int) -> Matrix:
    """Give the value of one count of each output channel's weights."""
    scales = np.asarray(graph.details[tensor]["quantization_parameters"]["scales"], np.float64)
    each: Matrix = np.broadcast_to(scales, (int(graph.details[tensor]["shape"][0]),)).copy()
    return each


def rounded(real: Matrix, wanted: Matrix, kernel: Matrix, bias: Matrix, scales: Matrix) -> Matrix:
    """Give whole numbers float64[outputs, inputs] in -127..127 whose layer comes closest to what is `wanted`.

    `wanted` is float64[M, outputs]; `real` float64[M, inputs] is what the int8 layer gets. Means are left to the bias,
    so all is centred.
    """
    centred = real - real.mean(axis=0)
    power = centred.T @ centred / len(centred)
    power[np.diag_indices_from(power)] += _HELD * max(float(np.trace(power)) / len(power), 1e-12)
    missing = wanted - bias - real @ kernel.T
    best = kernel + np.linalg.solve(power, centred.T @ (missing - missing.mean(axis=0)) / len(centred)).T
    # The upper Cholesky factor of the inverse says how the error of one weight is made up for by those after it.
    order = np.argsort(-np.diag(power), kind="stable")
    inverse = np.linalg.inv(power[np.ix_(order, order)])
    factor = np.linalg.cholesky(inverse).T
    left = best[:, order].copy()
    counts = np.zeros_like(left)
    for column in range(left.shape[1]):
        counts[:, column] = np.clip(np.rint(left[:, column] / scales), -127, 127)
        error = (left[:, column] - counts[:, column] * scales) / factor[column, column]
        left[:, column + 1 :] -= error[:, None] * factor[column, column + 1 :]
    restored: Matrix = np.empty_like(counts)
    restored[:, order] = counts
    return restored


def replace_constant(content: bytearray, tensor: int, values: npt.NDArray[Any]) -> None:
    """Put other numbers of the same size in the place of a constant tensor's."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content, 0)
    buffer = model.Buffers(model.Subgraphs(0).Tensors(tensor).Buffer()).DataAsNumpy()
    raw = values.ravel().view(np.uint8)
    if buffer.size != raw.size:
        raise ValueError(f"tensor {tensor} holds {buffer.size} bytes, not {raw.size}")
    buffer[:] = raw

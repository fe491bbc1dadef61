"""What must hold in an exported ONNX graph for TensorRT to read it, checked where there is no TensorRT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from quantization.errors import QuantizationError
from quantization.onnx_export import INPUT, OUTPUTS

if TYPE_CHECKING:
    import onnx

FLOATS: Final = frozenset({"float32", "float16"})

SUPPORTED: Final = {
    **dict.fromkeys(
        ("Add", "Cast", "Mul", "Relu", "Reshape", "Sub", "Transpose", "Constant", "Identity", "Pad", "Slice", "Concat"),
        FLOATS | {"int32", "int64"},
    ),
    **dict.fromkeys(("ReduceMax", "ReduceMean", "Squeeze", "Unsqueeze", "Flatten", "Div"), FLOATS | {"int32", "int64"}),
    **dict.fromkeys(
        ("AveragePool", "Clip", "Conv", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "MatMul", "MaxPool", "Sigmoid"),
        FLOATS,
    ),
    "QuantizeLinear": FLOATS,
    "DequantizeLinear": frozenset({"int8"}),
}
"""The operators that networks of this repository may use, with the element types of their first input.

A part of the support matrix that NVIDIA publishes with its parser (onnx-tensorrt, docs/operators.md, read for TensorRT
8.5 and 10.15, which agree on these but for the 64-bit integers and quantized inputs, that the newer one states more
strictly). An operator that is missing here is looked up there before it is added.
"""

OPSETS: Final = (9, 20)
"""Opsets that TensorRT 10.0 and all later ones read."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a quantized graph has its Q/DQ pairs: how many convolutions are INT8, and how many are float."""

    quantized: int
    floating: int


def require_readable(network: onnx.ModelProto) -> None:
    """Raise QuantizationError `not-for-tensorrt` when names, shapes, operators or types are none of TensorRT's."""
    if faults := [*_end_faults(network), *_operator_faults(network)]:
        raise QuantizationError(
            "not-for-tensorrt",
            f"TensorRT cannot read the exported network: {'; '.join(faults[:5])}.",
            "Build the network from the operators in quantization/onnx_graph.py.",
        )


def require_explicit(network: onnx.ModelProto) -> Placement:
    """Raise QuantizationError `not-explicit` unless the Q/DQ pairs are as TensorRT demands; tells where they are.

    Every zero point is 0; weights are int8 with one scale for each output channel; activations have one scale; a pair
    stands before each quantized convolution and each quantized addend; no bias is quantized.
    """
    arrays = _constants(network)
    producer = {name: node for node in network.graph.node for name in node.output}
    faults: list[str] = []
    for node in network.graph.node:
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"}:
            faults += _scale_faults(node, arrays)
        if node.op_type == "DequantizeLinear" and node.input[0] not in arrays:
            source = producer.get(node.input[0])
            if source is None or source.op_type != "QuantizeLinear":
                faults.append(f"{node.name} dequantizes what was not quantized")
    quantized = floating = 0
    for node in network.graph.node:
        fed = [producer.get(name) for name in node.input]
        through = [source is not None and source.op_type == "DequantizeLinear" for source in fed]
        if node.op_type == "Conv":
            quantized += all(through[:2])
            floating += not any(through[:2])
            if any(through[:2]) and not all(through[:2]):
                faults.append(f"{node.name} has only one of input and weights quantized")
            if any(through[2:]):
                faults.append(f"the bias of {node.name} is quantized")
            faults += _channel_faults(node, fed, arrays)
        elif node.op_type == "Add" and any(through) and not all(through):
            faults.append(f"{node.name} has only one quantized addend")
    if not quantized:
        faults.append("no convolution is quantized")
    if faults:
        raise QuantizationError(
            "not-explicit",
            f"The quantized network is not one that TensorRT takes: {'; '.join(faults[:5])}.",
            "Quantize it with the versions of locks/train.txt.",
        )
    return Placement(quantized, floating)


def _end_faults(network: onnx.ModelProto) -> list[str]:
    def shape(item: Any) -> list[int | str]:
        return [side.dim_param or side.dim_value for side in item.type.tensor_type.shape.dim]

    def name_and_type(item: Any) -> tuple[str, int]:
        return item.name, item.type.tensor_type.elem_type

    ends = {item.name: shape(item) for item in (*network.graph.input, *network.graph.output)}
    faults = []
    if [name_and_type(item) for item in network.graph.input] != [(INPUT, 1)]:
        faults.append(f"the inputs are {[item.name for item in network.graph.input]}, not one float32 {INPUT}")
    if [name_and_type(item) for item in network.graph.output] != [(name, 1) for name in OUTPUTS]:
        faults.append(f"the outputs are {[item.name for item in network.graph.output]}, not float32 {OUTPUTS}")
    for name, sides in ends.items():
        if not isinstance(sides[0], str) or any(isinstance(side, str) or side <= 0 for side in sides[1:]):
            faults.append(f"{name} has the shape {sides}: the batch must be free, and nothing else")
    versions = {item.domain: item.version for item in network.opset_import}
    if set(versions) != {""} or not OPSETS[0] <= versions[""] <= OPSETS[1]:
        faults.append(f"the operator sets are {versions}")
    return faults


def _operator_faults(network: onnx.ModelProto) -> list[str]:
    # Types cannot be inferred behind an operator of another set.
    kinds = {} if any(node.domain for node in network.graph.node) else _kinds(network)
    faults = []
    for node in network.graph.node:
        allowed = SUPPORTED.get(node.op_type)
        if node.domain or allowed is None:
            faults.append(f"{node.op_type} ({node.name}) is not supported")
        elif node.input and (kind := kinds.get(node.input[0])) is not None and kind not in allowed:
            faults.append(f"{node.op_type} ({node.name}) of {kind} is not supported")
    return faults


def _kinds(network: onnx.ModelProto) -> dict[str, str]:
    """Element types of all tensors, by name."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(network).graph
    named = {1: "float32", 10: "float16", 3: "int8", 6: "int32", 7: "int64"}
    numbers = {item.name: item.type.tensor_type.elem_type for item in (*inferred.input, *inferred.value_info)}
    numbers |= {item.name: item.data_type for item in inferred.initializer}
    return {name: named.get(number, f"type {number}") for name, number in numbers.items()}


def _constants(network: onnx.ModelProto) -> dict[str, npt.NDArray[Any]]:
    from onnx import numpy_helper

    return {item.name: numpy_helper.to_array(item) for item in network.graph.initializer}


def _scale_faults(node: onnx.NodeProto, arrays: dict[str, npt.NDArray[Any]]) -> list[str]:
    scale, zero = arrays.get(node.input[1]), arrays.get(node.input[2]) if len(node.input) > 2 else None
    faults = []
    if scale is None or not np.isfinite(scale).all() or not (scale > 0).all():
        faults.append(f"the scale of {node.name} is no positive constant")
    if zero is None or zero.dtype != np.int8 or zero.any():
        faults.append(f"the zero point of {node.name} is not an int8 0")
    if scale is not None and scale.size > 1 and node.input[0] not in arrays:
        faults.append(f"{node.name} scales an activation by channel")
    return faults


def _channel_faults(
    node: onnx.NodeProto, fed: list[onnx.NodeProto | None], arrays: dict[str, npt.NDArray[Any]]
) -> list[str]:
    """Weights [channels, ...] have one scale a channel, along axis 0."""
    source = fed[1]
    if source is None or source.op_type != "DequantizeLinear":
        return []
    weights, scale = arrays.get(source.input[0]), arrays.get(source.input[1])
    axis = next((attribute.i for attribute in source.attribute if attribute.name == "axis"), 1)
    if weights is None or weights.dtype != np.int8:
        return [f"the weights of {node.name} are not stored as int8"]
    if scale is None or scale.shape != (len(weights),) or axis != 0:
        return [f"the weights of {node.name} do not have one scale for each channel"]
    return []

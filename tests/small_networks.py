"""Tiny networks with a known answer, made in both file formats at test time: one convolution, pooled into logits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SIDE = 16
PATCH = 8
CLASSES = 6

_random = np.random.default_rng(20)
KERNEL = (_random.normal(size=(CLASSES, PATCH, PATCH, 3)) / PATCH).astype(np.float32)
BIAS = _random.normal(size=CLASSES).astype(np.float32)

INPUT_SCALE, INPUT_ZERO = 1 / 128, 0
KERNEL_SCALE = float(np.abs(KERNEL).max() / 127)
OUTPUT_SCALE, OUTPUT_ZERO = 0.05, 3


def expected(batch: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Logits [N, 6] and maps [N, 2, 2, 6] by the definition of a convolution, in float64."""
    count, patches = len(batch), SIDE // PATCH
    cut = batch.reshape(count, patches, PATCH, patches, PATCH, 3).transpose(0, 1, 3, 2, 4, 5).astype(np.float64)
    maps = np.einsum("nyxhwc,ohwc->nyxo", cut, KERNEL.astype(np.float64)) + BIAS
    return maps.mean(axis=(1, 2)), maps


def onnx_network(*, side: int = SIDE, with_maps: bool = True, fixed_batch: bool = False) -> bytes:
    """The network as ONNX."""
    from onnx import TensorProto, checker, helper, numpy_helper

    batch = 1 if fixed_batch else "N"
    patches = side // PATCH
    nodes = [
        helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel", "bias"], ["raw"], strides=[PATCH, PATCH]),
        helper.make_node("ReduceMean", ["raw"], ["logits"], axes=[2, 3], keepdims=0),
        helper.make_node("Transpose", ["raw"], ["maps"], perm=[0, 2, 3, 1]),
    ]
    outputs = [helper.make_tensor_value_info("maps", TensorProto.FLOAT, [batch, patches, patches, CLASSES])]
    outputs.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, CLASSES]))
    graph = helper.make_graph(
        nodes if with_maps else nodes[:3],
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, side, side, 3])],
        outputs if with_maps else outputs[1:],
        [
            numpy_helper.from_array(np.ascontiguousarray(KERNEL.transpose(0, 3, 1, 2)), "kernel"),
            numpy_helper.from_array(BIAS, "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    return model.SerializeToString()


@dataclass
class _Values:
    name: str
    shape: list[int]
    data: npt.NDArray[np.generic] | None = None
    scale: float = 0.0
    zero: int = 0
    kind: str = "float32"


def tflite_network(*, quantized: bool, with_maps: bool = True) -> bytes:
    """The network as TFLite, in float32 or with int8 inputs, weights and outputs."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    kernel, bias = KERNEL, BIAS
    if quantized:
        kernel = np.clip(np.rint(KERNEL / KERNEL_SCALE), -127, 127).astype(np.int8)
        bias = np.rint(BIAS / (INPUT_SCALE * KERNEL_SCALE)).astype(np.int32)
    patches = SIDE // PATCH
    small = "int8" if quantized else "float32"
    tensors = [
        _Values("image", [1, SIDE, SIDE, 3], None, INPUT_SCALE, INPUT_ZERO, small),
        _Values("kernel", [CLASSES, PATCH, PATCH, 3], kernel, KERNEL_SCALE, 0, small),
        _Values("bias", [CLASSES], bias, INPUT_SCALE * KERNEL_SCALE, 0, "int32" if quantized else "float32"),
        _Values("maps", [1, patches, patches, CLASSES], None, OUTPUT_SCALE, OUTPUT_ZERO, small),
        _Values("axes", [2], np.array([1, 2], np.int32), kind="int32"),
        _Values("logits", [1, CLASSES], None, OUTPUT_SCALE, OUTPUT_ZERO, small),
    ]
    kinds = {"int8": schema.TensorType.INT8, "int32": schema.TensorType.INT32, "float32": schema.TensorType.FLOAT32}
    model = schema.ModelT()
    model.version = 3
    model.buffers = [schema.BufferT()]
    graph = schema.SubGraphT()
    graph.tensors = []
    for values in tensors:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = values.name, values.shape, kinds[values.kind]
        tensor.buffer = 0
        if values.data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(values.data.tobytes(), np.uint8)
            tensor.buffer = len(model.buffers)
            model.buffers.append(buffer)
        if quantized and values.scale:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [values.scale], [values.zero]
        graph.tensors.append(tensor)

    codes = []
    for builtin in (schema.BuiltinOperator.CONV_2D, schema.BuiltinOperator.MEAN):
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = builtin
        code.version = 3 if builtin == schema.BuiltinOperator.CONV_2D else 2
        codes.append(code)
    model.operatorCodes = codes

    convolution = schema.OperatorT()
    convolution.opcodeIndex, convolution.inputs, convolution.outputs = 0, [0, 1, 2], [3]
    convolution.builtinOptionsType = schema.BuiltinOptions.Conv2DOptions
    convolution.builtinOptions = schema.Conv2DOptionsT()
    convolution.builtinOptions.padding = schema.Padding.VALID
    convolution.builtinOptions.strideH = convolution.builtinOptions.strideW = PATCH
    mean = schema.OperatorT()
    mean.opcodeIndex, mean.inputs, mean.outputs = 1, [3, 4], [5]
    mean.builtinOptionsType = schema.BuiltinOptions.ReducerOptions
    mean.builtinOptions = schema.ReducerOptionsT()
    mean.builtinOptions.keepDims = False
    graph.operators = [convolution, mean]
    graph.inputs, graph.outputs = [0], [3, 5] if with_maps else [5]
    model.subgraphs = [graph]

    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())

"""The trained network as ONNX, in float32 and float16: fixed names, free batch, and proof that the file runs."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import keras
import numpy as np

from devices.runtimes.onnxruntime import open_session
from edge.core.types import FloatArray
from quantization.errors import QuantizationError

if TYPE_CHECKING:
    import onnx

INPUT: Final = "crop"
OUTPUTS: Final = ("logits", "class_activation")
"""Names in every exported file: float32[N, S, S, 3] to float32[N, 6] and float32[N, h, w, 6]."""

OPSET: Final = 17
"""What TensorRT 8.5 to 11 and ONNX Runtime since 1.12 read; quantization per channel needs 13."""

LARGEST_DIFFERENCE: Final = 1e-4
"""How far a logit of the exported float32 network may lie from Keras' own."""

PRECISION_KEY: Final = "leukoscope_precision"
"""Metadata of the file that names its precision: a float16 graph with float32 ends looks like any other."""


def export(model: keras.Model) -> onnx.ModelProto:
    """Export a network of `training.models.registry` in float32, with a free batch.

    The tracing of a function, rather than Keras' own export: that leaves the constants of some networks as further
    inputs of the graph, and names its outputs `Identity`.
    """
    import tensorflow as tf
    import tf2onnx

    signature = (tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name=INPUT),)

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]  # TensorFlow has no types
    def call(crop: Any) -> dict[str, Any]:
        outputs = model(crop, training=False)
        return {name: tf.identity(outputs[name], name=name) for name in OUTPUTS}

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    exported, _ = tf2onnx.convert.from_function(call, input_signature=signature, opset=OPSET)
    _rename(exported, model.input_shape[1:])
    return mark(_numbered(_folded(exported)), "float32")


def to_float16(exported: onnx.ModelProto) -> onnx.ModelProto:
    """Turn an exported float32 network into half floats inside; its input and outputs stay float32.

    TensorRT 11 has no switch for half floats: it computes in the types that the file states.
    """
    from onnxruntime.quantization.onnx_model import ONNXModel
    from onnxruntime.transformers import float16

    # Every operator in half floats: the defaults keep a list of those that older runtimes lacked.
    half = float16.convert_float_to_float16(copied(exported), keep_io_types=True, op_block_list=[])
    # The converter adds the cast of the input behind the nodes that read it.
    ordered = ONNXModel(half)
    ordered.topological_sort()
    return mark(ordered.model, "float16")


def run(network: onnx.ModelProto, inputs: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Logits float32[N, 6] and class activation float32[N, h, w, 6] from ONNX Runtime on the CPU."""
    opened = session(network)
    parts = [opened.run(list(OUTPUTS), {INPUT: inputs[at : at + 64]}) for at in range(0, len(inputs), 64)]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def difference(model: keras.Model, network: onnx.ModelProto, inputs: FloatArray) -> float:
    """Give the largest difference between the two networks' outputs, logits and class activation alike."""
    expected = model.predict(inputs, batch_size=64, verbose=0)
    found = dict(zip(OUTPUTS, run(network, inputs), strict=True))
    return max(float(np.abs(np.asarray(expected[name], np.float64) - found[name]).max()) for name in OUTPUTS)


def require_same(model: keras.Model, network: onnx.ModelProto, inputs: FloatArray) -> float:
    """Give the same, and raise QuantizationError `export-differs` when it exceeds LARGEST_DIFFERENCE."""
    found = difference(model, network, inputs)
    if not found <= LARGEST_DIFFERENCE:
        raise QuantizationError(
            "export-differs",
            f"The exported network differs from Keras by {found:.3g} (allowed {LARGEST_DIFFERENCE:g}).",
            "This network cannot be exported faithfully with these versions: use those of locks/train.txt.",
        )
    return found


def _rename(exported: onnx.ModelProto, shape: tuple[int, ...]) -> None:
    """Give inputs and outputs their fixed names and shapes; raises QuantizationError when there are others."""
    graph = exported.graph
    weights = {item.name for item in graph.initializer}
    inputs = [item.name for item in graph.input if item.name not in weights]
    ranks = [len(item.type.tensor_type.shape.dim) for item in graph.output]
    if len(inputs) != 1 or sorted(ranks) != [2, 4]:
        raise QuantizationError(
            "export-odd",
            f"The exported graph has the inputs {inputs} and outputs of rank {ranks}.",
            "Export a network of `leuko train fit`.",
        )
    new = {inputs[0]: INPUT, **{item.name: OUTPUTS[rank == 4] for item, rank in zip(graph.output, ranks, strict=True)}}
    for node in graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
    ordered = sorted(graph.output, key=lambda item: len(item.type.tensor_type.shape.dim))
    del graph.output[:]
    graph.output.extend(ordered)
    for item in (*graph.input, *graph.output):
        item.name = new.get(item.name, item.name)
        first = item.type.tensor_type.shape.dim[0]
        first.Clear()
        first.dim_param = "N"
    for dimension, side in zip(graph.input[0].type.tensor_type.shape.dim[1:], shape, strict=True):
        dimension.dim_value = side


def _folded(exported: onnx.ModelProto) -> onnx.ModelProto:
    """Fold constants and normalisations into the convolutions, in standard operators only.

    The converter leaves the normalisation behind each depthwise convolution as a multiplication and an addition.
    """
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "folded.onnx"
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(path)
        options.log_severity_level = 3
        onnxruntime.InferenceSession(exported.SerializeToString(), options, providers=["CPUExecutionProvider"])
        folded = onnx.load(path)
    used = {node.domain for node in folded.graph.node}
    standard = [item for item in folded.opset_import if item.domain in used]
    del folded.opset_import[:]
    folded.opset_import.extend(standard)
    return folded


def _numbered(network: onnx.ModelProto) -> onnx.ModelProto:
    """Name tensors and nodes by their place: the converter counts on, and no two exports of a process are alike."""
    graph = network.graph
    kept = {INPUT, *OUTPUTS, ""}
    names: dict[str, str] = {name: name for name in kept}
    for number, node in enumerate(graph.node):
        for index, name in enumerate(node.input):
            names.setdefault(name, f"constant_{number}_{index}")
        for index, name in enumerate(node.output):
            names.setdefault(name, f"{node.op_type.lower()}_{number}_{index}")
        node.name = f"{node.op_type}_{number}"
    for node in graph.node:
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    weights = [item for item in graph.initializer if item.name in names]
    for item in weights:
        item.name = names[item.name]
    ordered = sorted(weights, key=lambda item: item.name)
    del graph.initializer[:]
    graph.initializer.extend(ordered)
    del graph.value_info[:]
    graph.name, graph.doc_string = "leukoscope", ""
    return network


def mark(network: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """Write the precision into the metadata of a network, and check the file against the standard."""
    import onnx

    del network.metadata_props[:]
    network.metadata_props.add(key=PRECISION_KEY, value=precision)
    network.producer_name, network.producer_version, network.doc_string = "leukoscope", "", ""
    onnx.checker.check_model(network, full_check=True)
    return network


def copied(network: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a network: the converters change what they are given."""
    copy = type(network)()
    copy.CopyFrom(network)
    return copy


def session(network: onnx.ModelProto) -> Any:
    """Open a network as the device does, with one thread."""
    return open_session(network.SerializeToString())

"""The exported network in INT8 with explicit quantization: Q/DQ pairs that ONNX Runtime and TensorRT both compute.

Symmetric everywhere, zero point 0: TensorRT knows no other. Weights per output channel, stored as integers; activations
per tensor, with ranges from a percentile or the entropy of their histogram over the calibration set. Never from
random inputs: ranges that no cell has set are worse than none.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from edge.core.types import FloatArray
from quantization.errors import QuantizationError
from quantization.onnx_export import INPUT, copied, mark

if TYPE_CHECKING:
    import onnx

Method = Literal["percentile", "entropy"]

PERCENTILE: Final = 99.99
"""Of the absolute values of an activation: the rest is clipped. Without it one bright speck sets the scale of all."""

FIRST_IN_FLOAT: Final = 3
"""The stem and the first separable block: an error there goes through everything.

Measured on the full model, on training cells that set no range: 22.8 dB of signal to noise with these three in float,
17.8 without. The normalisation that is folded into them stretches their outputs to +-60 on one scale.
"""

POOLINGS: Final = frozenset({"GlobalAveragePool", "GlobalMaxPool", "ReduceMax", "ReduceMean"})

BATCH: Final = 32
SMALLEST_SET: Final = 32
"""Fewer inputs than this set no ranges worth having."""


def quantize(network: onnx.ModelProto, inputs: FloatArray, method: Method = "percentile") -> onnx.ModelProto:
    """Quantize an exported float32 network with calibration inputs float32[N, S, S, 3].

    The convolutions of the base and its residual additions become INT8, but for the first three; the gates of CBAM and
    the head stay float: they are a thousandth of the arithmetic and decide the result.

    Raises QuantizationError `calibration-too-small`.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    if len(inputs) < SMALLEST_SET:
        raise QuantizationError(
            "calibration-too-small",
            f"{len(inputs)} calibration inputs are too few (at least {SMALLEST_SET}).",
            "Name a folder of labelled images with more training cells.",
        )
    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / "int8.onnx"
        quantize_static(
            copied(network),  # it moves the weights of what it is given into a file that is gone afterwards
            path,
            _Batches(inputs),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Add"],
            nodes_to_exclude=excluded(network),
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.Percentile if method == "percentile" else CalibrationMethod.Entropy,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "CalibTensorRangeSymmetric": True,
                "CalibPercentile": PERCENTILE,
                # One batch at a time: all activations of all inputs would fill the memory.
                "CalibStridedMinMax": 1,
                # TensorRT takes biases in float, and fuses a convolution with what follows up to the next Q.
                "QuantizeBias": False,
                "QDQDisableWeightAdjustForInt32Bias": True,
                "OpTypesToExcludeOutputQuantization": ["Conv", "Add"],
            },
        )
        import onnx

        return mark(onnx.load(path), "int8")


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what the library prints and warns of: progress, and advice to fold what is folded already."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def excluded(network: onnx.ModelProto) -> list[str]:
    """Name the convolutions and additions that stay float: the first, the gates and the head, by their place.

    A gate is what lies behind a pooling, up to its sigmoid; the head is what no convolution follows.
    """
    graph = network.graph
    constants = {item.name for item in graph.initializer}
    pooled = _behind_pooling(network)
    followed = _followed_by_convolution(network)
    names = [node.name for node in graph.node if node.op_type == "Conv"][:FIRST_IN_FLOAT]
    for node in graph.node:
        in_gate = node.output[0] in pooled
        in_head = node.op_type == "Conv" and node.output[0] not in followed
        of_constant = node.op_type == "Add" and any(name in constants for name in node.input)
        if node.op_type in {"Conv", "Add"} and (in_gate or in_head or of_constant):
            names.append(node.name)
    return list(dict.fromkeys(names))


def _behind_pooling(network: onnx.ModelProto) -> set[str]:
    """Give the tensors that are computed from a pooled one, up to a sigmoid.

    Not by the reshaping in front of a gate's convolution: the converter leaves that out of some exports.
    """
    reached: set[str] = set()
    for node in network.graph.node:
        behind = node.op_type != "Sigmoid" and any(name in reached for name in node.input)
        if behind or node.op_type in POOLINGS:
            reached.update(node.output)
    return reached


def _followed_by_convolution(network: onnx.ModelProto) -> set[str]:
    """Give the tensors from which some later convolution still computes."""
    reached: set[str] = set()
    for node in reversed(network.graph.node):
        if node.op_type == "Conv" or any(name in reached for name in node.output):
            reached.update(name for name in node.input if name)
    return reached


class _Batches:
    """The calibration inputs in batches, as ONNX Runtime reads them; the last one is filled up from the start."""

    def __init__(self, inputs: FloatArray) -> None:
        self._inputs = inputs
        self._count = -(-len(inputs) // BATCH)
        self._rest: Iterator[int] = iter(range(self._count))

    def __len__(self) -> int:
        return self._count

    def set_range(self, start_index: int, end_index: int) -> None:
        """Go on with the batches from `start_index` to before `end_index`."""
        self._rest = iter(range(start_index, end_index))

    def get_next(self) -> dict[str, Any] | None:
        """Give the next batch by the name of the input, None at the end."""
        number = next(self._rest, None)
        if number is None:
            return None
        # A histogram takes batches of one size only: the last one is filled up from the start.
        rows = [at % len(self._inputs) for at in range(number * BATCH, (number + 1) * BATCH)]
        return {INPUT: self._inputs[rows]}

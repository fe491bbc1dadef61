"""Post-training quantization to full-integer TFLite: int8 in, int8 out, int8 in between."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from edge.core.errors import LeukoError
from edge.core.labels import LABELS
from edge.core.types import FloatArray
from training.config import RunConfig
from training.data.augment import centre, generator_for, random_view
from training.data.cells import Cells
from training.fit import network_inputs


class QuantizationError(LeukoError):
    """The network could not be turned into full-integer form."""


def representative_set(cells: Cells, config: RunConfig, per_stratum: int = 12, seed: int = 0) -> FloatArray:
    """Choose inputs that set the ranges, float32[N, S, S, 3]: as many training cells of each class of each source.

    Every other one is seen through a random microscope, so that the ranges hold for cameras beyond the training sites.
    """
    generator = generator_for(seed, 4711)
    train = cells.select((cells.split == "train") & (cells.source != "rendered"))
    chosen: list[int] = []
    for source in np.unique(train.source):
        for label in range(len(LABELS) + 1):
            pool = np.flatnonzero((train.source == source) & (train.labels == label))
            chosen += generator.permutation(pool)[:per_stratum].tolist()
    crops = [
        random_view(train.crops[index], config.size, generator)
        if number % 2
        else centre(train.crops[index], config.size)
        for number, index in enumerate(chosen)
    ]
    return network_inputs(crops, config)


def one_at_a_time(model: keras.Model) -> keras.Model:
    """Fix the batch at one, as the device runs it: a free batch would leave shape arithmetic in the graph."""
    inputs = keras.Input(batch_shape=(1, *model.input_shape[1:]), name="crop")
    return keras.Model(inputs, model(inputs), name=model.name)


def convert(model: keras.Model, representative: FloatArray) -> bytes:
    """Quantize a Keras model with float32[N, H, W, 3] inputs that set its ranges; returns a .tflite file.

    Weights per channel, activations per tensor, int8 everywhere. Raises QuantizationError `not-all-int8` when an
    operation is left in floating point.
    """
    import tensorflow as tf

    def samples() -> Iterator[list[Any]]:
        for item in representative:
            yield [item[None]]

    converter = tf.lite.TFLiteConverter.from_keras_model(one_at_a_time(model))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = samples
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8
    # The converter prints the model's signature; only the command line prints here.
    with contextlib.redirect_stdout(io.StringIO()):
        content = bytes(converter.convert())
    require_int8(content)
    return content


def operations(content: bytes) -> Counter[str]:
    """How often each operation occurs in a .tflite file."""
    interpreter = _interpreter(content)
    return Counter(operation["op_name"] for operation in interpreter._get_ops_details())


def require_int8(content: bytes) -> None:
    """Raise QuantizationError unless every tensor that an operation writes or reads is an integer."""
    interpreter = _interpreter(content)
    floating = [
        tensor["name"] for tensor in interpreter.get_tensor_details() if np.issubdtype(tensor["dtype"], np.floating)
    ]
    if floating:
        raise QuantizationError(
            "not-all-int8",
            f"{len(floating)} tensors stay in floating point, the first is {floating[0]}.",
            "Use operations that have an int8 kernel.",
        )


def _interpreter(content: bytes) -> Any:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    # Without the default delegates, which would fold the graph into one opaque operation.
    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    return interpreter

"""Post-training quantization to full-integer TFLite: int8 in, int8 out, int8 in between."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from edge.core.errors import MissingExtraError
from edge.core.labels import LABELS
from edge.core.types import FloatArray
from quantization import graph
from quantization.errors import QuantizationError
from training.config import RunConfig
from training.data.augment import centre, generator_for, random_view
from training.data.cells import Cells
from training.fit import network_inputs

__all__ = [
    "QuantizationError",
    "convert",
    "convert_ai_edge",
    "convert_float",
    "one_at_a_time",
    "representative_set",
    "require_int8",
]


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


def convert(model: keras.Model, representative: FloatArray, wide: bool = False) -> bytes:
    """Quantize a Keras model with float32[N, H, W, 3] inputs that set its ranges; returns a .tflite file.

    Weights per channel, activations per tensor, integers everywhere: int8, or with `wide` int16 activations beside int8
    weights. Raises QuantizationError `not-all-int8` when an operation is left in floating point.
    """
    import tensorflow as tf

    def samples() -> Iterator[list[Any]]:
        for item in representative:
            yield [item[None]]

    sets = tf.lite.OpsSet
    converter = tf.lite.TFLiteConverter.from_keras_model(one_at_a_time(model))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = samples
    converter.target_spec.supported_ops = [
        sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8 if wide else sets.TFLITE_BUILTINS_INT8
    ]
    converter.inference_input_type = converter.inference_output_type = tf.int16 if wide else tf.int8
    content = _converted(converter)
    require_int8(content)
    return content


def convert_float(model: keras.Model) -> bytes:
    """Turn a Keras model into a .tflite file in float32: what a quantized one is compared with, layer by layer."""
    import tensorflow as tf

    return _converted(tf.lite.TFLiteConverter.from_keras_model(one_at_a_time(model)))


def convert_ai_edge(floating: bytes, representative: FloatArray) -> bytes:
    """Quantize a float32 .tflite file by `ai-edge-quantizer`: int8 weights and activations where it can.

    It leaves what it has no rule for in floating point, so the result is not asked to be all integers. Raises
    MissingExtraError when it is not installed.
    """
    try:
        from ai_edge_quantizer import quantizer, recipe
    except ImportError as error:
        raise MissingExtraError(
            "extra-missing", f"ai-edge-quantizer cannot be imported ({error}).", "Run: pip install ai-edge-quantizer"
        ) from error
    name = _interpreter(floating).get_input_details()[0]["name"].removeprefix("serving_default_").partition(":")[0]
    working = quantizer.Quantizer(bytearray(floating), recipe.static_wi8_ai8())
    with contextlib.redirect_stdout(io.StringIO()):
        ranges = working.calibrate({"serving_default": [{name: item[None]} for item in representative]}, num_threads=1)
        return bytes(working.quantize(ranges).quantized_model)


def _converted(converter: Any) -> bytes:
    # The converter prints the model's signature; only the command line prints here.
    with contextlib.redirect_stdout(io.StringIO()):
        return bytes(converter.convert())


def require_int8(content: bytes) -> None:
    """Raise QuantizationError `not-all-int8` unless every tensor that an operation writes or reads is an integer."""
    floating = [item for item in graph.operations(content) if item.floating]
    if floating:
        names = ", ".join(sorted({item.name for item in floating}))
        raise QuantizationError(
            "not-all-int8",
            f"{len(floating)} operations stay in floating point: {names}.",
            "Use operations that have an int8 kernel.",
        )


def _interpreter(content: bytes) -> Any:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    # Without the default delegates, which would fold the graph into one opaque operation.
    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    return interpreter

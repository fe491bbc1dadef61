"""Quantization-aware training in `tf_keras`, as a program: `python -m quantization.aware FOLDER`.

It runs in a process of its own, and may run in an environment of its own: tensorflow-model-optimization knows only
Keras 2, and importing it changes what `tf.keras` is for the whole process. The folder holds what
`quantization.qat` wrote; the program adds `network.tflite`.

Every layer's weights and outputs pass a fake quantization whose ranges are learnt (Jacob et al., "Quantization and
training of neural networks for efficient integer-arithmetic-only inference", CVPR 2018). The gates of CBAM are built
from layers that each have such a form: mean and maximum over the map or the channels, 1x1 convolutions, a sigmoid of
fixed range and a product. CBAM's one hidden layer for both gates becomes two that start alike, since a shared layer
can hold but one range.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

_LOG = logging.getLogger(__name__)

JOB_FILE = "job.json"
WEIGHTS_FILE = "weights.npz"
INPUTS_FILE = "inputs.npy"
TARGETS_FILE = "targets.npy"
RANGES_FILE = "ranges.npy"
NETWORK_FILE = "network.tflite"

_SETTLING = 0.8
"""Decay of the moving ranges before training: they start at +-6 and must reach those of the network first."""

_TRAINING = 0.99
"""Decay of the moving ranges while training: TensorFlow's 0.999 would need thousands of steps."""

_SETTLING_PASSES = 12


@dataclass(frozen=True, slots=True)
class Schedule:
    """`steps` batches of `batch` crops, with a rate that falls from `rate` to zero along a cosine."""

    steps: int = 200
    batch: int = 32
    rate: float = 1e-4


def _parts() -> dict[str, Any]:
    """Make the two layers and the three ways to quantize that TFMOT lacks; its import decides what Keras is."""
    import tensorflow as tf
    import tensorflow_model_optimization as tfmot
    import tf_keras

    scheme = tfmot.quantization.keras
    quantizers = scheme.quantizers

    class ChannelMean(tf_keras.layers.Layer):  # type: ignore[misc]
        """Mean over the channels, which are kept as one."""

        def call(self, inputs: Any) -> Any:
            return tf.reduce_mean(inputs, axis=-1, keepdims=True)

    class ChannelMax(tf_keras.layers.Layer):  # type: ignore[misc]
        """Maximum over the channels, which are kept as one."""

        def call(self, inputs: Any) -> Any:
            return tf.reduce_max(inputs, axis=-1, keepdims=True)

    class Unchanged(scheme.QuantizeConfig):  # type: ignore[misc,name-defined]
        """Nothing to quantize: the output has the scale of the input."""

        def get_weights_and_quantizers(self, layer: Any) -> list[Any]:
            return []

        def get_activations_and_quantizers(self, layer: Any) -> list[Any]:
            return []

        def set_quantize_weights(self, layer: Any, quantize_weights: Any) -> None:
            pass

        def set_quantize_activations(self, layer: Any, quantize_activations: Any) -> None:
            pass

        def get_output_quantizers(self, layer: Any) -> list[Any]:
            return []

        def get_config(self) -> dict[str, Any]:
            return {}

    class MovingOutput(Unchanged):
        """The range of the output is learnt."""

        def get_output_quantizers(self, layer: Any) -> list[Any]:
            return [quantizers.MovingAverageQuantizer(num_bits=8, per_axis=False, symmetric=False, narrow_range=False)]

    class SigmoidOutput(Unchanged):
        """The output lies in 0..255/256, the range that the int8 kernel of the sigmoid demands."""

        def get_output_quantizers(self, layer: Any) -> list[Any]:
            from tensorflow_model_optimization.python.core.quantization.keras.quantizers import FixedQuantizer

            return [FixedQuantizer(num_bits=8, init_min=0.0, init_max=255 / 256, narrow_range=False)]

    made = (ChannelMean, ChannelMax, Unchanged, MovingOutput, SigmoidOutput)
    return {item.__name__: item for item in made}


class Builder:
    """Builds an annotated `tf_keras` network from a description; a layer that stands for several is taken apart."""

    def __init__(self, weights: Mapping[str, npt.NDArray[np.float32]], parts: Mapping[str, Any]) -> None:
        import tensorflow_model_optimization as tfmot
        import tf_keras

        self._layers = tf_keras.layers
        self._annotate: Callable[..., Any] = tfmot.quantization.keras.quantize_annotate_layer
        self._weights = weights
        self._parts = parts
        self.assigned: list[tuple[str, list[npt.NDArray[np.float32]]]] = []

    def _stored(self, name: str) -> list[npt.NDArray[np.float32]]:
        return [self._weights[key] for key in (f"{name}/{number}" for number in range(8)) if key in self._weights]

    def _apply(
        self, layer: Any, inputs: Any, weights: Sequence[npt.NDArray[np.float32]] = (), way: str | None = None
    ) -> Any:
        if weights:
            self.assigned.append((layer.name, list(weights)))
        return self._annotate(layer, *([self._parts[way]()] if way else []))(inputs)

    def _product(self, name: str, left: Any, right: Any) -> Any:
        return self._apply(self._layers.Multiply(name=name), [left, right], way="MovingOutput")

    def _sigmoid(self, name: str, values: Any) -> Any:
        return self._apply(self._layers.Activation("sigmoid", name=name), values, way="SigmoidOutput")

    def _sum(self, name: str, left: Any, right: Any) -> Any:
        return self._apply(self._layers.Add(name=name), [left, right])

    def ChannelAttention(self, name: str, inputs: Any) -> Any:  # noqa: N802  # named as the layer it stands for
        """Build the gate of each channel."""
        kernel, bias, gate_kernel, gate_bias = self._stored(name)
        gates = []
        for kind, pooled in (
            ("mean", self._apply(self._layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean"), inputs)),
            ("max", self._apply(self._layers.GlobalMaxPooling2D(keepdims=True, name=f"{name}_max"), inputs)),
        ):
            hidden = self._layers.Conv2D(kernel.shape[-1], 1, name=f"{name}_{kind}_hidden", activation="relu")
            gate = self._layers.Conv2D(gate_kernel.shape[-1], 1, name=f"{name}_{kind}_gate")
            gates.append(self._apply(gate, self._apply(hidden, pooled, [kernel, bias]), [gate_kernel, gate_bias]))
        return self._product(f"{name}_product", inputs, self._sigmoid(name, self._sum(f"{name}_sum", *gates)))

    def SpatialAttention(self, name: str, inputs: Any, kernel_size: int) -> Any:  # noqa: N802
        """Build the gate of each position."""
        of_mean, of_max, bias = self._stored(name)
        convolution = self._layers.Conv2D
        mean = self._apply(self._parts["ChannelMean"](name=f"{name}_mean"), inputs, way="MovingOutput")
        largest = self._apply(self._parts["ChannelMax"](name=f"{name}_max"), inputs, way="Unchanged")
        mean = self._apply(
            convolution(1, kernel_size, padding="same", use_bias=False, name=f"{name}_of_mean"), mean, [of_mean]
        )
        largest = self._apply(
            convolution(1, kernel_size, padding="same", name=f"{name}_of_max"), largest, [of_max, bias]
        )
        return self._product(f"{name}_product", inputs, self._sigmoid(name, self._sum(f"{name}_sum", mean, largest)))

    def ClassActivationHead(self, name: str, inputs: Any, units: int) -> tuple[Any, Any]:  # noqa: N802
        """Build the logits, and the same kernel at each position."""
        kernel, bias = self._stored(name)
        pooled = self._apply(self._layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean"), inputs)
        logits = self._apply(self._layers.Conv2D(units, 1, name="logits"), pooled, [kernel, bias])
        activation = self._apply(
            self._layers.Conv2D(units, 1, use_bias=False, name="class_activation"), inputs, [kernel]
        )
        return self._apply(self._layers.Reshape((units,), name=f"{name}_flat"), logits), activation

    def build(self, side: int, nodes: Sequence[Mapping[str, Any]]) -> Any:
        """Build the annotated network with its weights: float[N, side, side, 3] to [logits, class_activation]."""
        import tf_keras

        inputs = tf_keras.Input((side, side, 3), name="crop")
        values: dict[str, Any] = {}
        outputs: tuple[Any, Any] | None = None
        for node in nodes:
            kind, name = node["kind"], node["name"]
            read = [values[other] for other in node["inputs"]]
            if kind == "InputLayer":
                values[name] = inputs
            elif kind == "ClassActivationHead":
                outputs = self.ClassActivationHead(name, read[0], **node["settings"])
                values[name] = None
            elif kind == "Identity":
                values[name] = read[0]
            elif kind in {"ChannelAttention", "SpatialAttention"}:
                values[name] = getattr(self, kind)(name, read[0], **node["settings"])
            else:
                layer = getattr(self._layers, kind)(**_tuples(node["settings"]), name=name)
                values[name] = self._apply(layer, read if len(read) > 1 else read[0], self._stored(name))
        if outputs is None:
            raise ValueError("the network has no class-activation head")
        model = tf_keras.Model(inputs, list(outputs))
        for name, weights in self.assigned:
            # The wrapper that marks a layer for quantization has a name of its own.
            next(layer.layer for layer in model.layers if getattr(layer, "layer", layer).name == name).set_weights(
                weights
            )
        return model


def _tuples(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Give lists, which JSON knows, as the tuples that layers want."""
    return {key: _tuple(value) for key, value in settings.items()}


def _tuple(value: Any) -> Any:
    return tuple(_tuple(item) for item in value) if isinstance(value, list) else value


@contextlib.contextmanager
def _range_decay(decay: float) -> Iterator[None]:
    """Let the moving ranges forget at this rate inside the block; TFMOT has 0.999 written into its code."""
    from tensorflow_model_optimization.python.core.quantization.keras import quant_ops

    original = quant_ops.MovingAvgQuantize

    def faster(*arguments: Any, **named: Any) -> Any:
        return original(*arguments, **{**named, "ema_decay": decay})

    with mock.patch.object(quant_ops, "MovingAvgQuantize", faster):
        yield


def quantization_aware(
    side: int, nodes: Sequence[Mapping[str, Any]], weights: Mapping[str, npt.NDArray[np.float32]]
) -> Any:
    """Give the network with a fake quantization at each weight and output; the normalisations are frozen."""
    import tensorflow_model_optimization as tfmot

    parts = _parts()
    with tfmot.quantization.keras.quantize_scope(parts):
        model = tfmot.quantization.keras.quantize_apply(Builder(weights, parts).build(side, nodes))
    for layer in model.layers:
        inner = getattr(layer, "layer", layer)
        if type(inner).__name__ == "BatchNormalization":
            # Their statistics are those of the whole training; a few hundred steps could only blur them.
            inner.trainable = False
    return model


def train(
    model: Any, inputs: npt.NDArray[Any], targets: npt.NDArray[np.float32], ranges: npt.NDArray[Any], plan: Schedule
) -> list[float]:
    """Settle the ranges on `ranges`, then learn the `targets` float32[N, 6], probabilities; returns the losses.

    `inputs` and `ranges` are float16[N, S, S, 3].
    """
    import tensorflow as tf
    import tf_keras

    with _range_decay(_SETTLING):
        for number in range(_SETTLING_PASSES):
            chosen = np.arange(number * plan.batch, (number + 1) * plan.batch) % len(ranges)
            model(ranges[chosen].astype(np.float32), training=True)
    optimizer = tf_keras.optimizers.Adam(tf_keras.optimizers.schedules.CosineDecay(plan.rate, plan.steps))
    variables = model.trainable_variables

    @tf.function  # type: ignore[untyped-decorator]
    def step(pictures: Any, wanted: Any) -> Any:
        with tf.GradientTape() as tape:
            logits, _ = model(pictures, training=True)
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(wanted, logits))
        gradients = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss

    losses = []
    with _range_decay(_TRAINING):
        for number in range(plan.steps):
            part = slice(number * plan.batch, (number + 1) * plan.batch)
            losses.append(float(step(inputs[part].astype(np.float32), targets[part])))
            if (number + 1) % 20 == 0:
                _LOG.info("step %d of %d: loss %.4f", number + 1, plan.steps, np.mean(losses[-20:]))
    # The maps have no loss of their own: the kernel that the logits learnt is theirs.
    wrappers = {getattr(layer, "layer", layer).name: layer for layer in model.layers}
    _kernel(wrappers["class_activation"]).assign(_kernel(wrappers["logits"]))
    return losses


def _kernel(wrapper: Any) -> Any:
    """Give the kernel, which the wrapper has taken from its layer: the layer's is what passed the quantization."""
    return next(variable for variable in wrapper.trainable_weights if "kernel" in variable.name)


def convert(model: Any, side: int) -> bytes:
    """Turn the trained network into a full-integer .tflite file that takes one crop at a time."""
    import tensorflow as tf
    import tf_keras

    inputs = tf_keras.Input(batch_shape=(1, side, side, 3), name="crop")
    converter = tf.lite.TFLiteConverter.from_keras_model(tf_keras.Model(inputs, model(inputs)))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    with contextlib.redirect_stdout(io.StringIO()):
        return bytes(converter.convert())


def main(folder: Path) -> None:
    """Train and convert what the folder describes."""
    job = json.loads((folder / JOB_FILE).read_text(encoding="utf-8"))
    with np.load(folder / WEIGHTS_FILE) as archive:
        weights = {name: archive[name] for name in archive.files}
    inputs, targets, ranges = (
        np.load(folder / name, mmap_mode="r") for name in (INPUTS_FILE, TARGETS_FILE, RANGES_FILE)
    )
    model = quantization_aware(job["side"], job["nodes"], weights)
    train(model, inputs, np.asarray(targets), ranges, Schedule(**job["schedule"]))
    (folder / NETWORK_FILE).write_bytes(convert(model, job["side"]))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main(Path(sys.argv[1]))

"""The student network: what its outputs mean, what its attention computes, and that it survives INT8."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras", reason="the train extra is not installed")

import keras

from edge.core.errors import InputError
from training import fit
from training.checkpoint import Checkpoint
from training.config import RunConfig
from training.data.cells import Cells
from training.models import student
from training.models.cbam import ChannelAttention, SpatialAttention

pytestmark = pytest.mark.train

SMALL = RunConfig(size=64, last=32, epochs=2, steps=2, batch=4, rendered_share=0.0)


def crops(n: int, size: int = 64) -> np.ndarray:
    return np.random.default_rng(n).uniform(-1, 1, (n, size, size, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """A network with random weights whose normalisation fits its input: without that its signal fades to nothing."""
    keras.utils.set_random_seed(0)
    untrained = student.build_untrained(SMALL)
    for layer in untrained.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    untrained(crops(32), training=True)
    return untrained


def test_the_mean_of_the_activation_plus_the_bias_is_the_logit(model: keras.Model) -> None:
    head = model.get_layer("head")
    head.bias.assign(np.arange(6, dtype=np.float32))
    outputs = model.predict(crops(5), verbose=0)
    head.bias.assign(np.zeros(6, dtype=np.float32))
    assert outputs["class_activation"].shape == (5, 4, 4, 6)
    np.testing.assert_allclose(
        outputs["class_activation"].mean(axis=(1, 2)) + np.arange(6), outputs["logits"], atol=1e-5
    )


def test_spatial_attention_equals_the_published_concatenated_form() -> None:
    features = np.random.default_rng(0).normal(0, 1, (2, 6, 6, 8)).astype(np.float32)
    layer = SpatialAttention(7)
    ours = keras.ops.convert_to_numpy(layer(features))
    joined = np.stack([features.mean(axis=-1), features.max(axis=-1)], axis=-1)
    kernel = np.concatenate([layer.of_mean.get_weights()[0], layer.of_max.get_weights()[0]], axis=2)
    gate = keras.ops.convert_to_numpy(keras.ops.sigmoid(keras.ops.conv(joined, kernel, padding="same")))
    np.testing.assert_allclose(ours, features * gate, atol=1e-5)


def test_channel_attention_shares_one_mlp_and_looks_at_nothing_but_mean_and_maximum() -> None:
    features = np.random.default_rng(0).normal(0, 1, (1, 4, 4, 32)).astype(np.float32)
    layer = ChannelAttention(4)
    gate = keras.ops.convert_to_numpy(layer(features)) / features
    assert len(layer.weights) == 4
    np.testing.assert_allclose(gate, np.broadcast_to(gate[:, :1, :1], gate.shape), atol=1e-4)
    shuffled = features.reshape(1, 16, 32)[:, np.random.default_rng(1).permutation(16)].reshape(features.shape)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer(shuffled)) / shuffled, gate, atol=1e-4)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", **{"Conv1|kernel": np.zeros((3, 3, 3, 99), dtype=np.float32)})
    with pytest.raises(InputError) as caught:
        student.build(SMALL, tmp_path / "w.npz")
    assert caught.value.code == "weights-do-not-fit"


def test_pretrained_weights_reach_the_student(tmp_path: Path) -> None:
    source = keras.applications.MobileNetV2((64, 64, 3), alpha=0.35, include_top=False, weights=None)
    stored = {f"{layer.name}|{weight.name}": np.asarray(weight) for layer in source.layers for weight in layer.weights}
    np.savez(tmp_path / "w.npz", **stored)
    built = student.build(SMALL, tmp_path / "w.npz")
    for name in ("Conv1", "block_13_depthwise", "block_16_project"):
        np.testing.assert_array_equal(built.get_layer(name).get_weights()[0], source.get_layer(name).get_weights()[0])


def tiny_cells() -> Cells:
    rng = np.random.default_rng(0)
    n = 60
    return Cells(
        crops=rng.integers(0, 256, (n, 96, 96, 3), dtype=np.uint8),
        labels=np.arange(n) % 6,
        source=np.array(["pbc", "bccd"] * (n // 2)),
        split=np.array((["train"] * 4 + ["validation", "test"]) * (n // 6))[rng.permutation(n)],
        kind=np.full(n, "cell"),
        group=np.arange(n).astype(str),
        picture=np.arange(n).astype(str),
        subtype=np.full(n, ""),
    )


def backbone_file(folder: Path) -> Path:
    keras.utils.set_random_seed(1)
    source = keras.applications.MobileNetV2((64, 64, 3), alpha=0.35, include_top=False, weights=None)
    stored = {f"{layer.name}|{weight.name}": np.asarray(weight) for layer in source.layers for weight in layer.weights}
    np.savez(folder / "backbone.npz", **stored)
    return folder / "backbone.npz"


def test_a_run_that_was_broken_off_goes_on_to_the_same_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = backbone_file(tmp_path)
    fit.fit(tiny_cells(), SMALL, weights, tmp_path / "whole")

    class PowerCut(Exception):
        pass

    judge, judged = fit.judge, []

    def cut(*arguments: object) -> object:
        judged.append(1)
        if len(judged) == 2:
            raise PowerCut
        return judge(*arguments)

    monkeypatch.setattr(fit, "judge", cut)
    with pytest.raises(PowerCut):
        fit.fit(tiny_cells(), SMALL, weights, tmp_path / "broken")
    monkeypatch.setattr(fit, "judge", judge)
    fit.fit(tiny_cells(), SMALL, weights, tmp_path / "broken")
    whole, resumed = (Checkpoint.load(tmp_path / name) for name in ("whole", "broken"))
    assert whole is not None
    assert resumed is not None
    for one, other in zip(whole.average, resumed.average, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    assert len(json.loads((tmp_path / "broken" / "history.json").read_text())) == 2
    loaded, config = fit.load(tmp_path / "broken")
    assert config == SMALL
    assert loaded.predict(crops(1), verbose=0)["logits"].shape == (1, 6)


def test_every_operation_of_the_quantized_student_is_int8_and_it_agrees(model: keras.Model, tmp_path: Path) -> None:
    from devices.runtimes.litert import LiteRTRuntime
    from quantization import graph, parity, tflite

    content = tflite.convert(model, crops(24))
    path = tmp_path / "student.tflite"
    path.write_bytes(content)
    assert "CONCATENATION" not in {item.name for item in graph.operations(content)}
    with LiteRTRuntime(path) as runtime:
        outputs = runtime.run(crops(16))
    assert runtime.info.precision == "int8"
    reference = model.predict(crops(16), verbose=0)
    # Random weights quantize worse than trained ones; a wrong scale or zero point would leave nothing at all.
    assert parity.compare("random", reference["logits"], outputs.logits).signal_to_noise > 5
    assert outputs.features is not None
    assert outputs.features.shape == (16, 4, 4, 6)


def test_a_network_left_in_floating_point_is_refused() -> None:
    import tensorflow as tf

    from quantization import tflite

    inputs = keras.Input(batch_shape=(1, 8, 8, 3))
    converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(inputs, keras.layers.Conv2D(2, 1)(inputs)))
    with pytest.raises(tflite.QuantizationError, match="floating"):
        tflite.require_int8(converter.convert())

"""From a trained network to ONNX: the same numbers, names and shapes, readable for TensorRT, and judged."""

from __future__ import annotations

import json
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("keras", reason="the train extra is not installed")
pytest.importorskip("tf2onnx", reason="the quantize extra is not installed")

import keras
import onnx
import onnxruntime
import tiny_training as tiny
from keras import layers

from devices.runtimes import onnx_file
from devices.runtimes.onnxruntime import OnnxRuntime
from edge.bundle import manifest, verify
from edge.core.errors import InputError
from edge.inference import negotiate
from quantization import onnx_export, onnx_graph, onnx_int8, onnx_judge, onnx_variants, pack_onnx
from quantization.errors import QuantizationError
from training import fit
from training.models import registry
from training.models.cbam import cbam
from training.models.head import with_head

pytestmark = pytest.mark.train

SIDE = 32
OPTIONS = replace(tiny.TINY, model="of-onnx-tests", epochs=1)


def network(seed: int = 0) -> Any:
    """All that the full model is made of: a depthwise block with a residual sum, CBAM, a hidden layer and the head."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(inputs)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = first = layers.BatchNormalization()(layers.Conv2D(8, 1, use_bias=False)(x))
    x = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(16, 1, use_bias=False)(x)))
    x = layers.ReLU(6.0)(layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)))
    x = layers.Add()([first, layers.BatchNormalization()(layers.Conv2D(8, 1, use_bias=False)(x))])
    x = cbam(layers.ReLU(6.0)(layers.Conv2D(16, 1)(x)))
    x = layers.ReLU(6.0)(layers.Conv2D(12, 1)(x))
    model = with_head(inputs, x, 0.2, "small")
    rng = np.random.default_rng(seed)
    # Statistics and scales as after training: a normalisation that does nothing could be left out unseen.
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            n = layer.gamma.shape[0]
            layer.set_weights(
                [rng.uniform(0.5, 1.5, n), rng.normal(0, 0.3, n), rng.normal(0, 0.2, n), rng.uniform(0.3, 1, n)]
            )
    return model


def pictures(count: int, seed: int = 1) -> np.ndarray:
    coarse = np.random.default_rng(seed).uniform(-1, 1, (count, 4, 4, 3)).astype(np.float32)
    return np.repeat(np.repeat(coarse, SIDE // 4, axis=1), SIDE // 4, axis=2)


@pytest.fixture(scope="module")
def model() -> Any:
    return network()


@pytest.fixture(scope="module")
def exported(model: Any) -> Any:
    return onnx_export.export(model)


@pytest.fixture(scope="module")
def quantized(exported: Any) -> Any:
    return onnx_int8.quantize(exported, pictures(64, 2))


def test_the_export_gives_keras_numbers(model: Any, exported: Any) -> None:
    assert onnx_export.require_same(model, exported, pictures(20)) <= 1e-5


def test_an_export_of_other_weights_is_not_passed(exported: Any) -> None:
    with pytest.raises(QuantizationError) as caught:
        onnx_export.require_same(network(seed=3), exported, pictures(4))
    assert caught.value.code == "export-differs"


def test_names_and_shapes_are_fixed_and_the_batch_is_free(exported: Any, quantized: Any) -> None:
    for made in (exported, onnx_export.to_float16(exported), quantized):
        opened = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
        assert [(item.name, item.type, item.shape) for item in opened.get_inputs()] == [
            ("crop", "tensor(float)", ["N", SIDE, SIDE, 3])
        ]
        assert [(item.name, item.type, item.shape) for item in opened.get_outputs()] == [
            ("logits", "tensor(float)", ["N", 6]),
            ("class_activation", "tensor(float)", ["N", 16, 16, 6]),
        ]
        for count in (1, 5):
            assert [len(part) for part in onnx_export.run(made, pictures(count))] == [count, count]


def test_normalisations_are_folded_into_convolutions(exported: Any) -> None:
    kinds = {node.op_type for node in exported.graph.node}
    assert "BatchNormalization" not in kinds
    constants = {item.name for item in exported.graph.initializer}
    scaled = [node for node in exported.graph.node if node.op_type == "Mul" and constants & set(node.input)]
    assert scaled == []


def test_the_same_network_gives_the_same_bytes(model: Any, exported: Any, quantized: Any) -> None:
    again = onnx_export.export(model)
    assert again.SerializeToString(deterministic=True) == exported.SerializeToString(deterministic=True)
    other = onnx_int8.quantize(again, pictures(64, 2))
    assert other.SerializeToString(deterministic=True) == quantized.SerializeToString(deterministic=True)


def test_half_floats_are_half_as_large_and_nearly_the_same(model: Any, exported: Any) -> None:
    half = onnx_export.to_float16(exported)
    kinds = {item.data_type for item in half.graph.initializer}
    assert onnx.TensorProto.FLOAT not in kinds
    assert onnx.TensorProto.FLOAT16 in kinds
    assert 0 < onnx_export.difference(model, half, pictures(20)) < 0.02


def test_the_precision_is_read_from_the_bytes_alone(exported: Any, quantized: Any) -> None:
    half = onnx_export.to_float16(exported)
    for precision, made in (("float32", exported), ("float16", half), ("int8", quantized)):
        assert onnx_file.precision(made.SerializeToString()) == precision

    bare = onnx_export.copied(quantized)
    del bare.metadata_props[:]
    assert onnx_file.precision(bare.SerializeToString()) == "int8"


# What TensorRT needs, checked without it.


def test_every_variant_is_made_of_what_tensorrt_reads(exported: Any, quantized: Any) -> None:
    for made in (exported, onnx_export.to_float16(exported), quantized):
        onnx_graph.require_readable(made)


def test_pairs_stand_where_tensorrt_wants_them(quantized: Any) -> None:
    placed = onnx_graph.require_explicit(quantized)
    # Base and hidden layer but for the first three; the gates' four, the spatial gate's two and the head's two.
    assert placed == onnx_graph.Placement(quantized=5, floating=11)


def test_a_gate_without_its_reshape_stays_float_too(exported: Any) -> None:
    shorter = onnx_export.copied(exported)
    gates = [node for node in shorter.graph.node if node.op_type == "Reshape" and node.input[0].startswith("relu")]
    assert len(gates) == 2  # behind the first of a gate's two convolutions, for either pooling
    for node in shorter.graph.node:
        node.input[:] = [gates[1].input[0] if name == gates[1].output[0] else name for name in node.input]
    shorter.graph.node.remove(gates[1])
    assert np.allclose(onnx_export.run(shorter, pictures(4))[0], onnx_export.run(exported, pictures(4))[0])
    assert onnx_graph.require_explicit(onnx_int8.quantize(shorter, pictures(96))).quantized == 5


def test_gates_and_head_stay_float(exported: Any) -> None:
    excluded = set(onnx_int8.excluded(exported))
    kept = [node for node in exported.graph.node if node.op_type == "Add" and node.name not in excluded]
    assert len(kept) == 1, "the residual sum alone"


def _change(made: Any, change: Any) -> Any:
    copy = onnx_export.copied(made)
    change(copy)
    return copy


def _set(made: Any, name: str, value: np.ndarray) -> None:
    for item in made.graph.initializer:
        if item.name == name:
            item.CopyFrom(onnx.numpy_helper.from_array(value, name))


def _first(made: Any, kind: str) -> Any:
    return next(node for node in made.graph.node if node.op_type == kind)


def _zero_point(made: Any) -> None:
    _set(made, _first(made, "QuantizeLinear").input[2], np.array(3, np.int8))


def _scale(made: Any) -> None:
    _set(made, _first(made, "QuantizeLinear").input[1], np.array(0, np.float32))


def _one_scale(made: Any) -> None:
    node = _first(made, "DequantizeLinear")
    _set(made, node.input[1], np.array(0.1, np.float32))
    _set(made, node.input[2], np.array(0, np.int8))


def _float_weights(made: Any) -> None:
    arrays = {item.name: onnx.numpy_helper.to_array(item) for item in made.graph.initializer}
    node = next(n for n in made.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in arrays)
    weights = arrays[node.input[0]].astype(np.float32)
    made.graph.initializer.append(onnx.numpy_helper.from_array(weights, "plain"))
    for other in made.graph.node:
        other.input[:] = ["plain" if name == node.output[0] else name for name in other.input]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_zero_point, "zero point"),
        (_scale, "no positive constant"),
        (_one_scale, "one scale for each channel"),
        (_float_weights, "only one of input and weights"),
    ],
)
def test_a_placement_that_tensorrt_refuses_is_found(quantized: Any, change: Any, words: str) -> None:
    with pytest.raises(QuantizationError, match=words) as caught:
        onnx_graph.require_explicit(_change(quantized, change))
    assert caught.value.code == "not-explicit"


def test_a_network_without_pairs_is_not_explicit(exported: Any) -> None:
    with pytest.raises(QuantizationError, match="no convolution is quantized"):
        onnx_graph.require_explicit(exported)


def _rename(made: Any) -> None:
    made.graph.output[0].name = "Identity:0"


def _unknown(made: Any) -> None:
    _first(made, "Relu").op_type = "NonZero"


def _foreign(made: Any) -> None:
    _first(made, "Conv").domain = "com.microsoft"


def _fixed(made: Any) -> None:
    made.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def _opset(made: Any) -> None:
    made.opset_import[0].version = 26


@pytest.mark.parametrize("change", [_rename, _unknown, _foreign, _fixed, _opset])
def test_what_the_parser_does_not_read_is_found(exported: Any, change: Any) -> None:
    with pytest.raises(QuantizationError) as caught:
        onnx_graph.require_readable(_change(exported, change))
    assert caught.value.code == "not-for-tensorrt"


def test_no_ranges_from_a_handful_of_cells(exported: Any) -> None:
    with pytest.raises(QuantizationError) as caught:
        onnx_int8.quantize(exported, pictures(31))
    assert caught.value.code == "calibration-too-small"


def test_every_calibration_input_is_read(exported: Any) -> None:
    batches = onnx_int8._Batches(pictures(40))
    assert len(batches) == 2
    batches.set_range(0, 2)
    seen = [batches.get_next()["crop"], batches.get_next()["crop"]]
    assert batches.get_next() is None
    assert [len(batch) for batch in seen] == [32, 32]
    np.testing.assert_array_equal(np.concatenate(seen)[:40], pictures(40))


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_int8_keeps_the_signal(exported: Any, method: Any) -> None:
    made = onnx_int8.quantize(exported, pictures(64, 2), method)
    inputs = pictures(64, 9)
    expected, found = onnx_export.run(exported, inputs)[1], onnx_export.run(made, inputs)[1]
    noise = np.mean((expected - found) ** 2)
    assert 10 * np.log10(np.var(expected, axis=(0, 1, 2)).mean() / noise) > 12


def test_the_device_s_runtime_computes_integers_as_the_file_says(quantized: Any, tmp_path: Path) -> None:
    """On x86-64 without VNNI the fused kernels saturate; whatever the processor, the answer is that of plain Q/DQ."""
    path = tmp_path / "int8.onnx"
    path.write_bytes(quantized.SerializeToString())
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    plain = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = pictures(32, 5)
    expected = plain.run(["logits"], {"crop": inputs})[0]
    with OnnxRuntime(path) as runtime:
        assert str(runtime.info) == "onnxruntime-int8"
        found = runtime.run(inputs).logits
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


def test_timings_are_ratios_to_float(exported: Any, quantized: Any) -> None:
    rows = onnx_judge.timings({"float32": exported, "int8": quantized}, pictures(2), rounds=2)
    assert [(row.precision, row.batch) for row in rows] == [
        ("float32", 1),
        ("int8", 1),
        ("float32", 8),
        ("int8", 8),
    ]
    assert all(row.ratio == 1 for row in rows if row.precision == "float32")


# The whole way, on a run folder.


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run of the network above, known to the registry by a name of its own."""
    module = types.ModuleType("network_of_onnx_tests")
    module.__dict__.update(
        build=lambda config, weights: network(), build_untrained=lambda config: network(), base_layers=lambda model: []
    )
    sys.modules[module.__name__] = module
    registry._MODELS[OPTIONS.model] = (module.__name__, {})
    folder = tmp_path_factory.mktemp("run")
    fit.fit(tiny.tiny_cells(n=288), OPTIONS, None, folder)
    return folder


def test_a_run_becomes_files_with_their_figures(run: Path, tmp_path: Path) -> None:
    cells = tiny.tiny_cells(n=288)
    record = onnx_variants.make(run, cells, ["float16", "int8"], tmp_path, rounds=2)
    written = {item.precision: tmp_path / item.file for item in record.files}
    assert {*written, *record.refused} == {"float32", "float16", "int8"}
    assert {"float32", "float16"} <= set(written)
    assert record.files[0].difference <= 1e-4
    for precision, path in written.items():
        assert onnx_file.precision(path.read_bytes()) == precision
    assert (tmp_path / onnx_variants.file_name("int8")).exists() != ("int8" in record.refused)
    assert json.loads((tmp_path / "onnx.json").read_text())["files"][0]["precision"] == "float32"
    assert {score.split for score in record.scores} == {"validation", "test"}
    assert "| float32 | 8 |" in (tmp_path / "onnx.md").read_text()
    assert onnx_variants.read(tmp_path) == list(record.files)


def test_a_refused_variant_is_not_written(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "network-int8.onnx").write_bytes(b"an older one")
    monkeypatch.setattr(onnx_judge, "ALLOWED_DROP", -1.0)
    record = onnx_variants.make(run, tiny.tiny_cells(n=288), ["int8"], tmp_path, rounds=1)
    assert set(record.refused) == {"int8"}
    assert not (tmp_path / "network-int8.onnx").exists()
    with pytest.raises(QuantizationError) as caught:
        onnx_variants.require_all(record)
    assert caught.value.code == "costs-too-much"


def test_the_files_become_a_bundle_that_reproduces(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, folder = tmp_path / "files", tmp_path / "bundle"
    cells = tiny.tiny_cells(n=288)
    onnx_variants.make(run, cells, ["float16"], files, rounds=1)
    # The tiny network knows nothing of drawn cells: what is tested is the bundle, not its figures.
    monkeypatch.setattr(pack_onnx, "SMALLEST_TOLERANCE", 1e-5)
    monkeypatch.setattr(pack_onnx.device_path, "evaluate", lambda *words, **options: {})
    stated, rows = pack_onnx.pack(run, files, tmp_path, cells, folder, pack_onnx.named("small", "1.0.0"))
    assert rows == []
    assert stated == manifest.load(folder)
    assert [(item.runtime, item.precision) for item in stated.variants] == [
        ("onnxruntime", "float32"),
        ("onnxruntime", "float16"),
    ]
    for choice in negotiate.every(stated)[:2]:
        with choice.open(folder) as runtime:
            report = verify.verify(folder, runtime)
        assert report.ok, report


def test_packing_needs_exported_files(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        pack_onnx.pack(run, tmp_path, tmp_path, tiny.tiny_cells(), tmp_path / "bundle", pack_onnx.named("a", "1.0.0"))
    assert caught.value.code == "not-exported"

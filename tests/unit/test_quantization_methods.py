"""Every way to quantize, on a small network with the student's parts: gates, head and normalisations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras", reason="the train extra is not installed")

import keras
import small_student
import tiny_training

from devices.runtimes.litert import LiteRTRuntime
from edge.core.errors import InputError
from quantization import aware, gate, graph, layers, methods, qat, rounding, tflite, variants
from quantization.description import describe
from quantization.equalise import equalise
from quantization.errors import ParityError, QuantizationError
from training import checkpoint, fit, make_student
from training.config import RunConfig
from training.models import registry

pytestmark = pytest.mark.train

CONFIG = RunConfig(model="small", size=32, last=16, batch=8, steps=2, epochs=1, rendered_share=0.0)
CELLS = tiny_training.tiny_cells()


def crops(n: int) -> np.ndarray:
    return np.random.default_rng(n).uniform(-1, 1, (n, 32, 32, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose network has learnt the colours of the tiny cells."""
    registry._MODELS["small"] = ("small_student", {})
    folder = tmp_path_factory.mktemp("run")
    keras.utils.set_random_seed(3)
    model = small_student.build_untrained(CONFIG)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.5
    learning = keras.Model(model.input, model.output["logits"])
    learning.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    sets = fit.validation_sets(CELLS, replace(CONFIG, leave_out=("pbc", "bccd")))
    learning.optimizer.learning_rate.assign(3e-3)
    learning.fit(
        np.concatenate([item.inputs for item in sets]),
        np.concatenate([item.labels for item in sets]),
        epochs=40,
        verbose=0,
    )
    CONFIG.save(folder / "config.json")
    checkpoint.save_chosen(model, folder)
    return folder


def test_a_description_holds_the_whole_network(run: Path) -> None:
    model, _ = fit.load(run)
    described = describe(model)
    assert [node.name for node in described.nodes] == [layer.name for layer in model.layers]
    known: set[str] = set()
    for node in described.nodes:
        assert set(node.inputs) <= known
        known.add(node.name)
    assert sum(value.size for value in described.weights.values()) == sum(
        int(np.prod(weight.shape)) for weight in model.weights if "seed" not in weight.name
    )


def test_a_layer_without_a_quantized_form_is_named() -> None:
    inputs = keras.Input((8, 8, 3))
    with pytest.raises(QuantizationError, match="The layer wide") as caught:
        describe(keras.Model(inputs, keras.layers.LayerNormalization(name="wide")(inputs)))
    assert caught.value.code == "layer-not-supported"
    with pytest.raises(QuantizationError, match="its activation tanh inside"):
        describe(keras.Model(inputs, keras.layers.Conv2D(2, 1, activation="tanh")(inputs)))


@pytest.mark.parametrize(("method", "kind"), [("ptq", "INT8"), ("mixed", "INT16"), ("float", "FLOAT32")])
def test_a_method_gives_a_network_of_its_type_that_agrees(run: Path, method: methods.Method, kind: str) -> None:
    path = methods.quantize(CELLS, run, method)
    assert path == run / methods.FILES[method]
    assert {item.writes for item in graph.operations(path.read_bytes())} == {(kind,)}
    model, _ = fit.load(run)
    expected = model.predict(crops(40), verbose=0)
    with LiteRTRuntime(path) as runtime:
        outputs = runtime.run(crops(40))
    assert np.mean(outputs.logits.argmax(axis=1) == expected["logits"].argmax(axis=1)) >= 0.9
    # One count of an int8 logit is about a hundredth of their range.
    tolerance = {"ptq": 0.15, "mixed": 0.02, "float": 1e-5}[method] * np.ptp(expected["logits"])
    np.testing.assert_allclose(outputs.logits, expected["logits"], atol=tolerance)
    assert outputs.features is not None


def test_weights_rounded_anew_answer_better_in_the_same_file(run: Path) -> None:
    plain, rounded = (methods.quantize(CELLS, run, method).read_bytes() for method in ("ptq", "rounded"))
    assert len(rounded) == len(plain)
    assert graph.operations(rounded) == graph.operations(plain)


def test_layers_of_one_by_one_are_rounded_by_what_they_answer(run: Path) -> None:
    # The small student has none over a map but the gate's. Pictures whose channels go together, and weights of which
    # one sets the scale for all: there the rounding of the weights is most of what is lost.
    generator = np.random.default_rng(6)

    def coarse(n: int) -> np.ndarray:
        return generator.uniform(-1, 1, (n, 4, 4, 3)).astype(np.float32).repeat(8, axis=1).repeat(8, axis=2)

    keras.utils.set_random_seed(5)
    inputs = keras.Input((32, 32, 3), name="crop")
    features = keras.layers.Conv2D(24, 4, strides=4, name="first")(inputs)
    for number in range(3):
        features = keras.layers.ReLU(6.0)(features)
        features = keras.layers.Conv2D(24, 1, name=f"mix_{number}")(features)
    outputs = {"logits": keras.layers.GlobalAveragePooling2D(name="logits")(features), "class_activation": features}
    deep = keras.Model(inputs, outputs)
    for number in range(3):
        kernel, bias = deep.get_layer(f"mix_{number}").get_weights()
        kernel[0, 0, number] *= 12
        deep.get_layer(f"mix_{number}").set_weights([kernel, bias])
    seen, fresh = coarse(60), coarse(40)
    floating, quantized = tflite.convert_float(deep), tflite.convert(deep, seen)
    improved = rounding.improve(floating, quantized, seen)
    assert improved == rounding.improve(floating, quantized, seen)
    wanted = deep.predict(fresh, verbose=0)["class_activation"]
    worse, better = (_power(content, run, fresh, wanted) for content in (quantized, improved))
    assert better < 0.8 * worse


def _power(content: bytes, folder: Path, inputs: np.ndarray, wanted: np.ndarray) -> float:
    path = folder / "tried"
    path.write_bytes(content)
    with LiteRTRuntime(path) as runtime:
        found = runtime.run(inputs).features
    assert found is not None
    return float(((found - wanted) ** 2).mean())


def test_equalised_channels_change_no_answer(run: Path) -> None:
    keras.utils.set_random_seed(4)
    inputs = keras.Input((32, 32, 3), name="crop")
    features = keras.layers.Conv2D(8, 4, strides=4, use_bias=False, name="first")(inputs)
    features = block = keras.layers.BatchNormalization(name="first_bn")(features)
    features = keras.layers.Conv2D(12, 1, use_bias=False, name="expand")(features)
    features = keras.layers.ReLU(6.0, name="relu")(keras.layers.BatchNormalization(name="expand_bn")(features))
    features = keras.layers.Conv2D(8, 1, use_bias=False, name="project")(features)
    features = keras.layers.Add(name="sum")([block, keras.layers.BatchNormalization(name="project_bn")(features)])
    model = keras.Model(inputs, keras.layers.Conv2D(6, 1, name="last")(features))
    widths = np.exp(np.random.default_rng(0).normal(size=8)).astype(np.float32)
    model.get_layer("first_bn").set_weights([widths, widths, np.zeros(8, np.float32), np.ones(8, np.float32)])
    equal = equalise(model, crops(20))
    np.testing.assert_allclose(equal.predict(crops(9), verbose=0), model.predict(crops(9), verbose=0), atol=1e-4)
    before, after = (
        np.abs(keras.Model(item.input, item.get_layer("sum").output).predict(crops(20), verbose=0)).max(axis=(0, 1, 2))
        for item in (model, equal)
    )
    assert after.max() / after.min() < 0.7 * before.max() / before.min()
    # Nothing but what lies between blocks can be treated: the small student has no such thing and stays as it is.
    small, _ = fit.load(run)
    for one, other in zip(equalise(small, crops(4)).get_weights(), small.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_errors_by_layer_of_the_run_are_finite_and_16_bits_count_finer(run: Path) -> None:
    floating = methods.float_file(run).read_bytes()
    eight, sixteen = (
        layers.compare(floating, methods.quantize(CELLS, run, method).read_bytes(), crops(16))
        for method in ("ptq", "mixed")
    )
    assert len(eight) >= 15
    assert np.isfinite([row.signal_to_noise for row in eight]).all()
    assert {row.operation for row in eight} >= {"CONV_2D", "LOGISTIC", "MUL", "REDUCE_MAX"}
    # One count is 256 times finer; what is left is what the weights lost, which have 8 bits in both.
    for fine, coarse in zip(sixteen, eight, strict=True):
        assert fine.operation == coarse.operation
        assert fine.scale < coarse.scale / 100
    assert np.median([row.signal_to_noise for row in sixteen]) > np.median([row.signal_to_noise for row in eight])


def test_ai_edge_quantizer_is_an_alternative(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_quantizer")
    path = methods.quantize(CELLS, run, "ai-edge", tmp_path / "other.tflite")
    counted = graph.counts(graph.operations(path.read_bytes()))
    assert counted["CONV_2D INT8"] > 0
    model, _ = fit.load(run)
    with LiteRTRuntime(path) as runtime:
        called = runtime.run(crops(40)).logits.argmax(axis=1)
    assert np.mean(called == model.predict(crops(40), verbose=0)["logits"].argmax(axis=1)) >= 0.9


def test_training_with_the_rounding_gives_an_int8_network_with_its_gates(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorflow_model_optimization", reason="the quantize extra is not installed")
    options = methods.Options(schedule=aware.Schedule(steps=4, batch=8, rate=1e-4))
    path = methods.quantize(CELLS, run, "qat", tmp_path / "qat.tflite", options)
    found = graph.operations(path.read_bytes())
    assert not [item for item in found if item.floating]
    counted = graph.counts(found)
    assert counted["LOGISTIC INT8"] == counted["MUL INT8"] == counted["REDUCE_MAX INT8"] == 2
    model, _ = fit.load(run)
    expected = model.predict(crops(40), verbose=0)
    with LiteRTRuntime(path) as runtime:
        outputs = runtime.run(crops(40))
    assert np.mean(outputs.logits.argmax(axis=1) == expected["logits"].argmax(axis=1)) >= 0.9
    # The maps are still those of the logits: their mean, up to the bias, which is the same for all pictures.
    assert outputs.features is not None
    offset = outputs.logits - outputs.features.mean(axis=(1, 2))
    assert np.ptp(offset, axis=0).max() < 0.15 * np.ptp(outputs.logits)


def test_an_interpreter_that_cannot_train_is_one_clear_error(run: Path) -> None:
    model, config = fit.load(run)
    with pytest.raises(QuantizationError, match="ended without a network") as caught:
        qat.train(model, CELLS, config, aware.Schedule(steps=1, batch=2), Path("/bin/false"))
    assert caught.value.code == "qat-failed"


def test_a_network_that_is_another_is_never_packed(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_student, "load_cells", lambda *_: CELLS)
    keras.utils.set_random_seed(9)
    stranger = small_student.build_untrained(CONFIG)
    (tmp_path / "stranger.tflite").write_bytes(tflite.convert(stranger, crops(8)))
    bundle = tmp_path / "bundle"
    with pytest.raises(ParityError) as caught:
        make_student.pack_bundle(tmp_path, run, bundle, "wbc-student", "0.0.1", network=tmp_path / "stranger.tflite")
    assert caught.value.code == "parity-failed"
    assert "pays" in caught.value.message
    assert not bundle.exists()
    with pytest.raises(InputError) as absent:
        make_student.pack_bundle(tmp_path, run, bundle, "wbc-student", "0.0.1", network=tmp_path / "absent.tflite")
    assert absent.value.code == "not-quantized"


def test_the_network_is_its_own_equal(run: Path) -> None:
    model, config = fit.load(run)
    rows = gate.measure(
        variants.of_keras(model), [variants.of_keras(model, "again")], fit.validation_sets(CELLS, config)
    ).rows
    assert rows
    assert not any(row.faults for row in rows)
    assert all(row.logits.largest < 1e-5 for row in rows)

"""Maps that follow gradients, their relation to the class-activation map, and the command that shows them all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("keras", reason="the train extra is not installed")

import keras
from typer.testing import CliRunner

from devices.cameras.slide import render_cell
from edge.cli.train import app
from edge.core.errors import LeukoError, NothingToDoError, UsageError
from training.config import CLASSES, RunConfig
from training.explain import agreement, gradients, study
from training.explain.network import Network
from training.explain.subjects import Subject
from training.models import student
from training.models.head import with_head

pytestmark = pytest.mark.train

SMALL = RunConfig(size=64, last=32, rendered_share=0.0)


def crops(n: int, size: int = 64) -> np.ndarray:
    return np.random.default_rng(n).uniform(-1, 1, (n, size, size, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """A student with random weights whose normalisation fits its input: without that its signal fades to nothing."""
    keras.utils.set_random_seed(0)
    untrained = student.build_untrained(SMALL)
    for layer in untrained.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    untrained(crops(32), training=True)
    return untrained


def small_network(hidden: bool) -> keras.Model:
    """A network as the registry's: a convolution, with `hidden` a dense layer at each position, and the head."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((32, 32, 3), name="crop")
    features = keras.layers.Conv2D(16, 5, strides=4, padding="same", name="features")(inputs)
    features = keras.layers.ReLU(name="features_relu")(features)
    if hidden:
        features = keras.layers.ReLU(name="hidden_relu")(keras.layers.Conv2D(12, 1, name="hidden")(features))
    return with_head(inputs, features, 0.2, "small")


def network_with_a_dense_layer_after_the_average() -> keras.Model:
    keras.utils.set_random_seed(2)
    inputs = keras.Input((32, 32, 3), name="crop")
    features = keras.layers.Conv2D(16, 5, strides=4, padding="same", activation="relu", name="features")(inputs)
    pooled = keras.layers.GlobalAveragePooling2D()(features)
    hidden = keras.layers.Dense(12, activation="relu")(pooled)
    maps = keras.layers.Conv2D(6, 1, name="class_activation")(features)
    return keras.Model(inputs, {"logits": keras.layers.Dense(6, name="logits")(hidden), "class_activation": maps})


def centred(network: Network, inputs: np.ndarray, target: int) -> np.ndarray:
    """The class-activation map less the mean over the classes, before any ReLU."""
    maps = network.outputs(inputs[None])[1][0]
    return maps[..., target] - maps.mean(axis=2)


@pytest.mark.parametrize("target", range(6))
def test_class_activation_and_grad_cam_of_the_student_are_proportional(model: keras.Model, target: int) -> None:
    """Selvaraju et al. 2017, section 3: for a linear head on averages the weights are equal up to 1 / positions."""
    network = Network(model)
    for inputs in crops(2):
        expected = centred(network, inputs, target)
        found = gradients.grad_cam(network, inputs, target)
        assert found.shape == (4, 4)
        np.testing.assert_allclose(found * 16, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
        np.testing.assert_allclose(study.unit(found, 64), study.unit(expected, 64), atol=1e-3)
        np.testing.assert_allclose(study.unit(found, 64), study.unit(network.device_map(inputs, target), 64), atol=1e-3)


def test_a_hidden_layer_parts_grad_cam_of_the_features_from_class_activation() -> None:
    plain, hidden = Network(small_network(hidden=False)), Network(small_network(hidden=True))
    inputs = crops(1, 32)[0]

    def correlation(network: Network, layer: str | None) -> float:
        return float(
            np.corrcoef(gradients.grad_cam(network, inputs, 2, layer).ravel(), centred(network, inputs, 2).ravel())[
                0, 1
            ]
        )

    assert correlation(plain, None) == pytest.approx(1, abs=1e-5)
    # At the layer that the head averages they coincide, whatever is before it; below the hidden layer they need not.
    assert correlation(hidden, None) == pytest.approx(1, abs=1e-5)
    assert correlation(hidden, "features_relu") < 0.99


def test_a_dense_layer_after_the_average_parts_them_too() -> None:
    network = Network(network_with_a_dense_layer_after_the_average())
    inputs = crops(1, 32)[0]
    assert network.feature_layers == ["features"]
    found, other = gradients.grad_cam(network, inputs, 2), centred(network, inputs, 2)
    assert abs(np.corrcoef(found.ravel(), other.ravel())[0, 1]) < 0.99


def test_gradients_are_what_small_steps_show(model: keras.Model) -> None:
    network = Network(small_network(hidden=True))
    inputs = crops(1, 32)[0]
    found = network.gradients(inputs[None], 3)[0]
    rng = np.random.default_rng(0)
    for _ in range(3):
        step = rng.normal(size=inputs.shape).astype(np.float32) * 1e-3
        rise = network.score(3)(np.stack([inputs + step, inputs - step]))
        assert (rise[0] - rise[1]) / 2 == pytest.approx(float((found * step).sum()), rel=0.05, abs=1e-5)


def test_smoothgrad_without_noise_is_the_plain_gradient(model: keras.Model) -> None:
    network, inputs = Network(model), crops(1)[0]
    plain = gradients.plain(network, inputs, 1)
    np.testing.assert_allclose(gradients.smooth(network, inputs, 1, sigma=0.0, samples=3), plain, rtol=1e-3, atol=1e-6)
    noisy = gradients.smooth(network, inputs, 1, sigma=0.15, samples=3, seed=4)
    np.testing.assert_array_equal(noisy, gradients.smooth(network, inputs, 1, sigma=0.15, samples=3, seed=4))
    assert np.abs(noisy - plain).max() > 1e-3 * plain.max()


def test_an_unknown_layer_method_or_class_is_told(model: keras.Model) -> None:
    with pytest.raises(UsageError) as caught:
        gradients.grad_cam(Network(model), crops(1)[0], 1, layer="logits")
    assert caught.value.code == "unknown-layer"
    with pytest.raises(UsageError) as caught:
        study.Settings(methods=("shap",))
    assert caught.value.code == "unknown-method"
    with pytest.raises(UsageError) as caught:
        study.Settings(target="platelet")
    assert caught.value.code == "unknown-class"


def test_another_backend_is_told_what_to_do(model: keras.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(UsageError, match="KERAS_BACKEND=tensorflow"):
        gradients.plain(Network(model), crops(1)[0], 1)


@pytest.fixture(scope="module")
def run_folder(model: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from quantization import tflite
    from training.make_student import QUANTIZED_FILE

    folder = tmp_path_factory.mktemp("run")
    SMALL.save(folder / "config.json")
    model.save_weights(folder / "model.weights.h5")
    (folder / QUANTIZED_FILE).write_bytes(tflite.convert(model, crops(8)))
    return folder


def test_the_map_of_the_quantized_network_agrees_with_the_float_one(run_folder: Path) -> None:
    rng = np.random.default_rng(5)
    correlations = []
    with study.open_run(run_folder) as run:
        for _ in range(4):
            crop = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            subject = Subject(crop, np.ones((64, 64), bool), "")
            explained = study.explain(replace(run, config=replace(SMALL, stain="none")), subject, study.Settings(()))
            assert list(explained.maps) == [study.DEVICE, study.INT8, study.CENTRE]
            assert explained.measures[study.DEVICE].rank_correlation == pytest.approx(1)
            assert explained.measures[study.DEVICE].overlap == 1
            correlations.append(
                agreement.rank_correlation(explained.maps[study.DEVICE], explained.maps[study.INT8]) or 0.0
            )
    # Random weights quantize worse than trained ones.
    assert np.mean(correlations) > 0.7


def invoke(*words: str | Path) -> tuple[int, str, LeukoError | None]:
    done = CliRunner().invoke(app, ["explain", *map(str, words)])
    raised = done.exception if isinstance(done.exception, LeukoError) else None
    if done.exception is not None and raised is None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, raised


def test_the_command_draws_every_cell_and_goes_on_after_a_bad_picture(run_folder: Path, tmp_path: Path) -> None:
    for package in ("sklearn", "matplotlib", "skimage"):
        pytest.importorskip(package, reason="the train extra is not installed")
    cv2.imwrite(str(tmp_path / "a.png"), render_cell("monocyte", np.random.default_rng(1), 200))
    (tmp_path / "b.png").write_bytes(b"no picture")
    cv2.imwrite(str(tmp_path / "c.png"), np.full((100, 100, 3), 230, np.uint8))
    out = tmp_path / "out"
    arguments = ["--lime-samples", "40", "--class", "eosinophil", "--json", "--out", out]
    code, text, _ = invoke(run_folder, *(tmp_path / f"{name}.png" for name in "abc"), *arguments)
    assert code == 1
    document = json.loads(text)
    assert document == json.loads((out / "explain.json").read_text())
    broken, blank = document["errors"]
    assert Path(broken["picture"]).name == "b.png" and broken["code"] != "no-cell" and broken["message"]
    assert Path(blank["picture"]).name == "c.png" and blank["code"] == "no-cell"
    (cell,) = document["cells"]
    assert cell["explained"] == "eosinophil"
    assert list(cell["maps"]) == [study.DEVICE, study.INT8, *study.METHODS, study.CENTRE]
    assert sum(cell["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert cell["maps"]["grad-cam"]["rank_correlation"] == pytest.approx(1, abs=1e-3)
    assert set(document["by_class"]) == {"eosinophil"} <= set(CLASSES)
    (sheet,) = out.glob("*.png")
    assert min(cv2.imread(str(sheet)).shape[:2]) > 300


def test_the_command_says_what_is_wrong_with_its_arguments(run_folder: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out")
    for words, code in [
        ((run_folder, *out), "what-to-explain"),
        ((run_folder, "x.png", "--data", tmp_path, *out), "what-to-explain"),
        ((run_folder, "x.png", "--method", "shap", *out), "unknown-method"),
        ((run_folder, "x.png", "--class", "platelet", *out), "unknown-class"),
        ((tmp_path, "x.png", *out), "not-a-run"),
    ]:
        exit_code, _, raised = invoke(*words)
        assert isinstance(raised, UsageError) and raised.code == code and raised.cure
        assert exit_code == 1  # main turns the error into its own code
    _, _, raised = invoke(run_folder, tmp_path / "missing.png", *out)
    assert isinstance(raised, NothingToDoError)

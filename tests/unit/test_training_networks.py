"""Every network of the registry: its outputs, what is frozen in it, and that pretrained weights reach it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras", reason="the train extra is not installed")

import keras

from edge.core.errors import InputError, LeukoError, UsageError
from training.config import RunConfig
from training.models import backbones, registry
from training.models.pretrained import layers_of_base

pytestmark = pytest.mark.train

SMALLEST = {"full": "mobilenet_v2_0.35", "transfer": "mobilenet_v2_0.35", "resnet_transfer": "mobilenet_v2_0.35"}
"""What a recipe does is seen on the smallest base as well."""


def configured(name: str, **values: object) -> RunConfig:
    settings = {**registry.defaults(name), "size": 64, "last": 32}
    settings["backbone"] = SMALLEST.get(name, settings.get("backbone", ""))
    return RunConfig(**{**settings, **values})


def crops(n: int, size: int = 64) -> np.ndarray:
    return np.random.default_rng(n).uniform(-1, 1, (n, size, size, 3)).astype(np.float32)


def weights_of(model: keras.Model) -> dict[str, np.ndarray]:
    return {
        f"{layer.name}/{weight.name}": np.asarray(weight).copy() for layer in model.layers for weight in layer.weights
    }


@pytest.mark.parametrize("name", registry.NAMES)
def test_the_mean_of_the_activation_plus_the_bias_is_the_logit(name: str) -> None:
    keras.utils.set_random_seed(0)
    model = registry.build_untrained(configured(name))
    head = model.get_layer("head")
    head.bias.assign(np.arange(6, dtype=np.float32))
    outputs = model.predict(crops(3), verbose=0)
    assert outputs["logits"].shape == (3, 6)
    assert outputs["class_activation"].ndim == 4
    means = outputs["class_activation"].mean(axis=(1, 2))
    np.testing.assert_allclose(means + np.arange(6), outputs["logits"], atol=1e-4)


@pytest.mark.parametrize("name", ["full", "transfer"])
def test_what_is_frozen_stays_and_what_is_not_learns(name: str) -> None:
    keras.utils.set_random_seed(0)
    full = registry.build_untrained(configured(name))
    for layer in registry.base_layers(name, full):
        layer.trainable = False
    frozen = {layer.name for layer in layers_of_base(full)}
    model = keras.Model(full.input, full.output["logits"])
    model.compile(keras.optimizers.SGD(0.1), keras.losses.CategoricalCrossentropy(from_logits=True))
    before = weights_of(full)
    model.train_on_batch(crops(4), np.eye(6, dtype=np.float32)[:4])
    after = weights_of(full)
    changed = {key.partition("/")[0] for key in before if not np.array_equal(before[key], after[key])}
    assert "head" in changed
    assert changed & frozen == set()
    # Moving means and variances are weights, too: they were compared.
    assert any(key.startswith("bn_Conv1/moving") for key in before)


def test_the_base_of_the_transfer_row_is_frozen_for_good_and_that_of_the_others_is_not() -> None:
    transfer = registry.build_untrained(configured("transfer"))
    assert registry.base_layers("transfer", transfer) == []
    assert [variable.path for variable in transfer.trainable_variables] == ["head/kernel", "head/bias"]
    full = registry.build_untrained(configured("full"))
    assert registry.base_layers("full", full) == layers_of_base(full)
    assert len(full.trainable_variables) > 100


def test_attention_can_be_switched_off() -> None:
    on, off = (registry.build_untrained(configured("student", attention=value)) for value in (True, False))
    lost = {layer.name for layer in on.layers} - {layer.name for layer in off.layers}
    assert lost == {"cbam_channel", "cbam_spatial"}


def test_the_attention_of_the_full_model_has_the_published_sizes() -> None:
    model = registry.build_untrained(configured("full"))
    channel, spatial = model.get_layer("cbam_channel"), model.get_layer("cbam_spatial")
    assert channel.hidden.kernel.shape == (1, 1, 1280, 80)
    assert spatial.of_mean.kernel.shape == (7, 7, 1, 1)
    names = [layer.name for layer in model.layers]
    assert names.index("cbam_channel") < names.index("cbam_spatial") < names.index("hidden")


def test_a_row_is_configured_by_its_name() -> None:
    for name in registry.NAMES:
        assert RunConfig(**registry.defaults(name)).model == name
    assert registry.defaults("full")["size"] == 224
    with pytest.raises(UsageError) as caught:
        registry.defaults("perceptron")
    assert caught.value.code == "unknown-model"


def test_pretrained_weights_reach_the_base_and_a_classifier_in_the_file_is_ignored(tmp_path: Path) -> None:
    keras.utils.set_random_seed(3)
    source = backbones.untrained("mobilenet_v2_0.35", 96)
    stored = {key: value.astype(np.float16) for key, value in weights_of(source).items()}
    stored |= {"predictions/kernel": np.zeros((1280, 10)), "bn_Conv1/folded_bias": np.zeros(16)}
    np.savez(tmp_path / "weights.npz", **stored)
    model = registry.build(configured("full"), tmp_path / "weights.npz")
    for layer in layers_of_base(model):
        for weight in layer.weights:
            np.testing.assert_array_equal(np.asarray(weight), stored[f"{layer.name}/{weight.name}"].astype(np.float32))


def test_weights_that_do_not_fit_change_nothing_and_are_named(tmp_path: Path) -> None:
    source = backbones.untrained("mobilenet_v2_0.35", 64)
    stored = weights_of(source)
    stored["Conv_1/kernel"] = stored["Conv_1/kernel"][..., :7]
    model = backbones.untrained("mobilenet_v2_0.35", 64)
    before = weights_of(model)
    with pytest.raises(InputError, match="Conv_1/kernel") as caught:
        backbones.assign(model, stored, tmp_path / "w.npz", "mobilenet_v2_0.35")
    assert caught.value.code == "weights-do-not-fit"
    assert all(np.array_equal(before[key], value) for key, value in weights_of(model).items())


@pytest.mark.parametrize("content", [None, b"no weights", b"PK\x03\x04 cut off"])
def test_a_file_that_holds_no_weights_is_one_clear_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "weights.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        backbones.pretrained("mobilenet_v2_0.35", 64, path)
    assert caught.value.code == "weights-unreadable"


def test_without_a_network_the_download_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> keras.Model:
        raise Exception("URL fetch failure")

    monkeypatch.setattr(keras.applications, "ResNet50", no_network)
    with pytest.raises(LeukoError) as caught:
        registry.build(RunConfig(model="resnet_transfer", size=64), None)
    assert caught.value.code == "weights-not-available"
    assert "--weights" in caught.value.cure
    with pytest.raises(LeukoError) as never:
        backbones.pretrained("efficientnet_lite0", 64, None)
    assert never.value.code == "weights-not-available"
    with pytest.raises(UsageError) as unknown:
        backbones.pretrained("alexnet", 64, None)
    assert unknown.value.code == "unknown-backbone"


def test_a_network_may_start_from_random_weights_where_none_can_be_had() -> None:
    model = registry.build(configured("resnet_transfer", pretrained=False), None)
    assert model.name == "resnet_transfer"


def test_resnet_sees_what_keras_own_preprocessing_gives() -> None:
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    model = backbones.untrained("resnet50", 32)
    scaled = keras.Model(model.input, model.get_layer("caffe_scale").output).predict(pixels / 127.5 - 1, verbose=0)
    expected = keras.applications.resnet50.preprocess_input(pixels.copy())
    np.testing.assert_allclose(scaled, expected, atol=1e-3)


@pytest.mark.parametrize("name", ["efficientnet_b0", "efficientnet_v2_b0"])
def test_efficientnets_see_the_standard_scores_of_imagenet(name: str) -> None:
    pixels = np.random.default_rng(0).uniform(0, 1, (1, 32, 32, 3)).astype(np.float32)
    model = backbones.untrained(name, 32)
    scaled = keras.Model(model.input, model.get_layer("standard_scale").output).predict(pixels * 2 - 1, verbose=0)
    expected = (pixels - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(scaled, expected, atol=1e-5)
    assert not [layer for layer in model.layers if isinstance(layer, keras.layers.Normalization)]


def test_efficientnet_lite0_has_the_parameters_of_the_original() -> None:
    """The original has 4,694,024 with its classifier of 1000 classes, as its published weights count."""
    model = backbones.untrained("efficientnet_lite0", 64)
    moving = sum(int(np.prod(weight.shape)) for weight in model.weights if "moving" in weight.path)
    assert model.count_params() + 1280 * 1000 + 1000 == 4_694_024
    assert moving == 42_016
    assert model.output.shape == (None, 2, 2, 1280)


def test_the_recipe_survives_a_run_folder(tmp_path: Path) -> None:
    from training import fit

    config = configured("full", attention=False)
    keras.utils.set_random_seed(5)
    model = registry.build_untrained(config)
    config.save(tmp_path / "config.json")
    model.save_weights(tmp_path / "model.weights.h5")
    loaded, read = fit.load(tmp_path)
    assert read == config
    assert json.loads((tmp_path / "config.json").read_text())["attention"] is False
    expected = model.predict(crops(2), verbose=0)["logits"]
    np.testing.assert_allclose(loaded.predict(crops(2), verbose=0)["logits"], expected, atol=1e-5)

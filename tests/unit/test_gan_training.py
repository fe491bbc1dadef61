"""The generative networks: losses, augmentation, a run that is broken off, its report, and the ablation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras", reason="the train extra is not installed")

import keras
from keras import ops
from typer.testing import CliRunner

from edge.core.errors import LeukoError, UsageError
from training.config import RunConfig
from training.data.cells import Cells
from training.gan import ablation, augmentation, features, fit, generated, report
from training.gan.config import GanConfig
from training.gan.data import parents
from training.gan.model import ConditionalGan, discriminator_loss, draw, generator_loss
from training.models import student

pytestmark = pytest.mark.train

SMALL = GanConfig(
    size=32,
    resolution=16,
    latent=8,
    widths=(4, 6, 8),
    batch=4,
    steps=4,
    save_every=2,
    sources=("pbc",),
    scarce="basophil",
    kept=2,
)


def images(n: int = 6, side: int = 16) -> np.ndarray:
    return np.random.default_rng(n).uniform(-1, 1, (n, side, side, 3)).astype(np.float32)


def small_cells() -> Cells:
    """Each class a colour: ten training cells, five of each other split, and a source for evaluation alone."""
    rng = np.random.default_rng(0)
    rows = [
        (label, source, split)
        for label in range(6)
        for source, split, count in (
            ("pbc", "train", 10),
            ("pbc", "validation", 5),
            ("pbc", "test", 8),
            ("embedded", "train", 4),
            ("jtsc", "evaluation", 4),
        )
        for _ in range(count)
    ]
    labels = np.array([label for label, _, _ in rows])
    colours = rng.integers(40, 220, (6, 1, 1, 3))
    crops = np.clip(colours[labels] + rng.normal(0, 25, (len(rows), 48, 48, 3)), 0, 255).astype(np.uint8)
    return Cells(
        crops=crops,
        labels=labels,
        source=np.array([source for _, source, _ in rows]),
        split=np.array([split for _, _, split in rows]),
        kind=np.full(len(rows), "cell"),
        group=np.arange(len(rows)).astype(str),
        picture=np.array([f"{i:04d}.png" for i in range(len(rows))]),
        subtype=np.full(len(rows), ""),
    )


def small_student(config: RunConfig, weights: Path | None) -> keras.Model:
    """A network with the student's inputs and outputs that is traced in a moment: what is tested is around it."""
    inputs = keras.Input((config.size, config.size, 3))
    features = keras.layers.Conv2D(8, 4, strides=4, activation="relu")(inputs)
    activation = keras.layers.Conv2D(6, 1)(features)
    logits = keras.layers.GlobalAveragePooling2D()(activation)
    return keras.Model(inputs, {"logits": logits, "class_activation": activation})


def colours(pictures: np.ndarray) -> np.ndarray:
    return pictures.reshape(len(pictures), -1, 3).mean(axis=1) / 255


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gan") / "run"
    fit.fit(parents(small_cells(), SMALL), SMALL, folder)
    return folder


def test_hinge_losses_are_the_published_ones() -> None:
    real, fake = np.array([[2.0], [0.5]]), np.array([[-3.0], [0.0]])
    assert float(discriminator_loss(real, fake)) == pytest.approx((0 + 0.5) / 2 + (0 + 1) / 2)
    assert float(generator_loss(fake)) == pytest.approx(1.5)


def test_colour_changes_do_what_the_paper_s_code_does() -> None:
    x = images()
    amount = np.linspace(0.2, 1.8, len(x)).astype(np.float32)
    shaped = amount[:, None, None, None]
    np.testing.assert_allclose(augmentation.brightness(x, amount), x + shaped, atol=1e-6)
    grey = x.mean(axis=3, keepdims=True)
    np.testing.assert_allclose(augmentation.saturation(x, amount), (x - grey) * shaped + grey, atol=1e-5)
    mean = x.mean(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(augmentation.contrast(x, amount), (x - mean) * shaped + mean, atol=1e-5)


def test_translation_moves_by_whole_pixels_and_lets_nothing_in() -> None:
    x = images(3)
    moved = np.asarray(augmentation.translate(x, np.array([2, 0, -3]), np.array([-1, 0, 4])))
    np.testing.assert_allclose(moved[0, 2:, :-1], x[0, :-2, 1:], atol=1e-6)
    np.testing.assert_allclose(moved[0, :2], 0)
    np.testing.assert_allclose(moved[0, :, -1], 0)
    np.testing.assert_allclose(moved[1], x[1], atol=1e-6)
    np.testing.assert_allclose(moved[2, :-3, 4:], x[2, 3:, :-4], atol=1e-6)


def test_cutout_blanks_one_square_that_may_reach_over_the_border() -> None:
    x = images(2) + 3.0
    holed = np.asarray(augmentation.cut_out(x, np.array([4, -2]), np.array([5, 12]), 6))
    expected = x.copy()
    expected[0, 4:10, 5:11] = 0
    expected[1, :4, 12:] = 0
    np.testing.assert_allclose(holed, expected)


@pytest.mark.parametrize("policy", sorted(augmentation.POLICIES))
def test_every_augmentation_changes_pictures_and_passes_the_gradient_on(policy: str) -> None:
    import tensorflow as tf

    x = tf.constant(images())
    with tf.GradientTape() as tape:
        tape.watch(x)
        seen = augmentation.augment(x, (policy,), keras.random.SeedGenerator(0))
        total = ops.sum(ops.square(seen))
    assert np.abs(np.asarray(seen) - x.numpy()).max() > 0.01
    assert np.abs(np.asarray(tape.gradient(total, x))).max() > 0


def test_the_discriminator_s_kernels_have_a_spectral_norm_of_one() -> None:
    gan = ConditionalGan(replace(SMALL, discriminator_rate=0.0, generator_rate=0.0))
    gan.compile(run_eagerly=True)
    for _ in range(20):
        gan.train_on_batch(images(4), np.array([0, 1, 2, 3]))
    for index in range(3):
        kernel = np.asarray(gan.discriminator.get_layer(f"block_{index}_spectral").kernel)
        assert np.linalg.norm(kernel.reshape(-1, kernel.shape[-1]), 2) == pytest.approx(1.0, abs=0.05)


def test_a_broken_run_goes_on_to_the_same_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = ConditionalGan.compile
    # Tracing the step three times would take most of a minute.
    monkeypatch.setattr(ConditionalGan, "compile", lambda self: compiled(self, run_eagerly=True))
    cells, whole_run, broken_run = parents(small_cells(), SMALL), tmp_path / "whole", tmp_path / "broken"
    fit.fit(cells, SMALL, whole_run)
    step, steps = ConditionalGan.train_on_batch, []

    class PowerCut(Exception):
        pass

    def cut(self: ConditionalGan, *arguments: object, **options: object) -> object:
        steps.append(1)
        if len(steps) == 4:
            raise PowerCut
        return step(self, *arguments, **options)

    monkeypatch.setattr(ConditionalGan, "train_on_batch", cut)
    with pytest.raises(PowerCut):
        fit.fit(cells, SMALL, broken_run)
    monkeypatch.setattr(ConditionalGan, "train_on_batch", step)
    assert not (broken_run / fit.WEIGHTS).exists()
    with pytest.raises(UsageError) as caught:
        fit.load(broken_run)
    assert caught.value.code == "gan-unfinished"
    fit.fit(cells, SMALL, broken_run)
    with np.load(whole_run / fit.STATE) as whole, np.load(broken_run / fit.STATE) as resumed:
        assert sorted(whole.files) == sorted(resumed.files)
        for name in whole.files:
            np.testing.assert_allclose(whole[name], resumed[name], rtol=1e-4, atol=1e-5)
    history = json.loads((broken_run / fit.HISTORY).read_text())
    assert [row["step"] for row in history] == [2, 4]
    with pytest.raises(UsageError) as caught:
        fit.fit(cells, replace(SMALL, seed=1), broken_run)
    assert caught.value.code == "another-run"


def test_a_run_learns_and_its_average_follows(run: Path) -> None:
    network, config = fit.load(run)
    untrained = ConditionalGan(config).average
    assert np.abs(draw(network, 0, 2, config, 0) - draw(untrained, 0, 2, config, 0)).max() > 1e-3
    drawn = draw(network, 4, 3, config, 7)
    np.testing.assert_array_equal(drawn, draw(network, 4, 3, config, 7))
    assert np.abs(drawn - draw(network, 3, 3, config, 7)).max() > 1e-4
    assert drawn.min() >= -1
    assert drawn.max() <= 1
    seen = json.loads((run / fit.PARENTS).read_text())
    assert seen["classes"]["basophil"] == 2
    assert seen["sources"]["pbc"]["licence"] == "CC-BY-4.0"
    assert len(seen["pictures"]) == 42


def test_features_are_the_pooled_ones_of_the_named_file(tmp_path: Path) -> None:
    keras.utils.set_random_seed(1)
    source = keras.applications.MobileNetV2((96, 96, 3), alpha=0.35, include_top=False, weights=None)
    stored = {f"{layer.name}|{weight.name}": np.asarray(weight) for layer in source.layers for weight in layer.weights}
    np.savez(tmp_path / "backbone.npz", **stored)
    pictures = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)
    expected = np.asarray(source(pictures[..., ::-1].astype(np.float32) / 127.5 - 1)).mean(axis=(1, 2))
    found = features.embedding(tmp_path / "backbone.npz")(pictures)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
    assert "backbone.npz (sha256 " in features.describe(tmp_path / "backbone.npz")
    assert "Inception" not in features.describe(None)


def test_the_report_compares_with_test_cells_and_leaves_its_files(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "embedding", lambda weights: colours)
    document = report.report(small_cells(), run, None, count=8, seed=0)
    assert document["distances"][0]["name"] == "all five"
    assert {row["n"] for row in document["distances"]} == {40, 8}
    assert [row["n"] for row in document["copies"]] == [40, 8, 8, 8, 8, 8]
    assert "not Inception" in document["caveat"]
    assert "MobileNetV2" in document["features"]
    assert json.loads((run / "gan-report.json").read_text()) == document
    for name in (report.PAIRS, report.DRAWN):
        assert (run / name).read_bytes().startswith(b"\x89PNG")
    assert "| basophil | 8 |" in (run / report.REPORT).read_text()


def test_sampled_cells_say_what_they_descend_from(run: Path, tmp_path: Path) -> None:
    path = generated.sample(run, ["basophil"], 5, 32, 3, tmp_path / "g.npz")
    drawn = generated.load(path)
    assert drawn.labels.tolist() == [4] * 5
    assert drawn.crops.shape == (5, 48, 48, 3)
    account = json.loads((tmp_path / "g.json").read_text())
    assert account["learnt_from"]["basophil"] == 2
    assert account["sources"]["pbc"]["licence"] == "CC-BY-4.0"
    with pytest.raises(UsageError) as caught:
        generated.sample(run, ["blast"], 5, 32, 3, tmp_path / "h.npz")
    assert caught.value.code == "unknown-class"


def test_the_ablation_trains_on_the_generator_s_own_cells_and_goes_on_where_it_was(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(student, "build", small_student)
    cells = small_cells()
    file = generated.sample(run, ["basophil"], 6, 32, 0, tmp_path / "g.npz")
    config = RunConfig(
        size=32, last=16, epochs=1, steps=1, batch=4, rendered_share=0.0, generated_share=0.5, warmup_epochs=0.0
    )
    sets = ablation.training_sets(cells, generated.load(file), SMALL)
    assert {name: int((chosen.labels == 4).sum()) for name, chosen in sets.items()} == {
        "as drawn": 2,
        "oversampled": 2,
        "generated": 8,
        "all real": 10,
    }
    assert set(np.concatenate([chosen.split for chosen in sets.values()])) == {"train"}
    assert set(ablation.untouched(cells, SMALL)) == {"pbc validation", "pbc test", "embedded", "jtsc"}
    chance = ablation.chances("generated", sets["generated"], config)
    assert chance[sets["generated"].source == "generated"].sum() == pytest.approx(0.84 / 5 / 2)

    train, trained, students = ablation.train, [], []

    def counted(arm: str, *arguments: object) -> keras.Model:
        trained.append(arm)
        # One student is trained; tracing the step of three more would add nothing but time.
        if not students:
            students.append(train(arm, *arguments))  # type: ignore[arg-type]
        return students[0]

    monkeypatch.setattr(ablation, "train", counted)
    out = tmp_path / "out"
    ablation.run(cells, run, None, None, out, [0], config)
    assert trained == ["as drawn", "oversampled", "all real"]
    outcomes = ablation.run(cells, run, file, None, out, [0], config)
    assert trained == ["as drawn", "oversampled", "all real", "generated"]
    assert len(outcomes) == 4 * 4
    assert {row.n for row in outcomes if row.cells == "pbc test"} == {8}
    assert "| pbc test | generated |" in (out / ablation.TABLE).read_text()
    with pytest.raises(UsageError) as caught:
        ablation.run(cells, run, file, None, out, [0], replace(config, batch=5))
    assert caught.value.code == "another-run"
    with pytest.raises(UsageError) as caught:
        ablation.training_sets(cells, None, replace(SMALL, scarce="", kept=0))
    assert caught.value.code == "no-scarce-class"


def outcome(arm: str, seed: int, recall: float, macro: float = 0.8) -> ablation.Outcome:
    return ablation.Outcome(arm, seed, "pbc test", recall, 150, 0.9, macro)


@pytest.mark.parametrize(
    ("recalls", "macro", "begins"),
    [
        ((0.6, 0.7, 0.8), 0.82, "yes"),
        ((0.4, 0.9, 0.8), 0.82, "no, not beyond the spread"),
        ((0.6, 0.7, 0.8), 0.70, "no, not beyond the spread"),
        ((0.1, 0.2, 0.3), 0.70, "no, it harms"),
    ],
)
def test_the_verdict_is_yes_only_when_every_seed_gains(recalls: tuple[float, ...], macro: float, begins: str) -> None:
    rows = [outcome("oversampled", seed, 0.5) for seed in range(3)]
    rows += [outcome("generated", seed, recall, macro) for seed, recall in enumerate(recalls)]
    assert ablation.verdict(rows, "pbc test").startswith(begins)


def test_the_commands_are_there_and_their_errors_name_a_cure(tmp_path: Path) -> None:
    from edge.cli.train import app

    listed = CliRunner().invoke(app, ["gan", "--help"])
    assert all(name in listed.output for name in ("fit", "sample", "report", "ablation"))
    failed = CliRunner().invoke(app, ["gan", "sample", str(tmp_path), "--out", "g.npz", "--class", "basophil"])
    assert isinstance(failed.exception, LeukoError)
    assert failed.exception.code == "no-generative-run"
    assert "leuko train gan fit" in failed.exception.cure

"""Commissioning with a network: a small student that knows blobs, a site that stains them otherwise, and the gate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from commands import leuko

pytest.importorskip("keras", reason="the train extra is not installed")

import keras

from devices.runtimes.litert import LiteRTRuntime
from edge.bundle.manifest import DataSource, load
from edge.bundle.verify import verify
from edge.core.errors import UsageError
from edge.core.types import Image
from training import fit
from training.adaptation import chain, commission, folds, gate, head, labelled, normalisation, replay, tail
from training.adaptation.commission import Options
from training.adaptation.head import Ridge
from training.adaptation.labelled import Way
from training.adaptation.tail import Course, Pool
from training.config import RunConfig
from training.data.augment import centre
from training.data.cells import Cells
from training.models import registry

pytestmark = pytest.mark.train

SMALL = RunConfig(model="small", size=32, last=48, rendered_share=0.0, dropout=0.0, stain="none")
QUICK = (Way("ridge", Ridge(1e-3), site=0.5),)
WAYS_TRIED = (*QUICK, Way("last", Course("last", 1e-2, steps=3, size=24), site=0.5))

DYES = np.array([[0.5, 1.0, 0.9], [1.1, 0.8, 0.2], [0.2, 0.5, 1.2]])
"""Optical density of the nuclei of three classes."""


def picture(label: int, generator: np.random.Generator, site: bool, side: int = 48) -> Image:
    """A disc in the dye of its class on a blank slide; another site stains weaker and all in one more dye."""
    density = DYES[label] * generator.uniform(0.85, 1.15)
    if site:
        density = 0.35 * density + np.array([0.25, 0.0, 0.1])
    radius = side * generator.uniform(0.2, 0.26)
    y, x = np.mgrid[:side, :side] - side / 2 + generator.normal(0, 1, 2)[:, None, None]
    inside = np.clip(radius - np.hypot(x, y), 0, 1)[..., None]
    return np.clip(230 * np.exp(-inside * density) + generator.normal(0, 2, (side, side, 3)), 0, 255).astype(np.uint8)


def cells(n: int, seed: int, site: bool, source: str) -> Cells:
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    return Cells(
        crops=np.stack([picture(label, generator, site) for label in labels.tolist()]),
        labels=labels,
        source=np.full(n, source),
        split=np.where(np.arange(n) % 9 < 6, "train", "validation"),
        kind=np.full(n, "cell"),
        group=np.array([f"{source}{i}" for i in range(n)]),
        picture=np.arange(n).astype(str),
        subtype=np.full(n, ""),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished run: a network whose normalisation fits the blobs, and a head that has learnt three classes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._MODELS, "small", ("small_student", {}))
        yield make_run(tmp_path_factory)


def make_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    keras.utils.set_random_seed(0)
    model = registry.build_untrained(SMALL)
    known = cells(180, 1, site=False, source="pbc")
    inputs = fit.network_inputs([centre(crop, 32) for crop in known.crops], SMALL)
    normalisation.reestimate(model, inputs, 0.0)
    trunk, last = tail.split(model)
    kept = trunk.predict(inputs, verbose=0)
    # The three classes without blobs are out of the question; nothing that is learnt from blobs speaks of them.
    model.get_layer("head").bias.assign([0, 0, 0, -20, -20, -20])
    pool = Pool(head.pooled(head.pooling(model), kept)[None], known.labels, 1.0)
    head.assign(model.get_layer("head"), head.solve([pool], head.weights_of(model.get_layer("head")), Ridge(1e-4)))
    assert (tail.logits(last, kept).argmax(axis=1) == known.labels).mean() > 0.95
    SMALL.save(folder / "config.json")
    model.save_weights(folder / "model.weights.h5")
    origin = [DataSource(source="pbc", licence="CC-BY-4.0", citation="blobs", images=180)]
    replay.keep(known, SMALL, folder, origin)
    return folder


def labelled_folder(folder: Path, n: int = 42, shuffled: bool = False) -> Path:
    generator = np.random.default_rng(7)
    names = ("neutrophil", "lymphocyte", "monocyte")
    truth = np.arange(n) % 3
    told = generator.permutation(truth) if shuffled else truth
    folder.mkdir()
    rows = []
    for number, (label, name) in enumerate(zip(truth.tolist(), told.tolist(), strict=True)):
        cv2.imwrite(str(folder / f"{number}.png"), picture(label, generator, site=True, side=64))
        rows.append(f"{number}.png,{names[name]},view{number // 2}")
    (folder / "manifest.csv").write_text("file,label,group\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return folder


def options(**more: object) -> Options:
    return Options("clinic", folds=3, ways=QUICK, limits=gate.Limits(loss=0.1, disagreement=0.2), **more)  # type: ignore[arg-type]


def test_a_site_with_another_stain_is_adapted_to_and_packed(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = labelled_folder(tmp_path / "cells")
    folders = chain.Folders(run, tmp_path / "new", cells=given, bundle=tmp_path / "bundle")
    summary = chain.run(folders, options())
    held = summary["held_out"]
    assert "basophil: 0 views only" in caplog.text
    assert held["before"]["balanced_accuracy"] < 0.7
    assert held["after"]["balanced_accuracy"] > held["before"]["balanced_accuracy"] + 0.2
    assert json.loads((tmp_path / "new" / "adaptation.json").read_text()) == summary
    model, config = fit.load(tmp_path / "new")
    assert config == SMALL
    assert model.predict(np.zeros((1, 32, 32, 3), np.float32), verbose=0)["logits"].shape == (1, 6)
    manifest = load(tmp_path / "bundle")
    with LiteRTRuntime(tmp_path / "bundle" / "student-int8.tflite") as runtime:
        assert verify(tmp_path / "bundle", runtime).ok
    assert manifest.version == "0.1.0+clinic"
    assert "Adapted for clinic from 42 labelled cells" in manifest.limits
    assert [item.source for item in manifest.data] == ["pbc", "clinic"]
    assert manifest.data[0].images == 180
    assert next(row for row in manifest.figures if row.source == "clinic").n == 42
    card = (tmp_path / "bundle" / "model_card.md").read_text(encoding="utf-8")
    assert "| before | 42 |" in card
    assert "| after, held out | 42 |" in card
    # The adapted run can be adapted again: it carries its own replay set.
    again, origin = replay.find(tmp_path / "new")
    assert len(again) == len(replay.find(run)[0])
    assert [item.source for item in origin] == ["pbc", "clinic"]


def test_shuffled_labels_are_refused_and_nothing_is_written(run: Path, tmp_path: Path) -> None:
    given = labelled_folder(tmp_path / "cells", shuffled=True)
    with pytest.raises(gate.AdaptationRefusedError) as caught:
        chain.run(chain.Folders(run, tmp_path / "new", cells=given, bundle=tmp_path / "bundle"), options())
    assert caught.value.exit_code == 3
    assert caught.value.code in {"worse-on-held-out", "not-shown-better", "too-weak"}
    assert [path.name for path in tmp_path.iterdir()] == ["cells"]


def test_a_folder_in_use_is_refused_before_any_work(run: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "precious").write_text("kept", encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        chain.run(chain.Folders(run, tmp_path / "new", cells=tmp_path / "none"), options())
    assert caught.value.code == "folder-in-use"
    assert (tmp_path / "new" / "precious").read_text(encoding="utf-8") == "kept"


@pytest.mark.parametrize(
    ("group", "label", "code"), [("one", "monocyte", "too-few-groups"), ("", "monocyte", "too-few-classes")]
)
def test_cells_that_cannot_be_held_out_are_refused(
    run: Path, tmp_path: Path, group: str, label: str, code: str
) -> None:
    folder = labelled_folder(tmp_path / "cells", 8)
    generator = np.random.default_rng(0)
    rows = []
    for number in range(8):
        # Texture of its own, or the pictures would count as the same one.
        image = generator.integers(0, 255, (64, 64, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), image)
        rows.append(f"{number}.png,{label},{group or number}")
    (folder / "manifest.csv").write_text("file,label,group\n" + "\n".join(rows) + "\n", encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        chain.run(chain.Folders(run, tmp_path / "new", cells=folder), options())
    assert caught.value.code == code


def test_reestimated_statistics_are_those_of_the_cells_blended() -> None:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4, 4, 3))
    first = keras.layers.BatchNormalization(name="first", epsilon=0.0)
    second = keras.layers.BatchNormalization(name="second", epsilon=0.0)
    model = keras.Model(inputs, second(2.0 * first(inputs)))
    first.set_weights([np.array([1, 2, 3.0]), np.array([0, 1, 2.0]), np.array([5, 5, 5.0]), np.array([4, 4, 4.0])])
    x = np.random.default_rng(0).normal(3, 2, (50, 4, 4, 3)).astype(np.float32)
    normalisation.reestimate(model, x, 0.75)
    mean = 0.75 * 5 + 0.25 * x.mean(axis=(0, 1, 2))
    variance = 0.75 * 4 + 0.25 * x.var(axis=(0, 1, 2))
    np.testing.assert_allclose(first.moving_mean, mean, rtol=1e-4)
    np.testing.assert_allclose(first.moving_variance, variance, rtol=1e-4)
    # The second layer sees what the first, already blended, gives.
    y = 2.0 * ((x - mean) / np.sqrt(variance) * np.array([1, 2, 3]) + np.array([0, 1, 2]))
    np.testing.assert_allclose(second.moving_mean, 0.25 * y.mean(axis=(0, 1, 2)), rtol=1e-3)
    np.testing.assert_allclose(second.moving_variance, 0.75 + 0.25 * y.var(axis=(0, 1, 2)), rtol=1e-3)
    assert normalisation.source_share(0) == 1.0
    assert normalisation.source_share(256) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="blend"):
        normalisation.reestimate(model, x[:0], 0.5)


def features(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (2, n, 8, 8, 16)).astype(np.float16)


def test_a_class_the_site_lacks_is_not_evidence_against_it() -> None:
    pools = [Pool(features(6, 0), np.array([0, 0, 1, 1, 1, 1]), 0.5), Pool(features(6, 1), np.arange(6), 0.5)]
    drawn = tail.batch(pools, 40, 0.1, np.random.default_rng(0))
    assert (drawn.offsets[:20, :2] == 0).all()
    assert (drawn.offsets[:20, 2:] < -20).all()
    assert (drawn.targets[:20, 2:] == 0).all()
    assert (drawn.offsets[20:] == 0).all()
    np.testing.assert_allclose(drawn.targets.sum(axis=1), 1, rtol=1e-5)


def test_what_learns_is_what_was_asked_for_and_a_seed_gives_the_same_weights(run: Path) -> None:
    model, _ = fit.load(run)
    _, last = tail.split(model)
    before = last.get_weights()
    pools = [Pool(features(12, 0), np.arange(12) % 3, 1.0)]
    ends = []
    for seed in (1, 1, 2):
        tail.train(last, pools, Course("head", 1e-2, steps=5), seed)
        ends.append(last.get_weights())
        changed = [v.path for v, a, b in zip(last.weights, before, ends[-1], strict=True) if not np.array_equal(a, b)]
        assert changed
        assert all("head" in path for path in changed)
        last.set_weights(before)
    for one, other in zip(ends[0], ends[1], strict=True):
        np.testing.assert_array_equal(one, other)
    assert any(not np.array_equal(one, other) for one, other in zip(ends[0], ends[2], strict=True))
    assert {v.path.split("/")[0] for v in tail.learning(last, "last")} >= {"head", "last", "last_bn"}
    assert len(tail.learning(last, "tail")) == len(last.trainable_variables)
    assert len(tail.learning(last, "head")) == 2


def test_cross_validation_never_shows_a_network_the_group_it_is_asked_about(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = fit.load(run)
    n = 18
    groups = np.array([f"g{i // 3}" for i in range(n)])
    made = labelled.Material(np.arange(n) % 3, features(n, 0)[0], features(n, 1), np.arange(6), features(6, 2))
    shown: list[set[str]] = []
    asked: list[set[str]] = []

    class Watched(labelled.Learner):
        def learn(self, chosen: np.ndarray, way: Way) -> None:
            shown.append(set(groups[chosen].tolist()))
            super().learn(chosen, way)

        def answer(self, chosen: np.ndarray) -> np.ndarray:
            asked.append(set(groups[chosen].tolist()))
            return super().answer(chosen)

    learner = Watched(model, made, 0)
    before = model.get_weights()
    found = learner.cross_validate(WAYS_TRIED, folds.assign(made.labels, groups, 3, 0))
    assert list(found) == ["normalisation", "ridge", "last"]
    assert len(shown) == 6
    for seen, held in zip(shown, asked[1:], strict=True):
        assert not seen & held
        assert seen | held == set(groups.tolist())
    assert not np.array_equal(found["ridge"], found["normalisation"])
    assert not np.array_equal(found["last"], found["normalisation"])
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_head_is_the_penalised_regression_of_another_library() -> None:
    """With a huge prior it stays; from nothing, without smoothing or weights, it is scikit-learn's ridge logistic."""
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), 20)
    x = (rng.normal(0, 1, (120, 5)) + np.eye(6)[labels][:, :5]).astype(np.float32)
    pool = Pool(x[None], labels, 1.0)
    old = rng.normal(0, 1, (6, 6))
    np.testing.assert_allclose(head.solve([pool], old, Ridge(1e6)), old, atol=1e-4)
    penalty = 0.01
    found = head.solve([pool], np.zeros((6, 6)), Ridge(penalty, smoothing=0.0))
    # scikit-learn sums over cells and halves the penalty: C = 1 / (2 n penalty). A column of ones penalises the bias.
    model = linear.LogisticRegression(C=1 / (2 * 120 * penalty), fit_intercept=False, tol=1e-8, max_iter=2000)
    model.fit(head.with_one(x), labels)
    np.testing.assert_allclose(found, model.coef_.T, atol=2e-3)


def test_a_head_survives_being_read_and_written(run: Path) -> None:
    model, _ = fit.load(run)
    layer, x = model.get_layer("head"), np.random.default_rng(0).normal(0, 1, (3, 32, 32, 3)).astype(np.float32)
    trunk, last = tail.split(model)
    kept = trunk.predict(x, verbose=0)
    pooled = head.pooled(head.pooling(model), kept)
    np.testing.assert_allclose(
        head.with_one(pooled) @ head.weights_of(layer), tail.logits(last, kept), rtol=1e-3, atol=1e-3
    )
    head.assign(layer, 2 * head.weights_of(layer))
    np.testing.assert_allclose(head.with_one(pooled) @ head.weights_of(layer), tail.logits(last, kept), atol=1e-2)


def test_the_same_seed_gives_the_same_adapted_weights(run: Path) -> None:
    given = replace(options(), ways=QUICK, limits=gate.Limits(significance=1.0, least=0.0, loss=1.0), folds=2)
    site = cells(24, 5, site=True, source="clinic")
    ends = [commission.adapt(run, None, site, replay.find(run), given).model.get_weights() for _ in range(2)]
    for first, second in zip(*ends, strict=True):
        np.testing.assert_array_equal(first, second)


def test_the_command_refuses_to_adapt_to_nothing(run: Path, tmp_path: Path) -> None:
    done = leuko(tmp_path, "train", "adapt", run, "--out", tmp_path / "new")
    assert done.code == 2
    assert "nothing-of-the-site" in done.err
    assert not done.out
    assert not (tmp_path / "new").exists()

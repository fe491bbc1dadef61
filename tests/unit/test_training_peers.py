"""The classical systems: what they measure on pictures with a known answer, whom they learn from, how they vote."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("skimage", reason="the train extra is not installed")
pytest.importorskip("sklearn", reason="the train extra is not installed")

from edge.core.errors import LeukoError, UsageError
from training.data.cells import Cells
from training.evaluation import systems
from training.peers import choi, di_ruberto, features, regions, rezatofighi, run, zhang
from training.peers.learning import learnt_from
from training.predictions import Predictions

SIDE = 64
BLANK = (230, 230, 230)
CYTOPLASM = (215, 190, 200)
NUCLEUS = (150, 40, 90)
RED_CELL = (190, 185, 225)


def ellipse(side: int, rows: float, columns: float, at: tuple[float, float] | None = None) -> np.ndarray:
    row, column = at or ((side - 1) / 2, (side - 1) / 2)
    y, x = np.ogrid[:side, :side]
    return ((y - row) / rows) ** 2 + ((x - column) / columns) ** 2 <= 1


def cell_picture(lobes: int, side: int = SIDE, seed: int = 0, texture: float = 3.0) -> np.ndarray:
    """A cell of one, two or three lobes in the middle and a red cell beside it."""
    picture = np.empty((side, side, 3))
    picture[:] = BLANK
    picture[ellipse(side, 0.16 * side, 0.16 * side, (0.1 * side, 0.1 * side))] = RED_CELL
    picture[ellipse(side, 0.34 * side, 0.34 * side)] = CYTOPLASM
    if lobes == 1:
        picture[ellipse(side, 0.22 * side, 0.22 * side)] = NUCLEUS
    else:
        for index in range(lobes):
            angle = 2 * np.pi * index / lobes
            at = (side / 2 + 0.16 * side * np.sin(angle), side / 2 + 0.16 * side * np.cos(angle))
            picture[ellipse(side, 0.1 * side, 0.1 * side, at)] = NUCLEUS
    noise = np.random.default_rng(seed).normal(0, texture, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def test_a_disc_is_round_and_its_measures_are_those_of_geometry() -> None:
    side = 201
    found = features.shape(regions.disc(side, 0.3))
    assert found["circularity"] == pytest.approx(1.0, abs=0.02)
    assert found["area"] == pytest.approx(np.pi * 0.3**2, rel=0.01)
    assert found["perimeter"] == pytest.approx(2 * np.pi * 0.3, rel=0.02)
    assert found["eccentricity"] == pytest.approx(0.0, abs=0.02)
    assert found["solidity"] == pytest.approx(1.0, abs=0.02)
    assert found["diameter"] == pytest.approx(0.6, rel=0.01)
    assert found["parts"] == 1


def test_an_ellipse_has_the_eccentricity_of_its_axes_whichever_way_it_lies() -> None:
    lying, standing = (features.shape(ellipse(201, *axes)) for axes in ((40, 80), (80, 40)))
    assert lying["eccentricity"] == pytest.approx(np.sqrt(1 - 0.25), abs=0.01)
    assert lying["elongation"] == pytest.approx(0.5, abs=0.01)
    for name, value in lying.items():
        assert standing[name] == pytest.approx(value, rel=1e-3, abs=1e-3), name
    assert lying["circularity"] < 0.95


def test_lobes_on_a_thin_bridge_are_counted_apart() -> None:
    mask = ellipse(200, 30, 30, (100, 60)) | ellipse(200, 30, 30, (100, 140))
    mask[98:103, 60:140] = True
    assert features.shape(mask)["parts"] == 2
    assert features.shape(mask)["solidity"] < 0.9


def test_colour_moments_are_those_of_the_pixels_under_the_mask() -> None:
    from scipy.stats import skew

    crop = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    mask = np.zeros((20, 20), dtype=bool)
    mask[5:15, 5:15] = True
    found = features.colour_moments(crop, mask)
    for index, name in enumerate(("blue", "green", "red")):
        values = crop[5:15, 5:15, index].ravel().astype(float)
        assert found[f"{name}_mean"] == pytest.approx(values.mean())
        assert found[f"{name}_deviation"] == pytest.approx(values.std())
        assert found[f"{name}_skewness"] == pytest.approx(skew(values))


def test_texture_of_a_plain_region_and_of_stripes() -> None:
    mask = regions.disc(64, 0.4)
    plain = features.cooccurrence(np.full((64, 64), 100, np.uint8), mask)
    assert plain["contrast_1"] == 0
    assert plain["energy_1"] == pytest.approx(1)
    assert plain["entropy_1"] == pytest.approx(0)
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 16  # the next of sixteen levels
    striped = features.cooccurrence(stripes, np.ones((64, 64), bool))
    # At one pixel, across and on both diagonals every pair differs by one level, along the stripes none does.
    assert striped["contrast_1"] == pytest.approx(0.75)
    assert striped["homogeneity_1"] == pytest.approx(0.75 * 0.5 + 0.25)


def test_texture_does_not_see_what_is_outside_the_region() -> None:
    generator = np.random.default_rng(0)
    mask = regions.disc(48, 0.3)
    inside = generator.integers(0, 256, (48, 48), dtype=np.uint8)
    one, other = (np.where(mask, inside, np.uint8(value)).astype(np.uint8) for value in (0, 255))
    assert features.cooccurrence(one, mask) == features.cooccurrence(other, mask)


def test_local_binary_patterns_are_shares_that_do_not_change_with_a_quarter_turn() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (41, 41), dtype=np.uint8)
    mask = regions.disc(41, 0.3)
    found = features.local_binary_patterns(grey, mask)
    assert sum(value for name, value in found.items() if name.startswith("pattern8_")) == pytest.approx(1)
    turned = features.local_binary_patterns(np.rot90(grey).copy(), np.rot90(mask))
    for name, value in found.items():
        assert turned[name] == pytest.approx(value, abs=0.03), name


def test_gram_schmidt_gives_one_for_the_wanted_colour_and_nothing_for_the_others() -> None:
    wanted, unwanted = np.array([10.0, 200.0, 120.0]), np.array([[20.0, 20.0, 25.0], [60.0, 70.0, 30.0]])
    axis = regions.gram_schmidt(wanted, unwanted)
    np.testing.assert_allclose(unwanted @ axis, 0, atol=1e-9)
    assert wanted @ axis == pytest.approx(1)


@pytest.mark.parametrize("find", [regions.by_threshold, regions.by_gram_schmidt, regions.by_watershed])
def test_nucleus_and_cytoplasm_are_found_and_the_neighbour_is_not(find: object) -> None:
    found = find(cell_picture(1, 128))  # type: ignore[operator]
    nucleus, cell = ellipse(128, 0.22 * 128, 0.22 * 128), ellipse(128, 0.34 * 128, 0.34 * 128)
    assert (found.nucleus & nucleus).sum() / (found.nucleus | nucleus).sum() > 0.9
    assert (found.cell & cell).sum() / (found.cell | cell).sum() > 0.85
    assert not (found.nucleus & found.cytoplasm).any()
    assert not found.cell[ellipse(128, 8, 8, (12, 12))].any()


@pytest.mark.parametrize("extract", [di_ruberto.extract, rezatofighi.extract])
def test_a_blank_picture_has_finite_features(extract: object) -> None:
    found = extract(np.zeros((SIDE, SIDE, 3), np.uint8))  # type: ignore[operator]
    assert np.isfinite(list(found.values())).all()


@pytest.mark.parametrize("find", [regions.by_threshold, regions.by_gram_schmidt, regions.by_watershed])
def test_a_picture_with_nothing_in_it_still_gets_its_features(find: object) -> None:
    for picture in (np.full((SIDE, SIDE, 3), 230, np.uint8), np.zeros((SIDE, SIDE, 3), np.uint8)):
        found = find(picture)  # type: ignore[operator]
        assert found.nucleus.any()
        assert found.cytoplasm.any()
    assert all(
        np.isfinite(list(extract(picture).values())).all() for extract in (di_ruberto.extract, rezatofighi.extract)
    )


def test_the_cell_that_is_cut_out_stands_alone_on_blank_slide() -> None:
    crop = np.pad(cell_picture(1, 128), ((32, 32), (32, 32), (0, 0)), mode="edge")
    alone = zhang.cut_out(crop, 128)
    assert (alone[96, 96] == crop[96, 96]).all()
    assert (alone[44, 44] == 230).all()
    assert (alone[:32] == 230).all()


def cells(n: int = 60) -> Cells:
    """Five classes that differ in their lobes and texture; a sixth part validation, a sixth part test."""
    labels = np.arange(n) % 5
    pictures = [
        cell_picture(int(label) % 3 + 1, 96, seed, 3.0 if label < 3 else 14.0) for seed, label in enumerate(labels)
    ]
    split = np.array([("train", "train", "train", "train", "validation", "test")[(i // 5) % 6] for i in range(n)])
    return Cells(
        crops=np.stack(pictures),
        labels=labels,
        source=np.array(["pbc", "bccd"])[(np.arange(n) // 5) % 2 * (split == "train")],
        split=split,
        kind=np.full(n, "cell"),
        group=np.arange(n).astype(str),
        picture=np.arange(n).astype(str),
        subtype=np.full(n, ""),
    )


def test_only_the_training_split_of_allowed_sources_is_learnt_from() -> None:
    some = cells()
    mask = learnt_from(some, ("bccd",))
    assert set(some.split[mask]) == {"train"}
    assert set(some.source[mask]) == {"pbc"}
    other = replace(some, labels=np.where(np.arange(60) < 30, 5, some.labels))
    assert (other.labels[learnt_from(other)] < 5).all()
    with pytest.raises(UsageError) as caught:
        learnt_from(some, ("bccd", "pbc"))
    assert caught.value.code == "nothing-to-train-on"
    with pytest.raises(UsageError) as forbidden:
        learnt_from(replace(some, source=np.full(60, "jtsc")))
    assert forbidden.value.code == "licence-forbids-training"


@pytest.mark.parametrize("name", ["di_ruberto", "rezatofighi"])
def test_a_classical_peer_learns_from_the_training_split_alone_and_never_calls_other(name: str, tmp_path: Path) -> None:
    some = cells()
    settings = run.Settings(peer=name, size=SIDE, selected=4)
    predictions = Predictions.load(run.record(some, settings, tmp_path / "a"))
    assert predictions.logits.shape == (60, 6)
    assert (predictions.logits[:, 5] < predictions.logits[:, :5].min(axis=1) - 20).all()
    assert (predictions.logits.argmax(axis=1) == some.labels)[some.split == "test"].mean() >= 0.7
    # Other labels in the test split, and nothing that it says may change.
    turned = replace(some, labels=np.where(some.split == "test", (some.labels + 1) % 5, some.labels))
    again = Predictions.load(run.record(turned, settings, tmp_path / "b"))
    np.testing.assert_allclose(again.logits, predictions.logits, rtol=1e-6)
    written = json.loads((tmp_path / "a" / "peer.json").read_text())
    assert written["settings"]["peer"] == name
    assert written["notes"]["cells"] == 40


@pytest.mark.parametrize("name", ["svm C=1", "knn k=5"])
def test_the_scores_of_a_classifier_say_what_it_predicts(name: str) -> None:
    labels = np.repeat(np.arange(5), 12)
    values = np.random.default_rng(0).normal(0, 1, (60, 4)) + 3 * np.eye(5, 4)[labels]
    machine = di_ruberto.candidates(0)[name].fit(values, labels)
    scores = di_ruberto.scores_of(machine, values)
    assert scores.shape == (60, 5)
    assert np.isfinite(scores).all()
    assert (scores.argmax(axis=1) == machine.predict(values)).all()


def test_a_vote_as_counted_by_hand() -> None:
    shares = np.array([[0.6, 0.4, 0, 0, 0, 0], [0.55, 0.45, 0, 0, 0, 0], [0.02, 0.98, 0, 0, 0, 0]])
    three = [np.log(np.maximum(share[None], 1e-20)).astype(np.float32) for share in shares]
    soft, hard = (np.exp(choi.vote(three, how)) for how in ("soft", "hard"))
    np.testing.assert_allclose(soft[0, :3], [1.17 / 3, 1.83 / 3, 0], atol=1e-5)
    assert soft.argmax() == 1
    assert hard.argmax() == 0
    np.testing.assert_allclose(hard[0, :2], [2 / 3, 1 / 3], atol=1e-3)


def test_a_tied_vote_goes_to_the_more_certain() -> None:
    two = [np.log(np.array([share])) for share in ([0.6, 0.4], [0.1, 0.9])]
    assert choi.vote(two, "hard").argmax() == 1


def saved(folder: Path, some: Cells, logits: np.ndarray) -> Path:
    folder.mkdir()
    kept = {name: getattr(some, name) for name in Predictions.__slots__ if name != "logits"}
    Predictions(logits=logits.astype(np.float32), **kept).save(folder / "predictions.npz")
    return folder


def test_runs_vote_only_about_the_same_cells(tmp_path: Path) -> None:
    some = cells(30)
    right = np.eye(6)[some.labels] * 4
    a, b = saved(tmp_path / "a", some, right), saved(tmp_path / "b", some, right * 0.1)
    settings = run.Settings(peer="choi", runs=run.names_of([a, b]))
    voted = Predictions.load(run.run(None, settings, tmp_path / "vote"))
    assert (voted.logits.argmax(axis=1) == some.labels).all()
    assert (voted.picture == some.picture).all()
    other = saved(tmp_path / "c", replace(some, split=np.roll(some.split, 5)), right)
    codes = {"runs-do-not-match": (a, other), "too-few-runs": (a,), "no-such-system": (a, tmp_path)}
    for code, runs in codes.items():
        with pytest.raises(LeukoError) as caught:
            run.run(None, replace(settings, runs=run.names_of(runs)), tmp_path / "vote")
        assert caught.value.code == code
        assert caught.value.cure


def test_a_vote_of_runs_without_a_source_is_a_vote_without_it(tmp_path: Path) -> None:
    some = cells(30)
    voters = [saved(tmp_path / name, some, np.eye(6)[some.labels]) for name in "ab"]
    for folder, left_out in zip(voters, (["bccd", "embedded"], ["bccd"]), strict=True):
        (folder / "peer.json").write_text(json.dumps({"settings": {"leave_out": left_out}}))
    run.run(None, run.Settings(peer="choi", runs=run.names_of(voters)), tmp_path / "vote")
    assert systems.find(tmp_path / "vote").leave_out == ("bccd",)


def test_a_peer_that_is_not_there_and_data_that_are_missing_are_said_so(tmp_path: Path) -> None:
    for settings, code in ((run.Settings(peer="pappenheim"), "unknown-peer"), (run.Settings(peer="zhang"), "no-data")):
        with pytest.raises(UsageError) as caught:
            run.run(None, settings, tmp_path)
        assert caught.value.code == code


@pytest.mark.train
def test_the_watershed_peer_trains_a_network_on_cells_cut_out(tmp_path: Path) -> None:
    settings = run.Settings(peer="zhang", size=SIDE, epochs=1, steps=2, batch=4)
    path = run.record(cells(30), settings, tmp_path)
    assert Predictions.load(path).logits.shape == (30, 6)
    assert json.loads((tmp_path / "peer.json").read_text())["notes"]["network"]["model"] == "plain_cnn"
    assert (tmp_path / "network" / "model.weights.h5").is_file()

"""Maps that are made by changing the picture, how they are measured, and the cells they are made for: without Keras."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from devices.cameras.simulated import SimulatedCamera
from devices.cameras.slide import render_cell
from edge.core.errors import InputError, NothingToDoError
from edge.core.labels import LABELS
from edge.inference.saliency import enlarged, overlay
from training.config import RunConfig
from training.data.cells import Cells
from training.explain import agreement, nucleus, perturbation, subjects

CONFIG = RunConfig(size=64)


def linear(weights: np.ndarray) -> perturbation.Score:
    return lambda inputs: (inputs.astype(np.float64) * weights).sum(axis=(1, 2, 3)) + 0.7


@pytest.mark.parametrize(("patch", "stride"), [(4, 4), (4, 2), (5, 3), (1, 1)])
def test_occlusion_of_a_linear_model_is_what_its_weights_lose(patch: int, stride: int) -> None:
    """The fall of w.x + b under a square is the sum of w (x - blank) in it: an independent sum over each pixel."""
    rng = np.random.default_rng(0)
    weights, inputs = rng.normal(size=(16, 16, 3)), rng.uniform(-1, 1, (16, 16, 3)).astype(np.float32)
    blank = 0.8
    share = (weights * (inputs - blank)).sum(axis=2)
    starts = [*range(0, 16 - patch + 1, stride)]
    starts += [16 - patch] if starts[-1] != 16 - patch else []
    expected = np.zeros((16, 16))
    for y in range(16):
        for x in range(16):
            falls = [
                share[top : top + patch, left : left + patch].sum()
                for top in starts
                for left in starts
                if top <= y < top + patch and left <= x < left + patch
            ]
            expected[y, x] = np.mean(falls)
    found = perturbation.occlusion(linear(weights), inputs, blank, patch, stride)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_lime_ranks_the_only_region_that_matters_first() -> None:
    pytest.importorskip("lime", reason="the train extra is not installed")
    regions = np.kron(np.arange(16).reshape(4, 4), np.ones((4, 4), np.int64)).astype(np.int64)
    weights = np.zeros((16, 16, 3))
    weights[regions == 6] = 1.0
    inputs = np.full((16, 16, 3), -0.5, np.float32)
    inputs[regions == 6] = 0.9
    found = perturbation.lime(linear(weights), inputs, regions, blank=0.0, samples=100)
    of_region = np.array([found[regions == region].mean() for region in range(16)])
    assert of_region.argmax() == 6
    assert of_region[6] > 10 * np.abs(np.delete(of_region, 6)).max()
    # The score rises by w (x - blank) when the region is shown; the ridge of the library shrinks that a little.
    assert of_region[6] == pytest.approx(0.9 * 16 * 3, rel=0.25)
    np.testing.assert_array_equal(found, perturbation.lime(linear(weights), inputs, regions, blank=0.0, samples=100))


def test_deletion_and_insertion_tell_a_faithful_map_from_its_opposite() -> None:
    weights = np.zeros((16, 16, 3))
    weights[4:8, 4:8] = 1 / 48

    def probability(inputs: np.ndarray) -> np.ndarray:
        return (inputs * weights).sum(axis=(1, 2, 3))

    inputs = np.ones((16, 16, 3), np.float32)
    faithful = weights[..., 0].astype(np.float32)
    deletion, insertion = perturbation.curves(probability, inputs, faithful, blank=0.0, steps=16)
    # A sixteenth of the pixels holds everything: the curve falls from 1 to 0 in the first step of the trapezium.
    assert deletion == pytest.approx(0.5 / 16)
    assert insertion == pytest.approx(1 - 0.5 / 16)
    deletion, insertion = perturbation.curves(probability, inputs, -faithful, blank=0.0, steps=16)
    assert deletion == pytest.approx(1 - 0.5 / 16)
    assert insertion == pytest.approx(0.5 / 16)


def test_the_measures_of_agreement_have_their_known_values() -> None:
    rng = np.random.default_rng(0)
    one = rng.uniform(0.1, 1, (10, 10)).astype(np.float32)
    assert agreement.rank_correlation(one, one**3) == pytest.approx(1)
    assert agreement.rank_correlation(one, -one) == pytest.approx(-1)
    assert agreement.rank_correlation(one, np.zeros_like(one)) is None
    # Spearman's own example with ties: ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4 (Pearson of the ranks).
    ranks = np.array([[1, 2.5, 2.5, 4], [1, 2, 3, 4]])
    tied = agreement.rank_correlation(np.array([1, 5, 5, 9.0]), np.array([2, 3, 4, 5.0]))
    assert tied == pytest.approx(np.corrcoef(ranks)[0, 1])
    top = agreement.top(one)
    assert top.sum() == 20
    assert one[top].min() >= one[~top].max()
    assert agreement.top(np.zeros((10, 10), np.float32)).sum() == 0
    left, right = np.zeros((2, 10), bool), np.zeros((2, 10), bool)
    left[:, :6], right[:, 4:] = True, True
    assert agreement.overlap(left, right) == pytest.approx(4 / 20)
    assert agreement.overlap(left, ~left) == 0
    assert agreement.overlap(np.zeros((2, 2), bool), np.zeros((2, 2), bool)) is None


def test_the_pointing_game_is_won_in_the_nucleus_alone() -> None:
    mask = np.zeros((8, 8), bool)
    mask[2:4, 2:4] = True
    activation = np.zeros((8, 8), np.float32)
    assert agreement.points_inside(activation, mask) is None
    activation[3, 3] = 1
    assert agreement.points_inside(activation, mask) == 1
    activation[6, 6] = 2
    assert agreement.points_inside(activation, mask) == 0
    activation[2, 2] = 2
    assert agreement.points_inside(activation, mask) == 0.5


@pytest.mark.parametrize("label", LABELS)
def test_the_nucleus_is_the_darkest_part_in_the_middle(label: str, tmp_path: Path) -> None:
    path = tmp_path / "cell.png"
    cv2.imwrite(str(path), render_cell(label, np.random.default_rng(3), 300))
    (subject,) = subjects.from_picture(path, CONFIG)
    inside = subject.crop[subject.nucleus].mean()
    around = subject.crop[~subject.nucleus].mean()
    assert inside < around - 30
    assert 0.05 < subject.nucleus.mean() < 0.35
    assert subject.nucleus[:4].sum() == subject.nucleus[:, -4:].sum() == 0


def test_where_nothing_is_stained_the_nucleus_is_the_disc_that_the_crop_is_centred_on() -> None:
    mask = nucleus.nucleus_mask(np.full((64, 64, 3), 230, np.uint8), margin=2.0)
    assert mask.mean() == pytest.approx(np.pi / 16, rel=0.05)
    assert mask[32, 32] and not mask[0, 0]


def test_a_whole_field_gives_all_its_cells_when_it_is_said_to_be_one(tmp_path: Path) -> None:
    with SimulatedCamera(seed=5, width=640, height=400) as camera:
        frame = next(iter(camera.frames()))
    path = tmp_path / "field.png"
    cv2.imwrite(str(path), frame.image)
    found = subjects.from_picture(path, CONFIG, whole_field=True)
    assert len(found) >= 1
    assert len({subject.box for subject in found}) == len(found)
    assert all(subject.crop.shape == (64, 64, 3) for subject in found)
    assert len(subjects.from_picture(path, CONFIG)) == 1


@pytest.mark.parametrize("whole_field", [False, True])
def test_a_picture_without_a_cell_and_one_that_cannot_be_read_are_told(tmp_path: Path, whole_field: bool) -> None:
    blank = tmp_path / "blank.png"
    cv2.imwrite(str(blank), np.full((200, 200, 3), 235, np.uint8))
    with pytest.raises(InputError) as caught:
        subjects.from_picture(blank, CONFIG, whole_field)
    assert caught.value.code == "no-cell"
    assert caught.value.cure
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(InputError):
        subjects.from_picture(broken, CONFIG, whole_field)


def some_cells(split: str) -> Cells:
    n = 72
    return Cells(
        crops=np.random.default_rng(0).integers(0, 256, (n, 96, 96, 3), dtype=np.uint8),
        labels=np.arange(n) % 6,
        source=np.array((["pbc"] * 5 + ["bccd"]) * 12)[np.random.default_rng(1).permutation(n)],
        split=np.full(n, split),
        kind=np.full(n, "cell"),
        group=np.arange(n).astype(str),
        picture=np.arange(n).astype(str),
        subtype=np.full(n, ""),
    )


def test_validation_cells_are_chosen_by_class_from_all_sources_in_turn() -> None:
    chosen = subjects.from_cells(some_cells("validation"), CONFIG, 4, seed=1)
    assert sorted(str(subject.truth) for subject in chosen) == sorted([*LABELS, "other"] * 4)
    assert sum(subject.source == "bccd" for subject in chosen) >= 6
    again = subjects.from_cells(some_cells("validation"), CONFIG, 4, seed=1)
    assert [one.picture for one in chosen] == [other.picture for other in again]
    other = subjects.from_cells(some_cells("validation"), CONFIG, 4, seed=2)
    assert [one.picture for one in chosen] != [two.picture for two in other]


@pytest.mark.parametrize("split", ["train", "test", "evaluation"])
def test_no_other_cells_than_those_for_validation_are_shown(split: str) -> None:
    with pytest.raises(NothingToDoError):
        subjects.from_cells(some_cells(split), CONFIG, 4, seed=1)


def test_a_map_is_enlarged_as_it_is_drawn() -> None:
    activation = np.random.default_rng(0).uniform(0, 1, (6, 6)).astype(np.float32)
    crop = np.full((64, 64, 3), 200, np.uint8)
    np.testing.assert_array_equal(overlay(crop, activation), overlay(crop, enlarged(activation, 64, 64)))
    assert enlarged(activation, 64, 64).max() <= 1

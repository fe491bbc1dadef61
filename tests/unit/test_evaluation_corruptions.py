"""Corruptions: pure, repeatable, stronger with severity, and what each is meant to do."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from training.data.augment import generator_for
from training.data.cells import Cells
from training.evaluation import robustness
from training.evaluation.corruptions import CORRUPTIONS, SEVERITIES, Corruption, corrupt

BY_NAME = {item.name: item for item in CORRUPTIONS}


def picture(side: int = 64) -> np.ndarray:
    """A violet disc on grey, with a fine pattern."""
    image = np.full((side, side, 3), 200, np.uint8)
    cv2.circle(image, (side // 2, side // 2), side // 4, (150, 60, 110), -1)
    image[::4, ::4] -= 30
    return image


def test_the_list_is_the_published_one_and_three_of_ours() -> None:
    published = {item.name for item in CORRUPTIONS if item.published}
    assert published == {
        *("pixelate", "jpeg_compression", "defocus_blur", "motion_blur", "brightness_up", "brightness_down"),
        *("contrast_up", "contrast_down", "saturate", "stain_deposit", "bubble"),
    }
    assert set(BY_NAME) - published == {"noise", "colour_cast", "vignette"}
    assert all(len(item.parameters) == len(SEVERITIES) for item in CORRUPTIONS)


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=lambda item: item.name)
@pytest.mark.parametrize("side", [64, 96])
def test_a_corruption_changes_a_copy_and_repeats_itself(corruption: Corruption, side: int) -> None:
    image = picture(side)
    before = image.copy()
    for severity in SEVERITIES:
        one, two = (corrupt(image, corruption, severity, generator_for(1, severity)) for _ in range(2))
        assert one.shape == image.shape and one.dtype == np.uint8
        assert (one == two).all()
        assert (one != image).any()
    assert (image == before).all()


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=lambda item: item.name)
def test_severity_five_is_further_from_the_picture_than_one(corruption: Corruption) -> None:
    image = picture(96)

    def distance(severity: int) -> float:
        seen = [corrupt(image, corruption, severity, generator_for(7, index)) for index in range(12)]
        return float(np.mean([np.abs(each.astype(float) - image).mean() for each in seen]))

    assert distance(5) > distance(1)


def test_what_single_corruptions_do() -> None:
    image = picture()
    generator = generator_for(0)
    assert corrupt(image, BY_NAME["brightness_down"], 5, generator).mean() == pytest.approx(image.mean() / 2, abs=1)
    grey = np.full_like(image, 90)
    for name in ("contrast_up", "contrast_down", "defocus_blur", "motion_blur"):
        assert np.abs(corrupt(grey, BY_NAME[name], 5, generator).astype(int) - 90).max() <= 1, name
    noisy = corrupt(grey, BY_NAME["noise"], 2, generator)
    assert noisy.std() == pytest.approx(10, rel=0.1)
    dark = corrupt(np.full_like(image, 200), BY_NAME["vignette"], 5, generator)
    assert dark.max() >= 199 and dark.min() == pytest.approx(200 * 0.45, abs=2)
    assert corrupt(image, BY_NAME["stain_deposit"], 5, generator).min() < 20
    blocks = corrupt(image, BY_NAME["pixelate"], 5, generator)
    assert len(np.unique(blocks.reshape(-1, 3), axis=0)) <= 16 * 16


def cells(per_class: int = 6, side: int = 48) -> Cells:
    labels = np.repeat(np.arange(5), per_class)
    crops = np.stack([np.full((side, side, 3), 20 + 40 * label, np.uint8) for label in labels])
    text = np.full(len(labels), "pbc")
    return Cells(crops, labels, text, text, text, text, text, text)


def by_brightness(crops: list[np.ndarray]) -> np.ndarray:
    """A network that knows the grey level of each class and nothing else."""
    levels = np.array([crop.mean() for crop in crops])
    logits = -np.abs(levels[:, None] - (20 + 40 * np.arange(6))[None])
    return logits.astype(np.float32)


def test_a_network_that_looks_at_brightness_suffers_from_brightness_alone() -> None:
    found = robustness.measure("pbc", robustness.sample(cells(), 2), 32, by_brightness)
    assert found.n == 10
    assert found.clean == 1
    assert found.relative["pixelate"] == found.relative["defocus_blur"] == 1
    assert found.corrupted["brightness_down"][-1] < 0.7
    assert found.corrupted["brightness_down"][0] > found.corrupted["brightness_down"][-1]
    assert set(found.corrupted) == set(BY_NAME)
    assert found.mean_relative == pytest.approx(np.mean([np.mean(values) for values in found.corrupted.values()]))


def test_the_sample_is_the_same_each_time_and_holds_each_class() -> None:
    drawn = robustness.sample(cells(6), 4)
    assert np.bincount(drawn.labels).tolist() == [4] * 5
    assert (robustness.sample(cells(6), 4).labels == drawn.labels).all()
    assert len(robustness.sample(cells(3), 10)) == 15

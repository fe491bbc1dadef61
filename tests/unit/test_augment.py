"""The random microscopes: shapes, seeds, and what must stay true of a cell whatever the camera."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.imaging.flatfield import BLANK
from training.data import augment as steps
from training.data.augment import augment, centre, generator_for

SIZE, CONTEXT = 48, 72


def blank_slide() -> np.ndarray:
    return np.full((CONTEXT, CONTEXT, 3), BLANK, dtype=np.uint8)


def cell() -> np.ndarray:
    image = blank_slide()
    cv2.circle(image, (36, 36), 18, (200, 160, 190), -1)
    cv2.circle(image, (36, 36), 11, (140, 60, 90), -1)
    return image


@given(st.integers(0, 2**32))
def test_any_seed_gives_a_picture_of_the_asked_size(seed: int) -> None:
    view = augment(cell(), SIZE, generator_for(seed))
    assert view.shape == (SIZE, SIZE, 3)
    assert view.dtype == np.uint8


def test_the_same_key_gives_the_same_picture_and_another_key_another() -> None:
    first, again = (augment(cell(), SIZE, generator_for(3, 1, 4)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, augment(cell(), SIZE, generator_for(3, 1, 5)))


def test_the_input_is_left_as_it_was() -> None:
    before = cell()
    for seed in range(30):
        augment(before, SIZE, generator_for(seed))
    np.testing.assert_array_equal(before, cell())


@given(st.integers(0, 2**32))
def test_blank_slide_keeps_its_colour_under_another_stain(seed: int) -> None:
    np.testing.assert_allclose(steps.stain(blank_slide(), generator_for(seed)), BLANK, atol=0.5)


@given(st.integers(0, 2**32))
def test_blank_slide_keeps_its_colour_when_hue_and_saturation_change(seed: int) -> None:
    blank = blank_slide().astype(np.float32)
    np.testing.assert_allclose(steps.colour(blank, generator_for(seed)), BLANK, atol=0.5)


@given(st.integers(0, 2**32))
def test_the_nucleus_stays_darker_than_the_slide(seed: int) -> None:
    stained = steps.stain(cell(), generator_for(seed)).mean(axis=2)
    assert stained[36, 36] < stained[2, 2] - 5


def test_a_pale_picture_is_stained_as_strongly_as_a_dark_one() -> None:
    pale = (BLANK + (cell().astype(np.float32) - BLANK) * 0.3).astype(np.uint8)

    def depth(image: np.ndarray) -> float:
        drawn = [steps.stain(image, generator_for(seed)).mean(axis=2) for seed in range(60)]
        return float(np.mean([BLANK - view[36, 36] for view in drawn]))

    assert depth(pale) == pytest.approx(depth(cell()), rel=0.35)


@pytest.mark.parametrize("step", [steps.defocus, steps.low_resolution])
def test_optics_blur_and_do_not_change_the_mean(step: object) -> None:
    image = cell().astype(np.float32)
    for seed in range(20):
        seen = step(image, generator_for(seed))
        assert cv2.Laplacian(seen, cv2.CV_32F).var() < cv2.Laplacian(image, cv2.CV_32F).var()
        assert seen.mean() == pytest.approx(image.mean(), abs=1.0)


def test_a_window_blanks_the_outside_and_leaves_the_middle() -> None:
    image = np.full((64, 64, 3), 90.0, dtype=np.float32)
    for seed in range(20):
        seen = steps.window(image, generator_for(seed))
        assert set(np.unique(seen)) <= {90.0, np.float32(steps.BLANK)}
        assert (seen[26:38, 26:38] == 90.0).all()
    assert (image == 90.0).all()


def test_centre_takes_the_middle_unchanged() -> None:
    image = np.arange(CONTEXT * CONTEXT * 3, dtype=np.uint32).reshape(CONTEXT, CONTEXT, 3).astype(np.uint8)
    np.testing.assert_array_equal(centre(image, SIZE), image[12:60, 12:60])

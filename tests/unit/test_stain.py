"""Stain normalisation: the nucleus gets one colour, the slide keeps its own, and relations stay as they were."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.cameras.slide import render_cell
from devices.cameras.slide_stain import STAINS
from edge.bundle.manifest import PreprocessingSpec
from edge.imaging import crop, flatfield, locate, stain
from edge.imaging.preprocess import Preprocessing, to_input

MARGIN = 2.0


def drawn(nucleus: tuple[float, float, float], cytoplasm: tuple[float, float, float], side: int = 96) -> np.ndarray:
    """A disc of nucleus in a wider disc of cytoplasm on blank slide, from optical densities."""
    density = np.zeros((side, side, 3), np.float32)
    cv2.circle(density, (side // 2, side // 2), int(side * 0.38), cytoplasm, -1)
    cv2.circle(density, (side // 2, side // 2), side // 4, nucleus, -1)
    return np.rint((stain.BLANK + 1) * np.exp(-density) - 1).astype(np.uint8)


densities = st.tuples(st.floats(0.2, 0.8), st.floats(0.5, 1.8), st.floats(0.4, 1.4))


@given(densities)
def test_the_nucleus_gets_the_reference_density_and_the_slide_stays_blank(nucleus: tuple[float, float, float]) -> None:
    normal = stain.normalise(drawn(nucleus, (0.05, 0.15, 0.1)), MARGIN)
    np.testing.assert_allclose(stain.nucleus_density(normal, MARGIN), stain.REFERENCE, atol=0.06)
    assert np.all(normal[0] == stain.BLANK)


def test_two_strengths_of_one_stain_become_the_same_picture() -> None:
    strong = stain.normalise(drawn((0.6, 1.4, 1.0), (0.12, 0.35, 0.2)), MARGIN)
    pale = stain.normalise(drawn((0.3, 0.7, 0.5), (0.06, 0.175, 0.1)), MARGIN)
    assert np.abs(strong.astype(int) - pale).max() <= 6


def test_the_cytoplasm_keeps_its_share_of_the_nucleus() -> None:
    normal = stain.normalise(drawn((0.4, 1.0, 0.8), (0.1, 0.5, 0.2)), MARGIN)
    ring = -np.log((normal[48, 15].astype(float) + 1) / (stain.BLANK + 1))
    np.testing.assert_allclose(ring / stain.REFERENCE, (0.25, 0.5, 0.25), atol=0.03)


@pytest.mark.parametrize("value", [0, 128, 230, 255])
def test_a_picture_without_a_nucleus_is_not_blown_up(value: int) -> None:
    flat = np.full((96, 96, 3), value, np.uint8)
    normal = stain.normalise(flat, MARGIN)
    assert normal.shape == flat.shape
    assert len(np.unique(normal.reshape(-1, 3), axis=0)) == 1
    if value == 230:
        assert np.abs(normal.astype(int) - 230).max() <= 1


def test_rendered_cells_of_every_stain_come_closer_to_each_other() -> None:
    def spread(normalised: bool) -> float:
        colours = []
        for name in sorted(STAINS):
            image = flatfield.white_balance(render_cell("lymphocyte", np.random.default_rng(4), 300, stain=name))
            cut = crop.cut(image, locate.single_cell(image), 96, MARGIN)
            colours.append((stain.normalise(cut, MARGIN) if normalised else cut)[36:60, 36:60].mean(axis=(0, 1)))
        return float(np.std(colours, axis=0).max())

    assert spread(normalised=True) < 0.5 * spread(normalised=False)


def test_the_manifest_asks_for_it_and_old_manifests_do_not() -> None:
    spec = {"size": 96, "margin": 2.0, "colour_order": "BGR", "interpolation": "area", "scale": 1.0, "offset": 0.0}
    old = PreprocessingSpec(**spec).to_preprocessing()
    new = PreprocessingSpec(**spec, stain="nucleus").to_preprocessing()
    image = drawn((0.3, 0.7, 0.5), (0.06, 0.175, 0.1))
    np.testing.assert_array_equal(to_input(image, old), image)
    np.testing.assert_array_equal(to_input(image, new), stain.normalise(image, MARGIN))


def test_the_median_takes_single_pixels_out() -> None:
    image = drawn((0.3, 0.7, 0.5), (0.06, 0.175, 0.1))
    noisy = image.copy()
    noisy[5, 5] = 0
    plain = Preprocessing(size=96, margin=MARGIN, noise_reduction="median")
    np.testing.assert_array_equal(to_input(noisy, plain)[5, 5], to_input(image, plain)[5, 5])

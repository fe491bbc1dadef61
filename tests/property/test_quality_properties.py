"""What must not change the focus figure, and what must."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edge.core.types import Quality
from edge.imaging.quality import QualityReference, assess, judge, reference_from
from edge.imaging.sharpness import chord_diameter, edge_convexity, edge_sharpness

Plane = npt.NDArray[np.uint8]
quick = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def discs(diameter: float, side: int, blur: float, bright: int = 220, dark: int = 150) -> Plane:
    """A lattice of dark discs with edges blurred by `blur` diameters, computed and not rasterised."""
    y, x = np.mgrid[:side, :side].astype(np.float64)
    pitch = 1.6 * diameter
    distance = np.hypot((x % pitch) - pitch / 2, (y % pitch) - pitch / 2) - diameter / 2
    inside = 1 / (1 + np.exp(1.702 * distance / (blur * diameter)))
    return np.rint(bright - (bright - dark) * inside).astype(np.uint8)


@quick
@given(st.floats(24, 90), st.floats(0.02, 0.12))
def test_magnification_drops_out(diameter: float, blur: float) -> None:
    one = edge_sharpness(discs(diameter, 300, blur), diameter)
    two = edge_sharpness(discs(2 * diameter, 600, blur), 2 * diameter)
    assert one is not None
    # Within a quarter: the gate refuses at half of the site's figure.
    assert two == pytest.approx(one, rel=0.25, abs=0.05)


@quick
@given(st.floats(0.4, 1.0), st.integers(0, 30), st.floats(0.02, 0.12))
def test_gain_and_offset_drop_out(gain: float, offset: int, blur: float) -> None:
    plane = discs(40, 320, blur)
    changed = np.clip(np.rint(plane * gain + offset), 0, 255).astype(np.uint8)
    plain = edge_sharpness(plane, 40)
    assert plain is not None
    assert edge_sharpness(changed, 40) == pytest.approx(plain, rel=0.08, abs=0.04)


@quick
@given(st.floats(0.02, 0.1), st.floats(1.5, 3))
def test_more_blur_is_less_focus(blur: float, more: float) -> None:
    sharp, soft = (edge_sharpness(discs(40, 320, each), 40) for each in (blur, blur * more))
    assert sharp is not None
    assert soft is not None
    assert soft < sharp


@quick
@given(st.floats(0.03, 0.1), st.integers(0, 1000))
def test_noise_changes_the_figure_little(blur: float, seed: int) -> None:
    plane = discs(60, 480, blur)
    noise = np.random.default_rng(seed).normal(0, 5, plane.shape)
    plain = edge_sharpness(plane, 60)
    assert plain is not None
    assert edge_sharpness(np.clip(plane + noise, 0, 255).astype(np.uint8), 60) == pytest.approx(plain, rel=0.2)


@quick
@given(st.floats(14, 80))
def test_the_mean_chord_gives_the_diameter(diameter: float) -> None:
    assert chord_diameter(discs(diameter, 480, 0.03)) == pytest.approx(diameter, rel=0.15)


@quick
@given(st.floats(16, 60))
def test_edges_bend_around_the_dark_discs(diameter: float) -> None:
    plane = discs(diameter, 480, 0.05)
    around = edge_convexity(plane, diameter)
    inverted = edge_convexity((255 - plane).astype(np.uint8), diameter)
    assert around is not None
    assert inverted is not None
    assert around > 0.9
    assert inverted < 0.1


@quick
@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 60), st.integers(1, 60), st.just(3))))
def test_any_picture_is_judged(image: npt.NDArray[np.uint8]) -> None:
    quality = assess(image, image, ())
    assert quality.accepted == (not quality.reasons)
    assert quality.focus is None or quality.focus >= 0
    assert ("no-texture" in quality.reasons) == (quality.focus is None)
    for share in (quality.exposure, quality.clipped_dark, quality.clipped_bright, quality.illumination_falloff):
        assert share is not None
        assert 0 <= share <= 1


figures = st.builds(
    Quality,
    accepted=st.just(True),
    focus=st.none() | st.floats(0.3, 3),
    exposure=st.none() | st.floats(0.1, 1),
    clipped_bright=st.none() | st.floats(0, 0.7),
    illumination_falloff=st.none() | st.floats(0, 0.9),
    background=st.none() | st.tuples(*[st.floats(20, 255)] * 3),
    stain=st.none() | st.floats(0.02, 1),
)


@given(figures)
def test_a_field_passes_against_itself(quality: Quality) -> None:
    assert judge(quality, reference_from([quality])).accepted


@given(figures, figures)
def test_judging_twice_changes_nothing_more(quality: Quality, other: Quality) -> None:
    reference = reference_from([other])
    once = judge(quality, reference)
    assert judge(once, reference) == once


@given(figures)
def test_an_unknown_reference_refuses_nothing_but_clipping(quality: Quality) -> None:
    assert set(judge(quality, QualityReference()).reasons) <= {"clipped"}


def test_a_picture_without_edges_has_no_bend() -> None:
    assert edge_convexity(cv2.blur(np.full((80, 80), 90, np.uint8), (3, 3)).astype(np.uint8), 20) is None

"""What holds for every picture: shapes, ranges, and that cutting and scaling commute."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.core.types import Box, Image, LocatedCell
from edge.imaging import flatfield
from edge.imaging.crop import cut
from edge.imaging.locate import locate, single_cell
from edge.imaging.preprocess import Preprocessing, to_input


@st.composite
def pictures(draw: st.DrawFn) -> Image:
    """Noise of any level and contrast, from 16 to 200 pixels a side."""
    height, width = draw(st.integers(16, 200)), draw(st.integers(16, 200))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    noise = generator.normal(draw(st.integers(0, 255)), draw(st.integers(0, 90)), (height, width, 3))
    return np.clip(noise, 0, 255).astype(np.uint8)


@settings(max_examples=60, deadline=None)
@given(pictures())
def test_correction_keeps_shape_and_type(image: Image) -> None:
    for corrected in (flatfield.correct(image), flatfield.white_balance(image)):
        assert corrected.shape == image.shape
        assert corrected.dtype == np.uint8


@settings(max_examples=60, deadline=None)
@given(pictures())
def test_located_cells_lie_in_the_picture(image: Image) -> None:
    height, width = image.shape[:2]
    for cell in (*locate(image), single_cell(image)):
        assert 0 <= cell.box.x < cell.box.x + cell.box.width <= width
        assert 0 <= cell.box.y < cell.box.y + cell.box.height <= height
        assert 0 <= cell.centre[0] <= width
        assert 0 <= cell.centre[1] <= height
        assert cell.diameter > 0


@settings(max_examples=60, deadline=None)
@given(
    pictures(),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(1, 300),
    st.integers(8, 128),
    st.floats(0.5, 4),
)
def test_a_crop_always_has_the_size_asked_for(
    image: Image, x: float, y: float, diameter: float, size: int, margin: float
) -> None:
    height, width = image.shape[:2]
    cell = LocatedCell(Box(0, 0, width, height), (x * width, y * height), diameter)
    crop = cut(image, cell, size, margin)
    assert crop.shape == (size, size, 3)
    assert crop.dtype == np.uint8
    # Interpolation invents no value; outside the picture is blank slide.
    assert min(image.min(), flatfield.BLANK) <= crop.min() <= crop.max() <= max(image.max(), flatfield.BLANK)


@settings(max_examples=30, deadline=None)
@given(st.integers(20, 60), st.integers(2, 4), st.integers(0, 2**32 - 1))
def test_a_cell_looks_the_same_at_a_whole_multiple_of_the_magnification(diameter: int, zoom: int, seed: int) -> None:
    small = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8).repeat(40, 0).repeat(40, 1)
    large = small.repeat(zoom, 0).repeat(zoom, 1)
    box = Box(0, 0, 1, 1)
    first = cut(small, LocatedCell(box, (180.0, 180.0), 2.0 * diameter), 32, 2.0)
    second = cut(large, LocatedCell(box, (180.0 * zoom, 180.0 * zoom), 2.0 * diameter * zoom), 32, 2.0)
    assert np.abs(first.astype(int) - second).mean() < 8


@given(st.sampled_from(["RGB", "BGR"]), st.floats(1e-3, 1), st.floats(-2, 2), st.integers(0, 2**32 - 1))
def test_preprocessing_is_scale_and_offset_in_the_stated_order(order, scale: float, offset: float, seed: int) -> None:
    crop = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    values = to_input(crop, Preprocessing(12, 2.0, order, "area", scale, offset))
    expected = (crop[..., ::-1] if order == "RGB" else crop).astype(np.float64) * scale + offset
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-5)

"""White balance of single-cell pictures, above all of those that a cropping program padded with black."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.imaging.flatfield import BLANK, padding, white_balance


def cell(side: int = 120) -> np.ndarray:
    image = np.full((side, side, 3), (200, 190, 210), dtype=np.uint8)
    cv2.circle(image, (side // 2, side // 2), side // 4, (120, 40, 90), -1)
    return image


@given(st.tuples(*[st.integers(0, 40)] * 4))
def test_black_bars_become_blank_slide_and_the_picture_keeps_its_place(bars: tuple[int, int, int, int]) -> None:
    top, bottom, left, right = bars
    padded = cv2.copyMakeBorder(cell(), top, bottom, left, right, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    found = padding(padded)
    assert all(bar <= measured <= bar + 1 for bar, measured in zip(bars, found, strict=True))
    corrected = white_balance(padded)
    assert corrected.shape == padded.shape
    assert np.all(corrected[:top] == BLANK)
    assert np.all(corrected[:, :left] == BLANK)
    plain = white_balance(cell())
    np.testing.assert_allclose(
        corrected[top + 2 : top + 118, left + 2 : left + 118].astype(int), plain[2:118, 2:118].astype(int), atol=2
    )


def test_bars_of_a_compressed_picture_leave_no_dark_line() -> None:
    padded = cv2.copyMakeBorder(cell(), 0, 30, 0, 0, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    _, encoded = cv2.imencode(".jpg", padded, [cv2.IMWRITE_JPEG_QUALITY, 70])
    corrected = white_balance(cv2.imdecode(encoded, cv2.IMREAD_COLOR))
    assert corrected[118:].min() > 150


@pytest.mark.parametrize("image", [cell(), np.zeros((40, 40, 3), np.uint8), np.full((1, 1, 3), 9, np.uint8)])
def test_a_picture_without_bars_has_none(image: np.ndarray) -> None:
    assert padding(image) == (0, 0, 0, 0)
    assert white_balance(image).shape == image.shape


def test_a_dark_nucleus_at_the_border_is_no_bar() -> None:
    image = cell()
    cv2.circle(image, (60, 0), 40, (90, 10, 60), -1)
    assert padding(image) == (0, 0, 0, 0)

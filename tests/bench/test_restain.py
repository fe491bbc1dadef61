"""The stain of one site carried to another, as the benchmark of commissioning tries it."""

from __future__ import annotations

import numpy as np
import pytest
from restain import Restainer, transport
from scipy import linalg

from edge.core.types import Image
from training.adaptation import statistics
from training.data import rendered
from training.data.augment import generator_for


def spread(seed: int, scale: float) -> np.ndarray:
    values = np.random.default_rng(seed).normal(0, scale, (200, 3))
    return np.asarray(values.T @ values / 200 + 0.01 * np.eye(3))


def test_the_transport_carries_one_stain_to_the_other_and_is_the_published_one() -> None:
    source, target = spread(0, 1.0), spread(1, 0.3)
    found = transport(source, target)
    np.testing.assert_allclose(found @ source @ found.T, target, rtol=1e-6)
    np.testing.assert_allclose(found, found.T, rtol=1e-6)
    root = linalg.sqrtm(source)
    inverse = linalg.inv(root)
    np.testing.assert_allclose(found, inverse @ linalg.sqrtm(root @ target @ root) @ inverse, rtol=1e-6, atol=1e-9)


def drawn(count: int = 4) -> Image:
    images, _ = rendered.pictures(count, 5)
    return rendered.crops(images, 72, 3.0)


def test_a_restained_cell_has_the_strength_of_the_site_and_the_slide_stays_blank() -> None:
    crops = drawn()
    source = statistics.stain_of(crops)
    assert source is not None
    pale = statistics.Stain(source.moment, tuple(0.25 * value for value in source.strengths))
    shown = np.stack([Restainer(source, pale)(crop, generator_for(1, i)) for i, crop in enumerate(crops)])
    found = statistics.stain_of(shown)
    assert found is not None
    assert np.median(found.strengths) == pytest.approx(np.median(pale.strengths), rel=0.35)
    blank = np.full((72, 72, 3), 230, np.uint8)
    assert abs(Restainer(source, pale)(blank, generator_for(1)).astype(int) - 230).max() <= 2

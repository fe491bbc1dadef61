"""A doubtful cell is seen from all sides; a certain one is not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core.types import Outputs
from edge.inference.second_look import VIEWS, look_again, looks, turn, turn_back


class Pooling:
    """A network whose class-activation maps are products of the picture and fixed patterns; logits are their means."""

    def __init__(self, side: int = 4) -> None:
        self._patterns = np.random.default_rng(7).normal(size=(side, side, 6)).astype(np.float32)
        self.seen = 0

    def run(self, batch: np.ndarray) -> Outputs:
        self.seen += len(batch)
        maps = batch.mean(axis=3)[..., None] * self._patterns
        return Outputs(maps.mean(axis=(1, 2)), maps)


def pictures(count: int, seed: int, scale: float = 1.0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).normal(size=(count, 4, 4, 3))).astype(np.float32)


@pytest.mark.parametrize("view", range(VIEWS))
def test_each_view_is_undone(view: int) -> None:
    picture = np.arange(5 * 5 * 2).reshape(5, 5, 2)
    np.testing.assert_array_equal(turn_back(turn(picture, view), view), picture)


def test_the_views_are_the_eight_symmetries() -> None:
    picture = np.arange(9).reshape(3, 3)
    seen = {turn(picture, view).tobytes() for view in range(VIEWS)}
    assert len(seen) == VIEWS
    np.testing.assert_array_equal(turn(picture, 0), picture)
    # By hand: a symmetry keeps the middle, and moves corners to corners.
    for view in range(VIEWS):
        turned = turn(picture, view)
        assert turned[1, 1] == 4
        assert {turned[0, 0], turned[0, 2], turned[2, 0], turned[2, 2]} == {0, 2, 6, 8}


@given(st.integers(0, 1000))
def test_a_cell_that_is_always_looked_at_again_has_no_upper_side(seed: int) -> None:
    network, cell = Pooling(), pictures(1, seed)
    answers = []
    for view in range(VIEWS):
        turned = np.stack([turn(cell[0], view)])
        answers.append(look_again(turned, network.run(turned), network.run, 1.0))
    for view, answer in enumerate(answers):
        np.testing.assert_allclose(answer.logits, answers[0].logits, atol=1e-5)
        assert answer.features is not None
        assert answers[0].features is not None
        np.testing.assert_allclose(turn_back(answer.features[0], view), answers[0].features[0], atol=1e-5)


@given(st.integers(0, 1000))
def test_maps_still_pool_into_the_logits(seed: int) -> None:
    network, cells = Pooling(), pictures(3, seed)
    answer = look_again(cells, network.run(cells), network.run, 1.0)
    assert answer.features is not None
    np.testing.assert_allclose(answer.features.mean(axis=(1, 2)), answer.logits, atol=1e-5)


def test_only_doubtful_cells_cost_more() -> None:
    network = Pooling()
    cells = np.concatenate([pictures(1, 1, scale=1e-3), pictures(1, 2, scale=1e3)])
    first = network.run(cells)
    network.seen = 0
    answer = look_again(cells, first, network.run, 0.8)
    assert network.seen == VIEWS - 1
    np.testing.assert_array_equal(answer.logits[1], first.logits[1])
    assert np.abs(answer.logits[0] - first.logits[0]).max() > 0


def test_zero_never_looks_again() -> None:
    network, cells = Pooling(), pictures(2, 3)
    first = network.run(cells)
    network.seen = 0
    assert look_again(cells, first, network.run, 0.0) is first
    assert network.seen == 0


def test_a_network_without_maps_is_looked_at_again_too() -> None:
    network, cells = Pooling(), pictures(1, 4)

    def run(batch: np.ndarray) -> Outputs:
        return Outputs(network.run(batch).logits)

    answer = look_again(cells, run(cells), run, 1.0)
    assert answer.features is None
    turned = network.run(np.stack([turn(cells[0], view) for view in range(VIEWS)]))
    np.testing.assert_allclose(answer.logits[0], turned.logits.mean(axis=0), atol=1e-5)


# Wider, too.

WIDTHS = (1.2, 1.5)


def wider_of(cells: np.ndarray) -> Callable[[int, float], np.ndarray]:
    """Another picture for each cell and width, which a test can make again."""

    def wider(cell: int, width: float) -> np.ndarray:
        return (cells[cell] * width).astype(np.float32)

    return wider


def test_with_widths_a_cell_is_seen_from_two_sides_at_each() -> None:
    assert looks() == tuple((view, 1.0) for view in range(8))
    assert looks((1.2,)) == ((0, 1.0), (7, 1.0), (0, 1.2), (7, 1.2))


@given(st.integers(0, 1000))
def test_a_wider_look_is_the_mean_of_all_looks(seed: int) -> None:
    network, cells = Pooling(), pictures(2, seed)
    answer = look_again(cells, network.run(cells), network.run, 1.0, WIDTHS, wider_of(cells))
    for cell in range(2):
        seen = [turn(cells[cell] * width, view) for width in (1.0, *WIDTHS) for view in (0, 7)]
        np.testing.assert_allclose(answer.logits[cell], network.run(np.stack(seen)).logits.mean(axis=0), atol=1e-5)


@given(st.integers(0, 1000))
def test_maps_are_those_of_the_crop_s_own_width_and_pool_into_the_logits(seed: int) -> None:
    network, cells = Pooling(), pictures(2, seed)
    answer = look_again(cells, network.run(cells), network.run, 1.0, WIDTHS, wider_of(cells))
    own = network.run(np.stack([turn(cells[0], view) for view in (0, 7)])).features
    assert answer.features is not None
    assert own is not None
    expected = (own[0] + turn_back(own[1], 7)) / 2
    moved = answer.features[0] - expected
    np.testing.assert_allclose(moved, np.broadcast_to(moved[0, 0], moved.shape), atol=1e-5)
    np.testing.assert_allclose(answer.features.mean(axis=(1, 2)), answer.logits, atol=1e-5)


def test_without_a_wider_crop_only_the_sides_are_seen() -> None:
    network, cells = Pooling(), pictures(1, 5)
    first = network.run(cells)
    np.testing.assert_array_equal(
        look_again(cells, first, network.run, 1.0, WIDTHS).logits, look_again(cells, first, network.run, 1.0).logits
    )


def test_many_doubtful_cells_are_each_answered_for_themselves() -> None:
    network, cells = Pooling(), pictures(9, 6)
    together = look_again(cells, network.run(cells), network.run, 1.0, WIDTHS, wider_of(cells))
    for cell in range(9):
        alone = cells[cell : cell + 1]
        answer = look_again(alone, network.run(alone), network.run, 1.0, WIDTHS, wider_of(alone))
        np.testing.assert_allclose(answer.logits[0], together.logits[cell], atol=1e-6)
        assert answer.features is not None
        assert together.features is not None
        np.testing.assert_allclose(answer.features[0], together.features[cell], atol=1e-6)

"""Rounding by what a layer answers, held against plain rounding; and channels brought to one width."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantization import rounding
from quantization.description import Node
from quantization.equalise import factors, groups

seeds = st.integers(0, 2**31)


def error(real: np.ndarray, wanted: np.ndarray, weights: np.ndarray) -> float:
    """Power of what is left once a bias has taken the mean."""
    left = wanted - real @ weights.T
    return float(((left - left.mean(axis=0)) ** 2).mean())


@settings(deadline=None, max_examples=40)
@given(seeds, st.integers(2, 12), st.integers(1, 5))
def test_a_layer_answers_no_worse_than_with_each_weight_at_its_nearest(seed: int, inputs: int, outputs: int) -> None:
    generator = np.random.default_rng(seed)
    # Inputs that go together, as the channels of a map do: there one weight can make up for another.
    real = generator.normal(size=(400, inputs)) @ generator.normal(size=(inputs, inputs)) + generator.normal(
        size=inputs
    )
    kernel, bias = generator.normal(size=(outputs, inputs)), generator.normal(size=outputs)
    scales = np.abs(kernel).max(axis=1) / 7
    wanted = real @ kernel.T + bias
    counts = rounding.rounded(real, wanted, kernel, bias, scales)
    assert np.array_equal(counts, np.rint(counts)) and np.abs(counts).max() <= 127
    nearest = np.rint(kernel / scales[:, None]) * scales[:, None]
    # A greedy rounding may lose a little where there is nothing to win.
    assert error(real, wanted, counts * scales[:, None]) <= 1.6 * error(real, wanted, nearest) + 1e-12


def test_where_channels_go_together_rounding_anew_is_far_better() -> None:
    generator = np.random.default_rng(0)
    real = generator.normal(size=(600, 3)) @ generator.normal(size=(3, 24)) + 0.05 * generator.normal(size=(600, 24))
    kernel, bias = generator.normal(size=(8, 24)), np.zeros(8)
    scales = np.abs(kernel).max(axis=1) / 7
    counts = rounding.rounded(real, real @ kernel.T, kernel, bias, scales)
    nearest = np.rint(kernel / scales[:, None]) * scales[:, None]
    assert error(real, real @ kernel.T, counts * scales[:, None]) < 0.3 * error(real, real @ kernel.T, nearest)


def test_what_a_layer_gets_wrong_is_made_up_for() -> None:
    """The layers before hand over a little less than in floating point: the weights learn it."""
    generator = np.random.default_rng(1)
    given_before = generator.normal(size=(500, 4))
    real, kernel, bias = 0.9 * given_before, generator.normal(size=(3, 4)), np.zeros(3)
    scales = np.full(3, 0.001)
    scales *= np.abs(kernel).max() / 0.1
    wanted = given_before @ kernel.T
    counts = rounding.rounded(real, wanted, kernel, bias, scales)
    assert error(real, wanted, counts * scales[:, None]) < 0.05 * error(real, wanted, kernel)


def node(kind: str, name: str, *inputs: str) -> Node:
    return Node(kind, name, inputs, {})


def test_maps_that_meet_in_a_sum_are_one_group_and_bounded_ones_are_none() -> None:
    nodes = [
        node("InputLayer", "crop"),
        node("Conv2D", "one", "crop"),
        node("BatchNormalization", "one_bn", "one"),
        node("Conv2D", "wide", "one_bn"),
        node("BatchNormalization", "wide_bn", "wide"),
        node("ReLU", "wide_relu", "wide_bn"),
        node("Conv2D", "two", "wide_relu"),
        node("BatchNormalization", "two_bn", "two"),
        node("Add", "sum", "one_bn", "two_bn"),
        node("Conv2D", "last", "sum"),
        node("ReLU", "last_relu", "last"),
    ]
    (found,) = groups(nodes)
    assert found.writers == ("one_bn", "two_bn")
    assert found.maps == ("one_bn", "sum", "two_bn")
    assert found.readers == ("wide", "last")
    # A reader that is no convolution would see the change.
    assert not groups([*nodes, node("ReLU", "bounded", "sum")])


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=9))
def test_factors_bring_channels_to_one_width_and_leave_the_whole_as_it_was(width: list[float]) -> None:
    values = np.array(width)
    np.testing.assert_allclose(values / factors(values, 1.0), np.exp(np.log(values).mean()), rtol=1e-4)
    assert np.prod(factors(values, 0.5).astype(np.float64)) == pytest.approx(1, rel=1e-3)
    np.testing.assert_array_equal(factors(values, 0.0), 1)
    assert factors(np.array([0.0, *width]), 1.0)[0] == 1

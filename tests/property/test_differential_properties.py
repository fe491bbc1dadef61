"""The differential for any count, and its distribution functions against SciPy's."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import special, stats

from edge.core.differential import (
    OTHER_RATE_LIMIT,
    SCREENING_COUNT,
    assertion,
    beta_quantile,
    clopper_pearson,
    differential,
    regularised_incomplete_beta,
    rumke,
    wilson,
)
from edge.core.labels import LABELS, OTHER
from edge.core.types import Box, CellCall


@st.composite
def counts(draw: st.DrawFn, most: int = 100_000) -> tuple[int, int]:
    n = draw(st.integers(1, most))
    return draw(st.integers(0, n)), n


@settings(deadline=None)
@given(counts(1_000_000))
def test_clopper_pearson_is_scipys(count: tuple[int, int]) -> None:
    k, n = count
    expected = stats.binomtest(k, n).proportion_ci(method="exact")
    interval = clopper_pearson(k, n)
    assert interval.low == pytest.approx(expected.low, abs=1e-10)
    assert interval.high == pytest.approx(expected.high, abs=1e-10)


@settings(deadline=None)
@given(counts(1_000_000))
def test_wilson_is_scipys(count: tuple[int, int]) -> None:
    k, n = count
    expected = stats.binomtest(k, n).proportion_ci(method="wilson")
    interval = wilson(k, n)
    assert interval.low == pytest.approx(expected.low, abs=1e-12)
    assert interval.high == pytest.approx(expected.high, abs=1e-12)


@settings(deadline=None)
@given(st.floats(0.5, 1e5), st.floats(0.5, 1e5), st.floats(0, 1))
def test_incomplete_beta_is_scipys(a: float, b: float, x: float) -> None:
    assert regularised_incomplete_beta(a, b, x) == pytest.approx(special.betainc(a, b, x), abs=1e-9)


@settings(deadline=None)
@given(st.floats(1e-6, 1 - 1e-6), st.floats(0.5, 1e5), st.floats(0.5, 1e5))
def test_beta_quantile_is_scipys(probability: float, a: float, b: float) -> None:
    assert beta_quantile(probability, a, b) == pytest.approx(special.betaincinv(a, b, probability), abs=1e-9)


@settings(deadline=None)
@given(counts(10_000), st.floats(0.001, 0.999))
def test_assertion_follows_the_posterior(count: tuple[int, int], theta: float) -> None:
    k, n = count
    above = stats.beta.sf(theta, k + 0.5, n - k + 0.5)
    assume(min(abs(above - 0.9), abs(above - 0.1)) > 1e-9)
    expected = "above" if above > 0.9 else "below" if above < 0.1 else "indeterminate"
    assert assertion(k, n, theta) == expected


@settings(deadline=None)
@given(counts())
def test_intervals_hold_the_share_and_mirror(count: tuple[int, int]) -> None:
    k, n = count
    for function in (wilson, clopper_pearson):
        interval, mirrored = function(k, n), function(n - k, n)
        assert 0 <= interval.low <= k / n <= interval.high <= 1
        assert interval.low < interval.high
        assert interval.low == pytest.approx(1 - mirrored.high, abs=1e-12)


@settings(deadline=None)
@given(counts(5_000))
def test_clopper_pearson_covers_as_defined(count: tuple[int, int]) -> None:
    k, n = count
    interval = clopper_pearson(k, n)
    if k > 0:
        assert stats.binom.sf(k - 1, n, interval.low) == pytest.approx(0.025, rel=1e-6)
    if k < n:
        assert stats.binom.cdf(k, n, interval.high) == pytest.approx(0.025, rel=1e-6)


@settings(deadline=None)
@given(counts())
def test_rumke_rounds_outwards(count: tuple[int, int]) -> None:
    low, high = rumke(*count)
    interval = clopper_pearson(*count)
    assert low <= interval.low * 100 < low + 1
    assert high - 1 < interval.high * 100 <= high
    assert 0 <= low < high <= 100


@st.composite
def calls(draw: st.DrawFn) -> list[CellCall]:
    made = []
    for label in (*LABELS, OTHER):
        few_or_many = st.one_of(st.integers(0, 6), st.integers(0, 250))
        for abstained, most in ((False, few_or_many), (True, st.integers(0, 6))):
            made += [CellCall(label, (0.2,) * 5, abstained, None, Box(0, 0, 1, 1))] * draw(most)
    return draw(st.permutations(made)) if len(made) < 20 else made


@settings(deadline=None)
@given(calls())
def test_every_cell_is_counted_once_and_percentages_are_honest(cells: list[CellCall]) -> None:
    result = differential(cells)
    assert result.counted == sum(share.count for share in result.classes.values())
    assert result.counted + result.other == len(cells)
    assert result.other >= sum(cell.abstained for cell in cells)
    may_be_shown = result.counted >= SCREENING_COUNT and result.other <= OTHER_RATE_LIMIT * len(cells)
    percents = [share.percent for share in result.classes.values()]
    if may_be_shown:
        assert math.fsum(percent for percent in percents if percent is not None) == pytest.approx(100)
        assert not {"low-count", "other-rate-high"} & set(result.flags)
    else:
        assert percents == [None] * len(LABELS)
        assert {"low-count", "other-rate-high"} & set(result.flags)


@settings(deadline=None)
@given(calls())
def test_the_order_of_cells_does_not_matter(cells: list[CellCall]) -> None:
    assert differential(cells) == differential(reversed(cells))

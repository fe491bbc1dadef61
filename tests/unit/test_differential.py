"""The differential against published tables and exact values."""

from __future__ import annotations

import pytest

from edge.core.differential import (
    OTHER_RATE_LIMIT,
    assertion,
    clopper_pearson,
    differential,
    rumke,
    tier,
    wilson,
)
from edge.core.errors import UsageError
from edge.core.labels import LABELS, OTHER
from edge.core.types import Box, CellCall, Differential


def cells(label: str, count: int, abstained: bool = False) -> list[CellCall]:
    reason = "low-confidence" if abstained else None
    return [CellCall(label, (0.2,) * 5, abstained, reason, Box(0, 0, 9, 9))] * count


def smear(**counts: int) -> list[CellCall]:
    return [call for label, count in counts.items() for call in cells(label, count)]


# Rümke's table (95 %): observed percent -> limits at n = 100, 200, 500, in whole percent.
RUMKE = {
    0: [(0, 4), (0, 2), (0, 1)],
    1: [(0, 6), (0, 4), (0, 3)],
    2: [(0, 8), (0, 6), (0, 4)],
    3: [(0, 9)],
    4: [(1, 10)],
    5: [(1, 12), (2, 10), (3, 8)],
    6: [(2, 13)],
    7: [(2, 14)],
    8: [(3, 16)],
    9: [(4, 17)],
    10: [(4, 18), (6, 16), (7, 13)],
    15: [(8, 24), (10, 21), (11, 19)],
    20: [(12, 30), (14, 27), (16, 24)],
    25: [(16, 35), (19, 32), (21, 30)],
    30: [(21, 40), (23, 37), (26, 35)],
    40: [(30, 51), (33, 48), (35, 45)],
    50: [(39, 61), (42, 58), (45, 55)],
}


@pytest.mark.parametrize(
    ("percent", "n", "limits"),
    [(percent, n, limits) for percent, row in RUMKE.items() for n, limits in zip((100, 200, 500), row, strict=False)],
)
def test_rumke_table(percent: int, n: int, limits: tuple[int, int]) -> None:
    assert rumke(percent * n // 100, n) == limits


@pytest.mark.parametrize(
    ("k", "n", "low", "high", "digits"),
    [
        (10, 100, 4.900, 17.622, 3),
        (2, 200, 0.121, 3.565, 3),
        (40, 200, 14.689, 26.223, 3),
        (60, 100, 49.72, 69.67, 2),
        (5, 100, 1.64, 11.28, 2),
        (120, 200, 52.85, 66.85, 2),
    ],
)
def test_clopper_pearson_vectors(k: int, n: int, low: float, high: float, digits: int) -> None:
    interval = clopper_pearson(k, n)
    assert (round(interval.low * 100, digits), round(interval.high * 100, digits)) == (low, high)


@pytest.mark.parametrize(
    ("k", "n", "low", "high", "digits"),
    [
        (2, 200, 0.275, 3.572, 3),
        (0, 200, 0, 1.885, 3),
        (40, 200, 15.045, 26.086, 3),
        (100, 500, 16.729, 23.729, 3),
        (11, 216, 2.87, 8.89, 2),
    ],
)
def test_wilson_vectors(k: int, n: int, low: float, high: float, digits: int) -> None:
    interval = wilson(k, n)
    assert (round(interval.low * 100, digits), round(interval.high * 100, digits)) == (low, high)


@pytest.mark.parametrize(("percent", "half_width", "n"), [(60, 5, 366), (30, 5, 320), (5, 2, 469), (1, 1, 454)])
def test_wilson_half_width_of_the_published_cell_numbers(percent: int, half_width: int, n: int) -> None:
    interval = wilson(round(n * percent / 100), n)
    assert (interval.high - interval.low) * 50 == pytest.approx(half_width, rel=0.05)


# Least k at which the share is asserted to be above theta, for n = 50, 100, 200, 400, 500.
LEAST = {
    0.02: (3, 4, 7, 12, 15),
    0.05: (5, 8, 15, 26, 32),
    0.10: (8, 14, 26, 48, 59),
    0.20: (14, 26, 48, 91, 112),
    0.50: (30, 57, 110, 213, 265),
}


@pytest.mark.parametrize(
    ("theta", "n", "least"),
    [(theta, n, least) for theta, row in LEAST.items() for n, least in zip((50, 100, 200, 400, 500), row, strict=True)],
)
def test_least_count_that_asserts_a_threshold(theta: float, n: int, least: int) -> None:
    assert assertion(least, n, theta) == "above"
    assert assertion(least - 1, n, theta) != "above"
    # The same by symmetry: as many cells that are not of the class deny the complementary threshold.
    assert assertion(n - least, n, 1 - theta) == "below"


def test_nothing_counted_asserts_nothing() -> None:
    assert {assertion(0, 0, theta) for theta in (0.001, 0.02, 0.5, 0.98, 0.999)} == {"indeterminate"}
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0, 1)
    assert (clopper_pearson(0, 0).low, clopper_pearson(0, 0).high) == (0, 1)
    assert rumke(0, 0) == (0, 100)


@pytest.mark.parametrize(
    ("n", "name"),
    [
        (0, "insufficient"),
        (99, "insufficient"),
        (100, "screening"),
        (199, "screening"),
        (200, "differential"),
        (399, "differential"),
        (400, "reference"),
        (10_000, "reference"),
    ],
)
def test_tiers(n: int, name: str) -> None:
    assert tier(n) == name


@pytest.mark.parametrize(("k", "n"), [(-1, 10), (11, 10), (1, 0), (0, -1)])
def test_what_is_not_a_count_is_refused(k: int, n: int) -> None:
    for function in (wilson, clopper_pearson, rumke):
        with pytest.raises(ValueError, match="not a count"):
            function(k, n)
    with pytest.raises(ValueError, match="not a count"):
        assertion(k, n, 0.1)


@pytest.mark.parametrize("theta", [0, 1, -0.1, 1.1, 5, float("nan")])
def test_a_threshold_in_percent_or_outside_is_refused(theta: float) -> None:
    with pytest.raises(ValueError, match="theta"):
        assertion(1, 10, theta)


def withheld(result: Differential) -> bool:
    shares = result.classes.values()
    nothing = [share.percent is None and share.wilson is None and share.clopper_pearson is None for share in shares]
    assert all(nothing) or not any(nothing)
    return all(nothing)


def test_a_differential_of_two_hundred_cells() -> None:
    calls = smear(neutrophil=120, lymphocyte=60, monocyte=14, eosinophil=4, basophil=2)
    result = differential(calls)
    assert (result.counted, result.other, result.tier, result.flags) == (200, 0, "differential", ())
    assert tuple(result.classes) == LABELS
    assert [share.count for share in result.classes.values()] == [120, 60, 14, 4, 2]
    assert [share.percent for share in result.classes.values()] == [60, 30, 7, 2, 1]
    basophil = result.classes["basophil"]
    assert basophil.wilson is not None
    assert basophil.clopper_pearson is not None
    assert round(basophil.wilson.high, 5) == 0.03572
    assert round(basophil.clopper_pearson.low, 5) == 0.00121


def test_no_percentage_below_a_hundred_cells() -> None:
    result = differential(smear(neutrophil=60, lymphocyte=39))
    assert (result.counted, result.tier, result.flags) == (99, "insufficient", ("low-count",))
    assert withheld(result)
    assert result.classes["neutrophil"].count == 60
    assert not withheld(differential(smear(neutrophil=61, lymphocyte=39)))


def test_abstained_cells_and_others_stand_apart() -> None:
    calls = smear(neutrophil=197) + cells("basophil", 2, abstained=True) + cells(OTHER, 1)
    result = differential(calls)
    assert (result.counted, result.other, result.classes["basophil"].count) == (197, 3, 0)
    assert result.classes["neutrophil"].percent == 100


def test_abstained_cells_do_not_lift_a_count_into_a_tier() -> None:
    result = differential(smear(neutrophil=99) + cells("neutrophil", 1, abstained=True))
    assert (result.counted, result.tier) == (99, "insufficient")


def test_percentages_are_withheld_above_five_percent_other() -> None:
    assert OTHER_RATE_LIMIT == 0.05
    at_limit = differential(smear(neutrophil=380, other=20))
    assert at_limit.flags == ()
    assert at_limit.classes["neutrophil"].percent == 100
    above = differential(smear(neutrophil=379, other=20))
    assert above.flags == ("other-rate-high",)
    assert withheld(above)
    assert (above.counted, above.other, above.classes["neutrophil"].count) == (379, 20, 379)


def test_an_empty_slide_says_so() -> None:
    result = differential([])
    assert (result.counted, result.other, result.flags) == (0, 0, ("no-cells", "low-count"))
    assert withheld(result)
    assert differential(cells(OTHER, 3)).flags == ("low-count", "other-rate-high")


def test_an_interval_that_holds_a_limit_is_flagged() -> None:
    ranges = {"neutrophil": (45.0, 79.0), "eosinophil": (0.0, 6.0), "basophil": (0.0, 2.0)}
    calls = smear(neutrophil=120, lymphocyte=60, monocyte=14, eosinophil=4, basophil=2)
    # Eosinophils 2 % (Wilson .78-5.03) lie clear of 6 %, basophils 1 % (.28-3.57) do not lie clear of 2 %.
    assert differential(calls, ranges).flags == ("interval-crosses-limit:basophil",)
    assert differential(calls, {"monocyte": (0.0, 100.0)}).flags == ()
    # 120 neutrophils of 150 (Wilson 72.9-85.6) do not lie clear of 79 %; an upper limit of 0 of 150 lies above 2 %.
    assert differential(calls[:150], ranges).flags == (
        "interval-crosses-limit:neutrophil",
        "interval-crosses-limit:basophil",
    )


def test_withheld_percentages_are_not_compared_with_ranges() -> None:
    flags = differential(smear(neutrophil=50, lymphocyte=40), {"neutrophil": (45.0, 79.0)}).flags
    assert flags == ("low-count",)


@pytest.mark.parametrize(
    "ranges",
    [
        {"neutrofil": (45.0, 79.0)},
        {OTHER: (0.0, 5.0)},
        {"neutrophil": (79.0, 45.0)},
        {"neutrophil": (-1.0, 45.0)},
        {"neutrophil": (45.0, 101.0)},
        {"neutrophil": (float("nan"), 45.0)},
    ],
)
def test_a_range_that_is_none_is_refused_with_a_cure(ranges: dict[str, tuple[float, float]]) -> None:
    with pytest.raises(UsageError) as caught:
        differential([], ranges)
    assert caught.value.code == "reference-range"
    assert caught.value.cure


def test_an_unknown_label_is_never_counted() -> None:
    with pytest.raises(ValueError, match="blast"):
        differential(cells("blast", 1))

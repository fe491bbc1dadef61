"""The differential count: how many cells of each class, and how sure a count of that size can be.

Percentages are shares of the counted cells, with 95 % binomial intervals. The intervals describe chance in which cells
were met, nothing else: not the classifier's errors, and not that cells of one field resemble each other. They are
therefore a lower bound on the uncertainty.

Blasts, immature granulocytes and other cells outside the five classes are not assessed: a classifier of five classes
cannot exclude them, so no flag here ever says that they are absent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from statistics import NormalDist
from typing import Final, Literal

from edge.core.errors import UsageError
from edge.core.labels import LABELS, OTHER
from edge.core.types import CellCall, ClassShare, Differential, Interval

CONFIDENCE: Final = 0.95
"""Two-sided coverage of every interval here."""

SCREENING_COUNT: Final = 100
"""Cells below which no percentage is claimed."""

DIFFERENTIAL_COUNT: Final = 200
"""Cells of a differential by one examiner (CLSI H20-A2: two examiners count 200 each)."""

REFERENCE_COUNT: Final = 400
"""Cells of a reference differential (CLSI H20-A2: 2 x 200)."""

OTHER_RATE_LIMIT: Final = 0.05
"""Share of `other` among all located cells above which percentages are withheld.

A proposal, not a published limit: beyond it the shares of the rest no longer describe the sample.
"""

ASSERTION_PROBABILITY: Final = 0.9
"""Posterior probability from which `assertion` says "above", and 1 - which "below"."""

_ALPHA: Final = 1.0 - CONFIDENCE
_Z: Final = NormalDist().inv_cdf(1.0 - _ALPHA / 2.0)

Tier = Literal["insufficient", "screening", "differential", "reference"]
Statement = Literal["above", "below", "indeterminate"]


def differential(calls: Iterable[CellCall], ranges: Mapping[str, tuple[float, float]] | None = None) -> Differential:
    """Count classified cells, and say what the count is worth.

    Abstained cells and cells labelled `other` are held under `other`, outside the 100 %. `ranges` are a site's
    reference ranges, (low, high) in percent per class; classes without one are not compared.

    Percentages and intervals are None when fewer than `SCREENING_COUNT` cells were counted, or when more than
    `OTHER_RATE_LIMIT` of all located cells are `other`; the counts always stay.

    Flags:
        no-cells                        nothing was located
        low-count                       fewer than `SCREENING_COUNT` counted: no percentages
        other-rate-high                 too many cells are `other`: percentages withheld
        interval-crosses-limit:<class>  a limit of the reference range lies inside an interval: count more cells
                                        (not evaluated while percentages are withheld)

    Raises `UsageError` for a reference range that is not one, `ValueError` for a label that is neither one of the five
    nor `other`.
    """
    limits = _checked(ranges or {})
    counts = dict.fromkeys(LABELS, 0)
    other = 0
    for call in calls:
        if call.label not in counts and call.label != OTHER:
            raise ValueError(f"unknown cell label {call.label!r}")
        if call.abstained or call.label == OTHER:
            other += 1
        else:
            counts[call.label] += 1
    counted = sum(counts.values())
    located = counted + other
    low_count = counted < SCREENING_COUNT
    other_high = located > 0 and other / located > OTHER_RATE_LIMIT

    shares = {label: _share(count, counted, low_count or other_high) for label, count in counts.items()}
    flags = [
        name
        for name, raised in (("no-cells", located == 0), ("low-count", low_count), ("other-rate-high", other_high))
        if raised
    ]
    flags += [
        f"interval-crosses-limit:{label}"
        for label, share in shares.items()
        if label in limits and _crosses(share, limits[label])
    ]
    return Differential(counted=counted, tier=tier(counted), classes=shares, other=other, flags=tuple(flags))


def tier(n: int) -> Tier:
    """Say what `n` counted cells are good for."""
    _check_count(0, n)
    if n < SCREENING_COUNT:
        return "insufficient"
    if n < DIFFERENTIAL_COUNT:
        return "screening"
    if n < REFERENCE_COUNT:
        return "differential"
    return "reference"


def wilson(k: int, n: int) -> Interval:
    """Give the 95 % Wilson score interval of `k` in `n`, as fractions (E. B. Wilson, JASA 22:209-212, 1927).

    Nothing counted (`n` = 0) gives 0..1. Raises `ValueError` unless 0 <= k <= n.
    """
    _check_count(k, n)
    if n == 0:
        return Interval(0.0, 1.0)
    share = k / n
    square = _Z * _Z
    centre = share + square / (2 * n)
    half = _Z * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    scale = 1 + square / n
    low = 0.0 if k == 0 else max(0.0, (centre - half) / scale)
    high = 1.0 if k == n else min(1.0, (centre + half) / scale)
    return Interval(low, high)


def clopper_pearson(k: int, n: int) -> Interval:
    """Give the exact 95 % interval of `k` in `n`, as fractions (Clopper & Pearson, Biometrika 26:404-413, 1934).

    Nothing counted (`n` = 0) gives 0..1. Raises `ValueError` unless 0 <= k <= n.
    """
    _check_count(k, n)
    low = 0.0 if k == 0 else beta_quantile(_ALPHA / 2, k, n - k + 1)
    # The upper limit by symmetry: the lower limit of the cells that are not of the class keeps precision near 1.
    high = 1.0 if k == n else 1.0 - beta_quantile(_ALPHA / 2, n - k, k + 1)
    return Interval(low, high)


def rumke(k: int, n: int) -> tuple[int, int]:
    """Give the exact 95 % limits of `k` in `n` in whole percent, rounded outwards as in Rümke's table.

    Raises `ValueError` unless 0 <= k <= n.
    """
    interval = clopper_pearson(k, n)
    return math.floor(interval.low * 100), math.ceil(interval.high * 100)


def assertion(k: int, n: int, theta: float) -> Statement:
    """Whether `k` of `n` cells show that the true share lies above the fraction `theta`.

    By the posterior under Jeffreys' prior, Beta(k + 1/2, n - k + 1/2): "above" when P(share >= theta) is at least
    `ASSERTION_PROBABILITY`, "below" when at most its complement, else "indeterminate": count more cells. Nothing
    counted is always indeterminate, since the prior alone must not assert anything.

    Raises `ValueError` unless 0 <= k <= n and 0 < theta < 1.
    """
    _check_count(k, n)
    if not 0 < theta < 1:
        raise ValueError(f"theta must be a fraction between 0 and 1, not {theta!r}")
    if n == 0:
        return "indeterminate"
    # P(share >= theta) taken from the other tail, so that it is not the rounded complement of a small number.
    above = regularised_incomplete_beta(n - k + 0.5, k + 0.5, 1 - theta)
    if above >= ASSERTION_PROBABILITY:
        return "above"
    if above <= 1 - ASSERTION_PROBABILITY:
        return "below"
    return "indeterminate"


def regularised_incomplete_beta(a: float, b: float, x: float) -> float:
    """I_x(a, b), the distribution function of Beta(a, b) at `x` in 0..1, for a, b > 0.

    Continued fraction 8.17.22 of the NIST Digital Library of Mathematical Functions, by Lentz's method.
    Raises `ValueError` outside the domain.
    """
    if not (a > 0 and b > 0 and math.isfinite(a) and math.isfinite(b) and 0 <= x <= 1):
        raise ValueError(f"I_x(a, b) is not defined for a={a!r}, b={b!r}, x={x!r}")
    if x in {0, 1}:
        return float(x)
    # The fraction converges fast only below the mean; above it, I_x(a, b) = 1 - I_(1-x)(b, a).
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _beta_tail(b, a, 1 - x)
    return _beta_tail(a, b, x)


def beta_quantile(probability: float, a: float, b: float) -> float:
    """Find the `x` in 0..1 at which Beta(a, b) has the given cumulative `probability`; absolute error below 1e-9.

    Newton steps kept inside a bracket that bisection shrinks. Raises `ValueError` unless 0 < probability < 1.
    """
    if not 0 < probability < 1:
        raise ValueError(f"a probability between 0 and 1 is needed, not {probability!r}")
    low, high = 0.0, 1.0
    x = a / (a + b)
    for _ in range(200):
        error = regularised_incomplete_beta(a, b, x) - probability
        if error > 0:
            high = x
        else:
            low = x
        density = _beta_density(a, b, x)
        step = x - error / density if density > 0 else math.nan
        following = step if low < step < high else (low + high) / 2
        if abs(following - x) <= 1e-15 or high - low <= 1e-15:
            return following
        x = following
    return x


def _beta_tail(a: float, b: float, x: float) -> float:
    return math.exp(a * math.log(x) + b * math.log1p(-x) - _log_beta(a, b)) * _beta_fraction(a, b, x) / a


def _beta_fraction(a: float, b: float, x: float) -> float:
    tiny = 1e-300
    c = 1.0
    d = 1.0 / _away_from_zero(1.0 - (a + b) * x / (a + 1), tiny)
    value = d
    # The number of terms needed grows as the square root of the larger parameter.
    for m in range(1, 200 + 20 * math.isqrt(int(max(a, b)) + 1)):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for numerator in (even, odd):
            d = 1.0 / _away_from_zero(1.0 + numerator * d, tiny)
            c = _away_from_zero(1.0 + numerator / c, tiny)
            value *= d * c
        if abs(d * c - 1.0) < 1e-15:
            return value
    raise ArithmeticError(f"the incomplete beta function did not converge for a={a!r}, b={b!r}, x={x!r}")


def _away_from_zero(value: float, tiny: float) -> float:
    return value if abs(value) >= tiny else tiny


def _beta_density(a: float, b: float, x: float) -> float:
    return math.exp((a - 1) * math.log(x) + (b - 1) * math.log1p(-x) - _log_beta(a, b)) if 0 < x < 1 else 0.0


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _share(count: int, counted: int, withheld: bool) -> ClassShare:
    if withheld:
        return ClassShare(count=count, percent=None, wilson=None, clopper_pearson=None)
    return ClassShare(
        count=count,
        percent=100.0 * count / counted,
        wilson=wilson(count, counted),
        clopper_pearson=clopper_pearson(count, counted),
    )


def _crosses(share: ClassShare, limits: tuple[float, float]) -> bool:
    """Whether a limit lies inside either interval: neither of the two always contains the other."""
    intervals = [interval for interval in (share.wilson, share.clopper_pearson) if interval is not None]
    return any(interval.low < limit / 100 < interval.high for interval in intervals for limit in limits)


def _checked(ranges: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    for label, (low, high) in ranges.items():
        if label not in LABELS:
            raise UsageError(
                "reference-range",
                f"There is no class {label!r} to give a reference range for.",
                f"Name one of: {', '.join(LABELS)}.",
            )
        if not 0 <= low <= high <= 100:
            raise UsageError(
                "reference-range",
                f"The reference range of {label} is {low}-{high} %.",
                "Give the lower and the upper limit in percent, between 0 and 100.",
            )
    return dict(ranges)


def _check_count(k: int, n: int) -> None:
    if not 0 <= k <= n:
        raise ValueError(f"{k!r} of {n!r} is not a count")

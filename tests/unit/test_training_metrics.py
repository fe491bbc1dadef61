"""Figures, calibration and parity, against values worked out by hand or by scikit-learn's definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.core.labels import LABELS
from quantization import calibration, parity
from training.metrics import figures, table

calls = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=80)


def test_figures_of_a_small_confusion() -> None:
    truth = np.array([0, 0, 0, 0, 1, 1])
    called = np.array([0, 0, 0, 5, 1, 0])
    row = figures("site", truth, called)
    assert row.balanced_accuracy == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert row.macro_f1 == pytest.approx((6 / 8 + 2 / 3) / 2)
    assert row.recall["neutrophil"].n == 4
    assert row.recall["neutrophil"].interval.low < 0.75 < row.recall["neutrophil"].interval.high
    assert set(row.recall) == {"neutrophil", "lymphocyte"}
    assert "| site | 6 | 0.625 |" in table([row])


@settings(deadline=None)
@given(calls)
def test_figures_agree_with_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    truth, called = (np.array(column) for column in zip(*pairs, strict=True))
    row = figures("s", truth, called)
    present = np.unique(truth)
    assert row.balanced_accuracy == pytest.approx(
        sklearn.recall_score(truth, called, labels=present, average="macro", zero_division=0)
    )
    assert row.macro_f1 == pytest.approx(
        sklearn.f1_score(truth, called, labels=present, average="macro", zero_division=0)
    )


def test_no_cells_have_no_figures() -> None:
    with pytest.raises(ValueError, match="site"):
        figures("site", np.array([], dtype=int), np.array([], dtype=int))


def overconfident(n: int, factor: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax after division by `factor` is the true chance of each class."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(0, 1.5, (n, 5))
    chance = np.exp(honest) / np.exp(honest).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(5, p=row) for row in chance])
    return (honest * factor).astype(np.float32), labels


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_overconfidence(factor: float) -> None:
    logits, labels = overconfident(6000, factor)
    weights = np.full(len(labels), 1 / len(labels))
    assert calibration.fit_temperature(logits, labels, weights) == pytest.approx(factor, rel=0.08)


def test_the_threshold_is_the_lowest_that_keeps_the_risk() -> None:
    confidence = np.array([0.95, 0.9, 0.8, 0.6, 0.55, 0.4])
    correct = np.array([True, True, True, True, False, False])
    weights = np.full(6, 1 / 6)
    threshold, risk, coverage = calibration.fit_threshold(confidence, correct, weights, target=0.0)
    assert threshold == pytest.approx(0.56)
    assert risk == 0
    assert coverage == pytest.approx(4 / 6)


def test_a_risk_that_cannot_be_reached_is_stated() -> None:
    threshold, risk, _ = calibration.fit_threshold(np.full(4, 0.95), np.zeros(4, dtype=bool), np.full(4, 0.25))
    assert threshold == pytest.approx(0.9)
    assert risk == 1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("confidence", "weights"),
    [([], []), ([0.95, 0.9], [0.0, 0.0]), ([0.1, 0.15], [0.5, 0.5]), ([0.5, 0.6], [0.5, 0.5])],
    ids=["no cell", "no weight", "none is sure enough", "none is sure enough in the end"],
)
def test_where_nothing_is_counted_nothing_is_promised(confidence: list[float], weights: list[float]) -> None:
    wrong = np.zeros(len(confidence), dtype=bool)
    assert calibration.fit_threshold(np.array(confidence), wrong, np.array(weights)) == (0.9, 1.0, 0.0)


@pytest.mark.filterwarnings("error")
def test_a_network_that_calls_everything_other_counts_nothing() -> None:
    logits = np.zeros((12, 6), dtype=np.float32)
    logits[:, 5] = 9
    for labels in (np.arange(12) % 6, np.full(12, 5)):
        fitted = calibration.fit(logits, labels, np.full(12, "s"))
        assert (fitted.threshold, fitted.risk, fitted.coverage) == (0.9, 1.0, 0.0)


def test_a_small_source_weighs_by_its_root() -> None:
    weights = calibration.source_weights(np.array(["a"] * 100 + ["b"] * 4))
    assert weights.sum() == pytest.approx(1)
    assert weights[:100].sum() / weights[100:].sum() == pytest.approx(10 / 2)


def test_calls_of_other_are_not_counted_and_false_cells_are_errors() -> None:
    logits = np.full((40, 6), -4, dtype=np.float32)
    labels = np.arange(40) % len(LABELS)
    logits[np.arange(40), labels] = 4
    labels[:8] = 5
    fitted = calibration.fit(logits, labels, np.full(40, "s"))
    assert fitted.risk == pytest.approx(8 / 40)
    logits[:8, 5] = 9
    assert calibration.fit(logits, labels, np.full(40, "s")).risk == 0


def test_parity_of_equal_and_of_noisy_logits() -> None:
    rng = np.random.default_rng(0)
    reference = rng.normal(0, 3, (500, 6)).astype(np.float32)
    assert parity.compare("s", reference, reference).signal_to_noise == np.inf
    noisy = reference + rng.normal(0, 0.3, reference.shape).astype(np.float32)
    row = parity.compare("s", reference, noisy)
    assert row.signal_to_noise == pytest.approx(20, abs=0.5)
    assert 0.8 < row.agreement < 1
    with pytest.raises(ValueError, match="compare"):
        parity.compare("s", reference, noisy[:3])

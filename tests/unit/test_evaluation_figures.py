"""Calibration, selection, conformal sets and scores for `other`, against hand examples, guarantees and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from training.config import CLASSES
from training.evaluation import conformal, foreign, reliability, selective
from training.evaluation.judge import one_vs_rest, roc_curves, view
from training.metrics import figures
from training.predictions import Predictions

sklearn_metrics = pytest.importorskip("sklearn.metrics")

judged = st.lists(st.tuples(st.sampled_from([0.1, 0.25, 0.5, 0.75, 0.9]), st.booleans()), min_size=1, max_size=60)


def table(pairs: list[tuple[float, bool]]) -> tuple[np.ndarray, np.ndarray]:
    confidence, correct = zip(*pairs, strict=True)
    return np.array(confidence), np.array(correct)


# --- figures of a confusion ---------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=80))
@settings(deadline=None)
def test_precision_f1_and_accuracy_agree_with_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    truth, called = (np.array(column) for column in zip(*pairs, strict=True))
    row = figures("s", truth, called)
    present = np.unique(truth)
    precision, _, f1, _ = sklearn_metrics.precision_recall_fscore_support(
        truth, called, labels=present, zero_division=0
    )
    assert row.accuracy == pytest.approx(sklearn_metrics.accuracy_score(truth, called))
    assert list(row.f1.values()) == pytest.approx(f1)
    assert [value or 0.0 for value in row.precision.values()] == pytest.approx(precision)


def test_a_class_of_three_cells_is_not_populated() -> None:
    row = figures("s", np.array([0] * 4 + [1] * 3), np.array([0, 0, 1, 1, 0, 0, 0]))
    assert row.populated == ("neutrophil",)
    assert row.balanced_accuracy_populated == pytest.approx(0.5)
    assert row.balanced_accuracy == pytest.approx(0.25)
    assert figures("s", np.array([1]), np.array([1])).balanced_accuracy_populated is None
    assert row.precision["lymphocyte"] == 0


def test_precision_of_a_class_that_is_never_called_is_unknown() -> None:
    assert figures("s", np.array([0, 1]), np.array([0, 0])).precision["lymphocyte"] is None


# --- calibration --------------------------------------------------------------------------------------------------


def test_ece_of_a_hand_example() -> None:
    confidence = np.array([0.95, 0.95, 0.65, 0.65, 0.65])
    correct = np.array([True, False, True, True, False])
    bins = reliability.reliability(confidence, correct, 10)
    assert [item.n for item in bins] == [0, 0, 0, 0, 0, 0, 3, 0, 0, 2]
    expected = 2 / 5 * abs(0.5 - 0.95) + 3 / 5 * abs(2 / 3 - 0.65)
    assert reliability.expected_calibration_error(bins) == pytest.approx(expected)


@given(judged)
@settings(deadline=None)
def test_ece_is_a_share_and_the_bins_keep_every_cell(pairs: list[tuple[float, bool]]) -> None:
    confidence, correct = table(pairs)
    bins = reliability.reliability(confidence, correct)
    assert sum(item.n for item in bins) == len(pairs)
    assert 0 <= reliability.expected_calibration_error(bins) <= 1
    for item in bins:
        if item.confidence is not None:
            assert item.low - 1e-9 <= item.confidence <= item.high + 1e-9


def test_the_ends_of_the_scale_have_a_bin_each() -> None:
    bins = reliability.reliability(np.array([0.0, 1.0]), np.array([False, True]))
    assert bins[0].n == bins[-1].n == 1
    assert reliability.expected_calibration_error(bins) == 0
    with pytest.raises(ValueError, match="no cells"):
        reliability.expected_calibration_error(reliability.reliability(np.zeros(0), np.zeros(0, bool)))


def test_brier_and_log_likelihood_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(4), 200)
    labels = rng.integers(0, 4, 200)
    assert reliability.negative_log_likelihood(probabilities, labels) == pytest.approx(
        sklearn_metrics.log_loss(labels, probabilities, labels=range(4))
    )
    by_class = [sklearn_metrics.brier_score_loss(labels == index, probabilities[:, index]) for index in range(4)]
    assert reliability.brier(probabilities, labels) == pytest.approx(sum(by_class))
    assert reliability.brier(np.eye(3), np.array([1, 2, 0])) == pytest.approx(2)


def test_logits_that_are_twice_too_large_are_calibrated_by_the_temperature_two() -> None:
    rng = np.random.default_rng(3)
    honest = rng.normal(0, 1.5, (8000, 5))
    labels = np.array([rng.choice(5, p=row) for row in special.softmax(honest, axis=1)])
    found = view("s", (2 * honest).astype(np.float32), labels, 2.0)
    assert found.ece.after < 0.02 < 0.1 < found.ece.before
    assert found.nll.after < found.nll.before
    assert found.brier.after < found.brier.before


# --- risk and coverage --------------------------------------------------------------------------------------------


def test_risk_coverage_of_a_hand_example() -> None:
    coverage, risk = selective.risk_coverage(np.array([0.9, 0.5, 0.8, 0.6]), np.array([True, False, False, True]))
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1]
    assert risk == pytest.approx([0, 1 / 2, 1 / 3, 2 / 4])
    assert selective.area(risk) == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert selective.risk_at(coverage, risk, 0.7) == pytest.approx(1 / 3)
    assert selective.risk_at(coverage, risk, 0.75) == pytest.approx(1 / 3)


def test_equal_confidences_are_taken_in_no_order() -> None:
    _, risk = selective.risk_coverage(np.full(4, 0.5), np.array([True, True, True, False]))
    assert risk == pytest.approx([0.25] * 4)


@given(judged, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_cells_does_not_matter_and_full_coverage_has_the_error_rate(
    pairs: list[tuple[float, bool]], random: object
) -> None:
    _, risk = selective.risk_coverage(*table(pairs))
    mixed = list(pairs)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    _, again = selective.risk_coverage(*table(mixed))
    assert risk == pytest.approx(again)
    assert risk[-1] == pytest.approx(1 - table(pairs)[1].mean())
    assert (risk >= -1e-12).all() and (risk <= 1 + 1e-12).all()


def test_nothing_has_no_risk() -> None:
    with pytest.raises(ValueError, match="no cells"):
        selective.risk_coverage(np.zeros(0), np.zeros(0, bool))


# --- conformal sets -----------------------------------------------------------------------------------------------


def exchangeable(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Imperfect probabilities of labels drawn with unequal frequencies: conformal sets must not need them true."""
    labels = rng.choice(5, n, p=[0.5, 0.2, 0.15, 0.1, 0.05])
    logits = rng.normal(0, 1.5, (n, 5))
    logits[np.arange(n), labels] += 1.5
    return special.softmax(3 * logits, axis=1), labels


@pytest.mark.parametrize("method", conformal.METHODS)
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_exchangeable_cells_are_covered_as_promised(method: conformal.Method, alpha: float) -> None:
    rng = np.random.default_rng(1)
    found = []
    for _ in range(150):
        probabilities, labels = exchangeable(400, rng)
        fitted = conformal.fit(probabilities[:200], labels[:200], alpha, method)
        found.append(conformal.measure(fitted, probabilities[200:], labels[200:]).coverage)
    mean, error = np.mean(found), stats.sem(found)
    assert mean >= 1 - alpha - 4 * error
    if method == "lac":  # continuous scores: at most 1 / (n + 1) above the promise
        assert mean <= 1 - alpha + 1 / 201 + 4 * error


def test_class_conditional_sets_cover_each_class() -> None:
    rng = np.random.default_rng(2)
    hits, cells = np.zeros(5), np.zeros(5)
    for _ in range(100):
        probabilities, labels = exchangeable(1000, rng)
        fitted = conformal.fit(probabilities[:500], labels[:500], 0.1, "class-conditional")
        sets = fitted.sets(probabilities[500:])
        for index in range(5):
            own = labels[500:] == index
            hits[index] += sets[own, index].sum()
            cells[index] += own.sum()
    assert (hits / cells > 0.9 - 0.02).all()


def test_the_conformal_quantile_of_a_hand_example() -> None:
    scores = np.array([0.5, 0.1, 0.4, 0.2, 0.3, 0.6, 0.7, 0.8, 0.9])
    assert conformal.quantile(scores, 0.5) == 0.5
    assert conformal.quantile(scores, 0.2) == 0.8
    assert conformal.quantile(scores, 0.1) == 0.9
    assert conformal.quantile(scores, 0.05) == math.inf
    assert conformal.quantile(np.zeros(0), 0.1) == math.inf


def test_a_class_that_calibration_lacks_is_never_excluded() -> None:
    fitted = conformal.fit(np.array([[0.9, 0.1]] * 50), np.zeros(50, int), 0.1, "class-conditional")
    assert fitted.sets(np.array([[0.99, 0.01]])).tolist() == [[True, True]]


def test_raps_scores_of_a_hand_example() -> None:
    found = conformal.scores(np.array([[0.2, 0.5, 0.3]]), "raps")
    assert found == pytest.approx(np.array([[1.0 + 2 * 0.1, 0.5, 0.8 + 0.1]]))


@given(st.integers(1, 80), st.floats(0.01, 0.99), st.sampled_from(conformal.METHODS), st.integers(0, 99))
@settings(deadline=None)
def test_calibration_cells_are_covered_and_larger_errors_give_smaller_sets(
    n: int, alpha: float, method: conformal.Method, seed: int
) -> None:
    probabilities, labels = exchangeable(n, np.random.default_rng(seed))
    fitted = conformal.fit(probabilities, labels, alpha, method)
    assert conformal.measure(fitted, probabilities, labels).coverage >= 1 - alpha - 1e-9
    strict = conformal.fit(probabilities, labels, alpha / 2, method)
    assert (strict.sets(probabilities) >= fitted.sets(probabilities)).all()


# --- AUC and the scores for `other` -------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 4), min_size=1, max_size=20), st.lists(st.integers(0, 4), min_size=1, max_size=20))
@settings(deadline=None)
def test_auroc_is_the_mann_whitney_statistic(positive: list[int], negative: list[int]) -> None:
    one, other = np.array(positive, float), np.array(negative, float)
    expected = stats.mannwhitneyu(one, other).statistic / (len(one) * len(other))
    assert foreign.auroc(one, other) == pytest.approx(expected)


def test_one_vs_rest_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(4)
    probabilities, labels = exchangeable(300, rng)
    each, macro = one_vs_rest(probabilities, labels)
    assert macro == pytest.approx(sklearn_metrics.roc_auc_score(labels, probabilities, multi_class="ovr"))
    assert list(each) == list(CLASSES[:5])
    false, true = roc_curves(probabilities, labels)["monocyte"]
    assert sklearn_metrics.auc(false, true) == pytest.approx(each["monocyte"])
    assert one_vs_rest(probabilities[:3], np.zeros(3, int)) == ({"neutrophil": None}, None)


def predictions(logits: np.ndarray, labels: np.ndarray, subtype: np.ndarray) -> Predictions:
    text = np.full(len(labels), "")
    source = np.full(len(labels), "pbc")
    return Predictions(logits.astype(np.float32), labels, source, text, text, text, text, subtype)


def test_the_scores_of_a_hand_example() -> None:
    logits = np.array([[2.0, 0.0, 0.0, 0.0, 0.0, 1.0]])
    five = np.exp([2, 0, 0, 0, 0]) / np.exp([2, 0, 0, 0, 0]).sum()
    expected = {
        "other margin": -1.0,
        "other softmax": math.e / (math.exp(2) + 4 + math.e),
        "max softmax": -five.max(),
        "max logit": -2.0,
        "energy": -math.log(math.exp(2) + 4),
        "entropy": -float((five * np.log(five)).sum()),
    }
    assert {name: float(score(logits)[0]) for name, score in foreign.SCORES.items()} == pytest.approx(expected)


def test_kinds_are_judged_against_the_cells_of_their_own_source() -> None:
    rng = np.random.default_rng(5)
    labels = np.array([0] * 20 + [5] * 10)
    logits = rng.normal(0, 0.1, (30, 6))
    logits[:20, 0] += 8  # certain cells
    logits[20:, 5] += 4
    found = predictions(logits, labels, np.array(["neutrophil"] * 20 + ["erythroblast"] * 6 + ["platelet"] * 4))
    rows = {row.kind: row for row in foreign.kinds(found)}
    assert {name: row.n for name, row in rows.items()} == {"erythroblast": 6, "platelet": 4, "all": 10}
    assert rows["erythroblast"].against == 20
    assert all(value == 1 for row in rows.values() for value in row.auroc.values())
    assert rows["all"].refused == 1
    assert foreign.kinds(found.select(labels == 5)) == []


def test_the_score_is_chosen_by_its_mean_over_kinds() -> None:
    def kind(name: str, **values: float) -> foreign.Kind:
        return foreign.Kind("pbc", name, 9, 9, {**dict.fromkeys(foreign.SCORES, 0.5), **values}, 0.0)

    rows = [kind("a", energy=0.9, entropy=0.6), kind("b", energy=0.6, entropy=0.99), kind("all", energy=1.0)]
    assert foreign.best_score(rows) == "entropy"
    assert foreign.best_score([]) is None

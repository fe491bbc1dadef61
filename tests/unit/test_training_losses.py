"""The losses against closed forms and against scikit-learn's class weights."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("keras", reason="the train extra is not installed")

import keras
from scipy.special import log_softmax, softmax
from sklearn.utils.class_weight import compute_class_weight

from training import losses

pytestmark = pytest.mark.train

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 2, (7, 6)).astype(np.float32)
TARGETS = RNG.dirichlet(np.ones(6), 7).astype(np.float32)
COUNTS = np.array([5, 40, 1000, 3, 200, 17])


def numbers(value: object) -> np.ndarray:
    return keras.ops.convert_to_numpy(value)


def test_inverse_frequency_is_scikit_learns_balanced_weight() -> None:
    labels = np.repeat(np.arange(6), COUNTS)
    expected = compute_class_weight("balanced", classes=np.arange(6), y=labels)
    np.testing.assert_allclose(losses.inverse_frequency(COUNTS), expected, rtol=1e-6)


def test_the_effective_number_is_a_geometric_sum() -> None:
    """E_n = (1 - beta^n) / (1 - beta) is the sum of beta^i for i below n (Cui et al., eq. 2 and proposition 1)."""
    effective = np.array([sum(0.999**i for i in range(n)) for n in COUNTS])
    weights = losses.effective_number(COUNTS)
    np.testing.assert_allclose(weights / weights[0], effective[0] / effective, rtol=1e-5)
    assert weights.sum() == pytest.approx(6, rel=1e-5)


def test_beta_0_weighs_all_alike_and_beta_near_1_by_inverse_frequency() -> None:
    np.testing.assert_allclose(losses.effective_number(COUNTS, beta=0.0), np.ones(6))
    inverse = losses.inverse_frequency(COUNTS)
    near = losses.effective_number(COUNTS, beta=1 - 1e-9)
    np.testing.assert_allclose(near / near[0], inverse / inverse[0], rtol=1e-4)


@pytest.mark.parametrize("weights", [losses.inverse_frequency, losses.effective_number])
def test_a_class_without_cells_weighs_nothing(weights: object) -> None:
    found = weights(np.array([10, 0, 30]))
    assert found[1] == 0
    assert np.isfinite(found).all()


def test_cross_entropy_of_soft_targets() -> None:
    weights = np.array([0.5, 1, 2, 1, 3, 1], dtype=np.float32)
    expected = -(weights * TARGETS * log_softmax(LOGITS, axis=1)).sum(axis=1)
    np.testing.assert_allclose(numbers(losses.cross_entropy(TARGETS, LOGITS, weights)), expected, rtol=1e-5)
    hard = np.eye(6, dtype=np.float32)[[2, 4]]
    one = numbers(losses.cross_entropy(hard, LOGITS[:2], weights))
    np.testing.assert_allclose(one, -np.array([2, 3]) * log_softmax(LOGITS[:2], axis=1)[[0, 1], [2, 4]], rtol=1e-5)


def test_focal_loss_against_the_published_formula() -> None:
    """FL(p_t) = -(1 - p_t)^2 log(p_t), and cross-entropy where gamma is 0."""
    labels = np.array([0, 3, 5, 1, 1, 2, 4])
    p = softmax(LOGITS, axis=1)[np.arange(7), labels]
    found = numbers(losses.focal(np.eye(6, dtype=np.float32)[labels], LOGITS))
    np.testing.assert_allclose(found, -((1 - p) ** 2) * np.log(p), rtol=1e-4)
    ones = np.ones(6, dtype=np.float32)
    np.testing.assert_allclose(
        numbers(losses.focal(TARGETS, LOGITS, gamma=0.0)),
        numbers(losses.cross_entropy(TARGETS, LOGITS, ones)),
        rtol=1e-5,
    )


def test_the_divergence_is_kullback_leiblers_and_its_gradient_that_of_hinton() -> None:
    import tensorflow as tf

    teacher = RNG.normal(0, 2, (7, 6)).astype(np.float32)
    p, q = softmax(teacher / 3, axis=1), softmax(LOGITS / 3, axis=1)
    expected = 9 * (p * np.log(p / q)).sum(axis=1)
    np.testing.assert_allclose(numbers(losses.divergence(teacher, LOGITS, 3.0)), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(numbers(losses.divergence(LOGITS, LOGITS, 3.0)), 0, atol=1e-5)
    variable = tf.Variable(LOGITS)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(losses.divergence(teacher, variable, 3.0))
    np.testing.assert_allclose(tape.gradient(total, variable).numpy(), 3 * (q - p), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_loss_of_a_run_mixes_label_and_teacher_and_weighs_samples(share: float) -> None:
    teacher = RNG.normal(0, 2, (7, 6)).astype(np.float32)
    loss = losses.TrainingLoss("cross-entropy", np.ones(6), share, 2.0)
    told = np.concatenate([TARGETS, teacher], axis=1) if share else TARGETS
    sample_weights = np.linspace(0.5, 1.5, 7).astype(np.float32)
    hard = -(TARGETS * log_softmax(LOGITS, axis=1)).sum(axis=1)
    p, q = softmax(teacher / 2, axis=1), softmax(LOGITS / 2, axis=1)
    each = (1 - share) * hard + share * 4 * (p * np.log(p / q)).sum(axis=1)
    found = float(numbers(loss(told, LOGITS, sample_weight=sample_weights)))
    assert found == pytest.approx((each * sample_weights).mean(), rel=1e-4)
    again = losses.TrainingLoss.from_config(loss.get_config())
    assert float(numbers(again(told, LOGITS))) == pytest.approx(each.mean(), rel=1e-4)

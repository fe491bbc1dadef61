"""What a generator may see, how its cells join the others, and the figures it is judged by. Needs no TensorFlow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.core.errors import InputError, UsageError
from training.config import RunConfig
from training.data import sampling
from training.data.cells import Cells
from training.data.sources import SOURCES
from training.gan import generated, neighbours
from training.gan.config import GanConfig
from training.gan.data import BatchSource, cut_class, parents, require_training_fold, resized, to_crops, to_network
from training.gan.metrics import frechet_distance, kernel_distance, squared_discrepancy

CONFIG = GanConfig(size=32, resolution=16, batch=8)


def cells(n: int = 120, **columns: object) -> Cells:
    """Cells of every class, split, source and kind, in turns that do not fall together."""
    rng = np.random.default_rng(0)
    values: dict[str, object] = {
        "crops": rng.integers(0, 256, (n, 48, 48, 3), dtype=np.uint8),
        "labels": np.arange(n) % 6,
        "source": rng.choice(["pbc", "bccd", "embedded", "jtsc", "rendered"], n),
        "split": rng.choice(["train", "validation", "test", "evaluation"], n),
        "kind": rng.choice(["cell", "field", "background"], n),
        "group": np.arange(n).astype(str),
        "picture": np.array([f"{i:03d}.png" for i in range(n)]),
        "subtype": np.full(n, ""),
    }
    return Cells(**{**values, **columns})  # type: ignore[arg-type]


def real(n: int = 60) -> Cells:
    return cells(
        n,
        labels=np.arange(n) % 5,
        source=np.full(n, "pbc"),
        split=np.full(n, "train"),
        kind=np.full(n, "cell"),
    )


@pytest.mark.parametrize(
    ("column", "value", "code"),
    [
        ("split", "validation", "not-training-fold"),
        ("split", "test", "not-training-fold"),
        ("split", "evaluation", "not-training-fold"),
        ("source", "jtsc", "licence-forbids-training"),
        ("source", "milab_focus", "licence-forbids-training"),
        ("source", "rendered", "not-a-real-cell"),
        ("source", "generated", "not-a-real-cell"),
        ("kind", "background", "not-a-real-cell"),
        ("labels", 5, "not-a-real-cell"),
    ],
)
def test_one_stray_cell_is_enough_to_be_refused(column: str, value: object, code: str) -> None:
    healthy = real()
    require_training_fold(healthy)
    changed = getattr(healthy, column).astype(object)
    changed[17] = value
    stray = replace(healthy, **{column: changed.astype(str if isinstance(value, str) else np.int64)})
    for refuse in (require_training_fold, lambda each: BatchSource(each, CONFIG)):
        with pytest.raises(UsageError) as caught:
            refuse(stray)
        assert caught.value.code == code
        assert caught.value.cure


def test_of_everything_only_the_training_fold_of_trainable_sources_is_taken() -> None:
    chosen = parents(cells(600), CONFIG)
    assert set(chosen.split) == {"train"}
    assert set(chosen.source) == {"pbc", "bccd", "embedded"}
    assert set(chosen.kind) == {"cell", "field"}
    assert set(chosen.labels) == {0, 1, 2, 3, 4}
    assert set(parents(cells(600), replace(CONFIG, sources=("bccd",))).source) == {"bccd"}


def test_a_source_for_evaluation_is_refused_and_one_without_cells_is_said_to_be_empty() -> None:
    for source, code in (("jtsc", "licence-forbids-training"), ("draaslan", "nothing-to-train-on")):
        with pytest.raises(UsageError) as caught:
            parents(cells(), replace(CONFIG, sources=(source,)))
        assert caught.value.code == code


def test_the_scarce_class_is_cut_and_the_others_are_whole() -> None:
    config = replace(CONFIG, scarce="basophil", kept=3)
    few, every = parents(real(), config), parents(real(), CONFIG)
    assert np.bincount(few.labels).tolist() == [12, 12, 12, 12, 3]
    assert set(few.picture) <= set(every.picture)


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(60)), st.integers(0, 5))
def test_which_few_are_kept_depends_on_the_seed_and_not_on_the_order(order: list[int], seed: int) -> None:
    kept = cut_class(real(), 2, 4, seed)
    shuffled = cut_class(real().select(np.array(order)), 2, 4, seed)
    assert set(kept.picture) == set(shuffled.picture)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"resolution": 30}, "gan-resolution"),
        ({"widths": (8, 8)}, "gan-resolution"),
        ({"scarce": "basophil"}, "scarce-class"),
        ({"scarce": "other", "kept": 5}, "scarce-class"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, object], code: str) -> None:
    with pytest.raises(UsageError) as caught:
        GanConfig(**changes)  # type: ignore[arg-type]
    assert caught.value.code == code


def test_the_configuration_comes_back_from_its_file(tmp_path: Path) -> None:
    config = replace(CONFIG, sources=("pbc",), scarce="basophil", kept=20)
    config.save(tmp_path / "gan.json")
    assert GanConfig.load(tmp_path / "gan.json") == config


def test_a_crop_comes_back_from_the_network_s_values() -> None:
    crops = real(4).crops
    np.testing.assert_array_equal(to_crops(to_network(crops)), crops)
    even = np.full((1, 48, 48, 3), 77, dtype=np.uint8)
    assert np.unique(resized(even, 16)).tolist() == [77]
    assert resized(even, 16).shape == (1, 16, 16, 3)


def test_batches_are_the_same_for_the_same_step_and_balanced_over_classes() -> None:
    rare = parents(real(100), replace(CONFIG, scarce="basophil", kept=2))
    source = BatchSource(rare, replace(CONFIG, batch=500))
    images, labels = source.make(3)
    np.testing.assert_array_equal(images, source.make(3)[0])
    assert np.abs(images - source.make(4)[0]).max() > 0
    assert images.shape == (500, 16, 16, 3)
    assert (np.abs(np.bincount(labels, minlength=5) - 100) < 45).all()


def drawn_cells(count: int = 6, size: int = 32) -> Cells:
    pictures = np.random.default_rng(1).uniform(-1, 1, (count, 16, 16, 3)).astype(np.float32)
    return generated.cells_of({4: pictures}, size, "generated-0")


def test_generated_cells_are_training_cells_of_a_source_that_may_be_shipped() -> None:
    drawn = drawn_cells()
    assert drawn.crops.shape == (6, 48, 48, 3)
    assert set(drawn.split) == {"train"}
    assert len(set(drawn.group)) == 6
    source = SOURCES[str(drawn.source[0])]
    assert source.trainable
    assert source.licence == "CC-BY-4.0 AND MIT"
    assert not replace(source, licence="CC-BY-4.0 AND GPL-3.0").trainable


def test_generated_cells_take_their_share_of_the_classes_that_have_some_and_no_more() -> None:
    joined = generated.join(real(), drawn_cells())
    config = RunConfig(size=32, rendered_share=0.0, other_share=0.0, generated_share=0.3)
    chance = sampling.probabilities(joined, config)
    drawn = joined.source == "generated"
    assert chance.sum() == pytest.approx(1.0)
    assert chance[drawn].sum() == pytest.approx(0.3 / 5)
    for label in range(5):
        assert chance[joined.labels == label].sum() == pytest.approx(1 / 5)
    assert sampling.probabilities(joined, replace(config, generated_share=0.0))[drawn].sum() == 0.0


def test_a_file_of_generated_cells_enters_a_run_folder_and_nothing_else_does(tmp_path: Path) -> None:
    drawn_cells().save(tmp_path / "g.npz")
    generated.adopt(tmp_path / "g.npz", tmp_path / "run")
    np.testing.assert_array_equal(generated.load(tmp_path / "run" / generated.FILE).crops, drawn_cells().crops)
    real().save(tmp_path / "real.npz")
    (tmp_path / "text.npz").write_text("no archive")
    for name in ("real.npz", "text.npz", "missing.npz"):
        with pytest.raises(InputError) as caught:
            generated.adopt(tmp_path / name, tmp_path / "other")
        assert caught.value.code == "not-generated-cells"
    assert not (tmp_path / "other").exists()


def test_generated_cells_of_another_size_are_not_joined() -> None:
    with pytest.raises(UsageError) as caught:
        generated.join(real(), drawn_cells(size=64))
    assert caught.value.code == "generated-size"


def test_the_frechet_distance_equals_the_textbook_formula() -> None:
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(0)
    one, other = rng.normal(0, 1, (40, 6)) @ rng.normal(0, 1, (6, 6)), rng.normal(0.5, 2, (25, 6))
    first, second = np.cov(one.T), np.cov(other.T)
    shift = one.mean(axis=0) - other.mean(axis=0)
    expected = shift @ shift + np.trace(first + second - 2 * np.real(sqrtm(first @ second)))
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-8)


def test_the_frechet_distance_of_two_gaussians_is_the_closed_form() -> None:
    """Samples whose exact mean and covariance: |m1 - m2|^2 + sum (s1 - s2)^2 for diagonal ones."""
    rng = np.random.default_rng(1)

    def gaussian(mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        raw = rng.normal(0, 1, (50, 3))
        raw -= raw.mean(axis=0)
        whitened = raw @ np.linalg.inv(np.linalg.cholesky(np.cov(raw.T))).T
        return whitened * deviation + mean

    one = gaussian(np.array([0.0, 1.0, 2.0]), np.array([1.0, 2.0, 0.5]))
    other = gaussian(np.array([1.0, 1.0, 0.0]), np.array([3.0, 2.0, 1.0]))
    assert frechet_distance(one, other) == pytest.approx((1 + 4) + (4 + 0 + 0.25))
    assert frechet_distance(one, one) == pytest.approx(0.0, abs=1e-9)
    assert frechet_distance(one, one + 2.0) == pytest.approx(3 * 4.0)


def test_the_discrepancy_equals_the_estimate_with_another_library_s_kernel() -> None:
    from sklearn.metrics.pairwise import polynomial_kernel

    rng = np.random.default_rng(2)
    one, other = rng.normal(0, 1, (30, 5)), rng.normal(0.3, 1, (20, 5))

    def off_diagonal(each: np.ndarray) -> float:
        kernel = polynomial_kernel(each, degree=3, gamma=1 / 5, coef0=1)
        return float(kernel[~np.eye(len(each), dtype=bool)].mean())

    between = polynomial_kernel(one, other, degree=3, gamma=1 / 5, coef0=1).mean()
    assert squared_discrepancy(one, other) == pytest.approx(off_diagonal(one) + off_diagonal(other) - 2 * between)


def test_the_discrepancy_is_unbiased() -> None:
    """In one dimension E(xy + 1)^3 = Ex3 Ey3 + 3 Ex2 Ey2 + 3 Ex Ey + 1; of N(m, 1): m, 1 + m2, m3 + 3m."""
    rng = np.random.default_rng(3)

    def expected(m: float) -> float:
        within = (m**3 + 3 * m) ** 2 + 3 * (1 + m**2) ** 2 + 3 * m**2 + 1
        return 4 + within - 2 * (3 * (1 + m**2) + 1)

    for shift in (0.0, 0.8):
        values = [squared_discrepancy(rng.normal(0, 1, (30, 1)), rng.normal(shift, 1, (30, 1))) for _ in range(2000)]
        error = np.std(values) / np.sqrt(len(values))
        assert abs(np.mean(values) - expected(shift)) < 4 * error
        assert min(values) < expected(shift) < max(values)
    assert min(values) < np.mean(values)


def test_the_kernel_distance_is_near_zero_for_one_distribution_and_large_for_two() -> None:
    rng = np.random.default_rng(4)
    one, same, other = rng.normal(0, 1, (200, 8)), rng.normal(0, 1, (200, 8)), rng.normal(1, 1, (200, 8))
    near, far = kernel_distance(one, same, seed=0), kernel_distance(one, other, seed=0)
    assert near == kernel_distance(one, same, seed=0)
    assert abs(near.value) < 2 * near.deviation
    assert far.value > 10 * near.deviation
    assert near.size == 100
    assert kernel_distance(one[:20], other[:30], seed=0).size == 10


def patterns(n: int, seed: int) -> np.ndarray:
    """Smooth random pictures: of noise, halving the size would leave nothing."""
    coarse = np.random.default_rng(seed).integers(0, 256, (n, 6, 6, 3), dtype=np.uint8)
    return np.kron(coarse, np.ones((1, 8, 8, 1), dtype=np.uint8))


def embed(pictures: np.ndarray) -> np.ndarray:
    return resized(pictures, 12).reshape(len(pictures), -1).astype(np.float64)


def judged(pictures: np.ndarray, gallery: neighbours.Gallery) -> neighbours.Nearest:
    forms = neighbours.symmetries(pictures)
    return gallery.nearest(forms, np.stack([embed(form) for form in forms]))


def test_a_turned_and_mirrored_copy_is_found_and_flagged_and_a_new_picture_is_not() -> None:
    learnt, unseen, new = patterns(30, 0), patterns(100, 1), patterns(20, 2)
    gallery = neighbours.Gallery(learnt, embed)
    limits = neighbours.thresholds(judged(unseen, gallery))
    copies = np.stack([np.rot90(learnt[3], 1), learnt[7][:, ::-1], np.rot90(learnt[9], 3)[:, ::-1]])
    found = judged(copies, gallery)
    assert found.index.tolist() == [3, 7, 9]
    np.testing.assert_allclose(found.features, 0, atol=1e-4)
    np.testing.assert_allclose(found.pixels, 0, atol=1e-4)
    assert found.bits.tolist() == [0, 0, 0]
    marks = neighbours.flagged(found, limits)
    assert all(mark.all() for mark in marks.values())
    assert neighbours.flagged(judged(new, gallery), limits)["any"].mean() < 0.2


def test_distances_are_in_grey_levels_and_bits() -> None:
    learnt = patterns(5, 3) // 2 + 40
    found = judged(learnt + 10, neighbours.Gallery(learnt, embed))
    np.testing.assert_allclose(found.pixels, 10, atol=1e-6)
    # Shrinking rounds: a bit of the hash may turn where two neighbours are alike.
    assert (found.bits <= 2).all()


def test_the_nearest_is_that_of_an_independent_search() -> None:
    from sklearn.neighbors import NearestNeighbors

    rng = np.random.default_rng(5)
    queries, keys = rng.normal(0, 1, (1, 40, 7)), rng.normal(0, 1, (60, 7))
    distance, index = neighbours.nearest(queries, keys)
    expected, where = NearestNeighbors(n_neighbors=1).fit(keys).kneighbors(queries[0])
    np.testing.assert_allclose(distance, expected[:, 0])
    np.testing.assert_array_equal(index, where[:, 0])

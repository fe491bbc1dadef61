"""Splits: whole groups, fair shares, no picture on both sides of a border."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.splits import (
    SplitLeakError,
    assign,
    difference_hash,
    merge_groups,
    near_pairs,
    require_no_leak,
)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), min_size=1, max_size=120), st.integers(0, 100))
def test_a_group_is_never_divided(items: list[tuple[int, int]], seed: int) -> None:
    groups = [f"g{group}" for group, _ in items]
    splits = assign(groups, [stratum for _, stratum in items], seed)
    assert len({(group, split) for group, split in zip(groups, splits, strict=True)}) == len(set(groups))


def test_single_cells_are_split_seventy_fifteen_fifteen_in_every_stratum() -> None:
    strata = ["a"] * 200 + ["b"] * 40
    splits = assign([f"g{i}" for i in range(240)], strata, seed=1)
    counts = Counter(zip(strata, splits, strict=True))
    assert counts["a", "train"] == pytest.approx(140, abs=2)
    assert counts["a", "validation"] == pytest.approx(30, abs=2)
    assert counts["b", "train"] == pytest.approx(28, abs=2)
    assert counts["b", "test"] == pytest.approx(6, abs=2)


def test_the_seed_decides_and_the_first_group_of_a_stratum_is_for_training() -> None:
    groups, strata = [f"g{i}" for i in range(50)], ["s"] * 50
    assert assign(groups, strata, 1) == assign(groups, strata, 1)
    assert assign(groups, strata, 1) != assign(groups, strata, 2)
    assert assign(["only"], ["s"], 0) == ["train"]


def test_the_difference_hash_sees_through_brightness_and_noise_but_not_other_pictures() -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 200, (8, 9, 1)).repeat(3, axis=2)
    picture = np.kron(coarse, np.ones((12, 12, 1))).astype(np.uint8)
    brighter = np.clip(picture.astype(int) + 20 + rng.integers(-2, 3, picture.shape), 0, 255).astype(np.uint8)
    other = picture[:, ::-1]
    hashes = [difference_hash(picture), difference_hash(brighter), difference_hash(np.ascontiguousarray(other))]
    assert near_pairs(hashes) == [(0, 1)]


@given(st.lists(st.integers(0, 2**64 - 1), max_size=25), st.integers(0, 64))
def test_near_pairs_are_those_with_few_differing_bits(hashes: list[int], distance: int) -> None:
    expected = [
        (i, j)
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if (hashes[i] ^ hashes[j]).bit_count() <= distance
    ]
    assert near_pairs(hashes, distance) == expected


def test_groups_that_look_the_same_become_one_transitively() -> None:
    assert merge_groups(["c", "b", "a", "d"], [0b0000, 0b1111, 0b11111111, 2**60 - 1]) == ["a", "a", "a", "d"]


@pytest.mark.parametrize(
    ("groups", "digests", "hashes"),
    [
        (["g", "g"], ["x", "y"], [0, 2**40 - 1]),
        (["g", "h"], ["x", "x"], [0, 2**40 - 1]),
        (["g", "h"], ["x", "y"], [0, 0b1111]),
    ],
    ids=["group", "sha1", "look"],
)
def test_a_leak_fails_the_build(groups: list[str], digests: list[str], hashes: list[int]) -> None:
    with pytest.raises(SplitLeakError):
        require_no_leak(["train", "test"], groups, digests, hashes)
    require_no_leak(["train", "train"], groups, digests, hashes)


def test_fields_without_digest_or_hash_are_no_leak() -> None:
    require_no_leak(["train", "test"], ["g", "h"], ["", ""], [None, None])

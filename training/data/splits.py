"""Training, validation and test: by group, stratified, seeded, and proven free of duplicates across the borders."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Final, Literal

import cv2
import numpy as np
import numpy.typing as npt

from edge.core.errors import LeukoError
from edge.core.types import Image

Split = Literal["train", "validation", "test"]

SHARES: Final[Mapping[Split, float]] = {"train": 0.70, "validation": 0.15, "test": 0.15}

NEAR: Final = 4
"""Pictures whose difference hashes differ in at most this many of 64 bits count as the same picture."""


_BLOCK: Final = 256
"""Rows of hashes compared at a time: with 17,000 others that is some 40 MB."""


class SplitLeakError(LeukoError):
    """The same picture stands on both sides of a border between splits."""


def difference_hash(image: Image) -> int:
    """Compute the 64-bit difference hash of a picture: is each of 8x8 cells darker than its right neighbour?"""
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (9, 8), interpolation=cv2.INTER_AREA)
    return int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes(), "big")


def _differing_bits(one: npt.NDArray[np.uint64], other: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    """Count the bits that differ: uint8 of the broadcast shape, 0-64."""
    different = one ^ other
    if hasattr(np, "bitwise_count"):
        return np.asarray(np.bitwise_count(different), dtype=np.uint8)
    return _count_bits(different)


def _count_bits(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    """Count the set bits where NumPy is older than 2.0: halves, quarters and eighths of a word added in parallel.

    Warren, Hacker's Delight, 2nd edition, section 5-1.
    """
    first, second, fourth = (np.uint64(mask) for mask in (0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F))
    pairs = values - ((values >> np.uint64(1)) & first)
    nibbles = (pairs & second) + ((pairs >> np.uint64(2)) & second)
    octets = (nibbles + (nibbles >> np.uint64(4))) & fourth
    return np.asarray((octets * np.uint64(0x0101010101010101)) >> np.uint64(56), dtype=np.uint8)


def near_pairs(hashes: Sequence[int], distance: int = NEAR) -> list[tuple[int, int]]:
    """Index pairs (i < j) of hashes that differ in at most `distance` bits, in ascending order."""
    array = np.array(hashes, dtype=np.uint64)
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(array), _BLOCK):
        block = array[start : start + _BLOCK]
        near = _differing_bits(block[:, None], array[None, start:]) <= distance
        rows, columns = np.nonzero(near)
        later = columns > rows
        pairs += zip((rows[later] + start).tolist(), (columns[later] + start).tolist(), strict=True)
    return pairs


def _same(hashes: Sequence[int]) -> tuple[list[int], list[list[int]]]:
    """Give each distinct hash once, and the indices that have it: a thousand blank pictures are no million pairs."""
    indices: dict[int, list[int]] = defaultdict(list)
    for index, value in enumerate(hashes):
        indices[value].append(index)
    return list(indices), list(indices.values())


def merge_groups(groups: Sequence[str], hashes: Sequence[int], distance: int = NEAR) -> list[str]:
    """Give pictures that look the same one common group (the alphabetically first), transitively."""
    parent = {group: group for group in groups}

    def root(group: str) -> str:
        while parent[group] != group:
            parent[group] = parent[parent[group]]
            group = parent[group]
        return group

    def join(one: str, other: str) -> None:
        first, second = sorted((root(one), root(other)))
        parent[second] = first

    distinct, indices = _same(hashes)
    for same in indices:
        for index in same[1:]:
            join(groups[same[0]], groups[index])
    for i, j in near_pairs(distinct, distance):
        join(groups[indices[i][0]], groups[indices[j][0]])
    return [root(group) for group in groups]


def assign(groups: Sequence[str], strata: Sequence[Hashable], seed: int) -> list[Split]:
    """Split whole groups 70/15/15 so that each stratum (source and label) is spread as evenly as its groups allow.

    Greedy over the groups in seeded random order, the largest first: each goes where its strata are furthest below
    their share. A stratum's first group goes to training: a class seen only in a test set could never be learnt.
    """
    members: dict[str, Counter[Hashable]] = defaultdict(Counter)
    for group, stratum in zip(groups, strata, strict=True):
        members[group][stratum] += 1
    total = Counter(strata)
    order = sorted(members)
    np.random.default_rng(seed).shuffle(order)
    order.sort(key=lambda group: -sum(members[group].values()))
    held: dict[Split, Counter[Hashable]] = {split: Counter() for split in SHARES}
    chosen: dict[str, Split] = {}
    for group in order:

        def missing(split: Split, group: str = group) -> float:
            return sum(
                count * (1.0 - held[split][stratum] / (SHARES[split] * total[stratum]))
                for stratum, count in members[group].items()
            )

        split = max(SHARES, key=missing)
        chosen[group] = split
        held[split].update(members[group])
    return [chosen[group] for group in groups]


def require_no_leak(
    splits: Sequence[str], groups: Sequence[str], digests: Sequence[str], hashes: Sequence[int | None]
) -> None:
    """Raise SplitLeakError if a group, a sha1 or a near hash crosses a border between splits.

    Empty digests and hashes that are None are skipped.
    """
    for name, keys in (("group", groups), ("sha1", digests)):
        seen: dict[str, str] = {}
        for key, split in zip(keys, splits, strict=True):
            if key and seen.setdefault(key, split) != split:
                raise SplitLeakError(
                    "split-leak", f"{name} {key} is in both {seen[key]} and {split}.", "Merge the groups."
                )
    known = [index for index, value in enumerate(hashes) if value is not None]
    distinct, same = _same([value for value in hashes if value is not None])
    indices = [[known[index] for index in members] for members in same]
    alike = [(members[0], index) for members in indices for index in members[1:]]
    alike += [(indices[i][0], indices[j][0]) for i, j in near_pairs(distinct)]
    for first, second in alike:
        if splits[first] != splits[second]:
            raise SplitLeakError(
                "split-leak",
                f"{groups[first]} ({splits[first]}) and {groups[second]} ({splits[second]}) look the same.",
                "Merge their groups before splitting.",
            )

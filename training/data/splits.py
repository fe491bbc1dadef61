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


class SplitLeakError(LeukoError):
    """The same picture stands on both sides of a border between splits."""


def difference_hash(image: Image) -> int:
    """Compute the 64-bit difference hash of a picture: is each of 8x8 cells darker than its right neighbour?"""
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (9, 8), interpolation=cv2.INTER_AREA)
    return int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes(), "big")


def _distances(one: int, others: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    bits = np.unpackbits((others ^ np.uint64(one)).view(np.uint8).reshape(-1, 8), axis=1)
    return np.asarray(bits.sum(axis=1, dtype=np.int64))


def near_pairs(hashes: Sequence[int], distance: int = NEAR) -> list[tuple[int, int]]:
    """Index pairs (i < j) of hashes that differ in at most `distance` bits."""
    array = np.array(hashes, dtype=np.uint64)
    return [
        (i, i + 1 + int(j))
        for i in range(len(array) - 1)
        for j in np.flatnonzero(_distances(int(array[i]), array[i + 1 :]) <= distance)
    ]


def merge_groups(groups: Sequence[str], hashes: Sequence[int], distance: int = NEAR) -> list[str]:
    """Give pictures that look the same one common group (the alphabetically first), transitively."""
    parent = {group: group for group in groups}

    def root(group: str) -> str:
        while parent[group] != group:
            parent[group] = parent[parent[group]]
            group = parent[group]
        return group

    for i, j in near_pairs(hashes, distance):
        first, second = sorted((root(groups[i]), root(groups[j])))
        parent[second] = first
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
    for i, j in near_pairs([value for value in hashes if value is not None]):
        first, second = known[i], known[j]
        if splits[first] != splits[second]:
            raise SplitLeakError(
                "split-leak",
                f"{groups[first]} ({splits[first]}) and {groups[second]} ({splits[second]}) look the same.",
                "Merge their groups before splitting.",
            )

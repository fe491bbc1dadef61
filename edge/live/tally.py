"""The running count of a session. The same fields in the same order give the same count, live or from the journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from edge.core.differential import differential
from edge.core.labels import LABELS
from edge.core.types import CellCall, Differential, Quality
from edge.imaging.quality import QualityReference, completed, judge, reference_from
from edge.session import REFERENCE_FIELDS


class Tally:
    """Counts the cells of accepted fields.

    What no commissioning record says of a good field is learned from the first `REFERENCE_FIELDS` fields that are
    counted. They are then held against it themselves: one that falls short is withdrawn, and its cells with it.
    """

    def __init__(self, ranges: Mapping[str, tuple[float, float]], reference: QualityReference | None = None) -> None:
        self._ranges = ranges
        self.reference = reference
        self._learns = reference is None or reference.focus is None
        self._learning: list[tuple[Quality, tuple[CellCall, ...]]] = []
        self._calls: list[CellCall] = []
        self.withdrawals: Counter[str] = Counter()
        self.withdrawn = 0
        self.learned = 0
        self._differential = differential((), ranges)

    def add(self, quality: Quality, calls: Sequence[CellCall]) -> bool:
        """Count an accepted field with the cells that are new in it; return whether the count changed."""
        self._calls += calls
        changed = bool(calls)
        if self._learns:
            self._learning.append((quality, tuple(calls)))
            if len(self._learning) >= REFERENCE_FIELDS:
                changed = self._learn() or changed
        if changed:
            self._differential = differential(self._calls, self._ranges)
        return changed

    @property
    def differential(self) -> Differential:
        """The running differential with its intervals."""
        return self._differential

    @property
    def classes(self) -> Mapping[str, int]:
        """Counted cells by class."""
        return MappingProxyType({label: self._differential.classes[label].count for label in LABELS})

    @property
    def other(self) -> int:
        """Abstained cells and those that are none of the five."""
        return self._differential.other

    def _learn(self) -> bool:
        learned = reference_from([quality for quality, _ in self._learning])
        self.reference = completed(self.reference, learned)
        self._learns = False
        gone = False
        self._calls = []
        for quality, calls in self._learning:
            judged = judge(quality, self.reference)
            if judged.accepted:
                self._calls += calls
            else:
                self.withdrawals.update(judged.reasons)
                self.withdrawn += 1
                gone = gone or bool(calls)
        self.learned = len(self._learning)
        self._learning = []
        return gone

"""Which cells of a result a person should look at, the doubtful ones first, and what each call rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from edge.core.labels import LABELS, OTHER
from edge.core.types import Box, ResultRecord
from edge.review.places import Place

SURE: Final = 0.9
"""Probability of the called class from which a call is not put before a person by itself.

A proposal, not a published limit. What it means depends on the bundle's calibration: see its model card.
"""

Doubt = Literal["unclassified", "uncertain", "none"]

_ORDER: Final[Mapping[str, int]] = {"unclassified": 0, "uncertain": 1, "none": 2}

TELLING_APART: Final[Mapping[frozenset[str], str]] = {
    frozenset({"lymphocyte", "monocyte"}): (
        "Lymphocyte: round, dense nucleus, little clear blue cytoplasm. "
        "Monocyte: folded, lacy nucleus, wide grey-blue cytoplasm, often with vacuoles."
    ),
    frozenset({"neutrophil", "eosinophil"}): (
        "Neutrophil: fine, pale granules, three to five lobes. "
        "Eosinophil: large, even, orange-red granules, mostly two lobes."
    ),
    frozenset({"neutrophil", "monocyte"}): (
        "Neutrophil: dense nucleus in lobes or a band, pink cytoplasm. "
        "Monocyte: folded, lacy nucleus without lobes, grey-blue cytoplasm."
    ),
    frozenset({"neutrophil", "basophil"}): (
        "Basophil: coarse, dark granules that lie over the nucleus. Neutrophil: fine granules, the lobes in plain view."
    ),
    frozenset({"eosinophil", "basophil"}): (
        "Eosinophil: orange-red granules beside the nucleus. Basophil: blue-black granules over the nucleus."
    ),
    frozenset({"lymphocyte", "basophil"}): (
        "Lymphocyte: smooth, round nucleus with a clear edge. Basophil: the nucleus is veiled by coarse, dark granules."
    ),
    frozenset({"neutrophil", "lymphocyte"}): (
        "Neutrophil: nucleus in lobes or a band, pink cytoplasm. Lymphocyte: one round nucleus, little blue cytoplasm."
    ),
    frozenset({"monocyte", "eosinophil"}): (
        "Monocyte: no visible granules, lacy, folded nucleus. Eosinophil: large orange-red granules, mostly two lobes."
    ),
    frozenset({"lymphocyte", "eosinophil"}): (
        "Lymphocyte: one round nucleus, clear cytoplasm. Eosinophil: orange-red granules, mostly two lobes."
    ),
    frozenset({"monocyte", "basophil"}): (
        "Monocyte: large, grey-blue, no coarse granules. Basophil: smaller, coarse, dark granules over the nucleus."
    ),
}
"""What tells two classes apart on a Romanowsky-stained smear, as haematology atlases describe them."""


@dataclass(frozen=True, slots=True)
class LookAlike:
    """The two most probable classes of a cell, with their probabilities 0..1, and what tells them apart."""

    first: str
    first_probability: float
    second: str
    second_probability: float
    telling: str

    @property
    def lead(self) -> float:
        """How much more probable the first is, 0..1."""
        return self.first_probability - self.second_probability


@dataclass(frozen=True, slots=True)
class HandCall:
    """A person's call of a cell, with what the model had said: its label, and the reason if it had abstained."""

    operator: str
    why: str
    model_label: str
    model_abstained: bool
    model_reason: str | None


@dataclass(frozen=True, slots=True)
class ReviewCell:
    """One cell as a reviewer sees it.

    `group` is where it is counted: one of the five, or `other`. `probabilities` are the model's, most probable first.
    `hand` is None unless a person called the cell.
    """

    place: Place
    box: Box
    label: str
    group: str
    probabilities: tuple[tuple[str, float], ...]
    reason: str | None
    doubt: Doubt
    pair: LookAlike
    hand: HandCall | None
    has_activation: bool

    @property
    def best(self) -> float:
        """Probability of the most probable of the five classes."""
        return self.probabilities[0][1]


def worklist(record: ResultRecord) -> tuple[ReviewCell, ...]:
    """All cells of a result in the order they should be looked at.

    First the unclassified (abstained, or `other`), then the uncertain, then the rest; within each the smallest lead of
    the most probable class over the next comes first. A cell that a person has called comes last. Raises KeyError,
    TypeError or ValueError when the document is not one of an analysis.
    """
    shown = {(picture.field, picture.cell) for picture in record.pictures if picture.kind == "activation"}
    cells = [
        review_cell(Place(field, cell), entry, (field, cell) in shown)
        for field, found in enumerate(record.document["fields"])
        for cell, entry in enumerate(found.get("cells", ()))
    ]
    return tuple(sorted(cells, key=_urgency))


def doubtful(cells: tuple[ReviewCell, ...]) -> tuple[ReviewCell, ...]:
    """Those cells of a worklist that wait for a person."""
    return tuple(cell for cell in cells if cell.doubt != "none")


def review_cell(where: Place, entry: Mapping[str, Any], has_activation: bool) -> ReviewCell:
    """Read one cell of a document."""
    probabilities = tuple(
        sorted(((label, float(entry["probabilities"][label])) for label in LABELS), key=lambda pair: -pair[1])
    )
    label, abstained = str(entry["label"]), bool(entry["abstained"])
    hand = _hand(entry.get("reviewed"))
    (first, first_probability), (second, second_probability) = probabilities[:2]
    x, y, width, height = (int(value) for value in entry["box"])
    group = OTHER if abstained or label not in LABELS else label
    return ReviewCell(
        place=where,
        box=Box(x, y, width, height),
        label=label,
        group=group,
        probabilities=probabilities,
        reason=None if entry.get("reason") is None else str(entry["reason"]),
        doubt=_doubt(group, first_probability, hand),
        pair=LookAlike(first, first_probability, second, second_probability, TELLING_APART[frozenset({first, second})]),
        hand=hand,
        has_activation=has_activation,
    )


def _hand(entry: Any) -> HandCall | None:
    if not isinstance(entry, Mapping):
        return None
    model = entry["model"]
    return HandCall(
        operator=str(entry["operator"]),
        why=str(entry["reason"]),
        model_label=str(model["label"]),
        model_abstained=bool(model["abstained"]),
        model_reason=None if model.get("reason") is None else str(model["reason"]),
    )


def _doubt(group: str, best: float, hand: HandCall | None) -> Doubt:
    if hand is not None:
        return "none"
    if group == OTHER:
        return "unclassified"
    return "uncertain" if best < SURE else "none"


def _urgency(cell: ReviewCell) -> tuple[int, int, float, Place]:
    return (int(cell.hand is not None), _ORDER[cell.doubt], cell.pair.lead, cell.place)

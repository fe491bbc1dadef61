"""What the pages show of a case, laid out for the templates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from edge.core.labels import LABELS
from edge.hub import times
from edge.hub.cases import Case
from edge.report.wording import FLAGS, LETTERS, NAMES, REASONS, RESEARCH_USE, STATUS, TIERS
from edge.review.places import CHOICES
from edge.review.worklist import ReviewCell


@dataclass(frozen=True, slots=True)
class FieldCard:
    """A field: its picture, and the boxes of its cells. `size` is the height of a box's letter, in its pixels."""

    number: int
    width: int
    height: int
    picture: str | None
    accepted: bool
    reasons: tuple[str, ...]
    error: str | None
    cells: tuple[ReviewCell, ...]
    size: float


@dataclass(frozen=True, slots=True)
class CellCard:
    """A cell with its pictures, by hash; None for one that is not here."""

    cell: ReviewCell
    crop: str | None
    activation: str | None


@dataclass(frozen=True, slots=True)
class ShareRow:
    """A row of the differential; `percent` and `interval` are None when they are withheld."""

    label: str
    count: int
    percent: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class CaseView:
    """A case for its page. `understood` is False for a document that is none of an analysis."""

    understood: bool
    fields: tuple[FieldCard, ...]
    cells: tuple[CellCard, ...]
    shares: tuple[ShareRow, ...]
    counted: int | None
    other: int | None
    tier: str
    flags: tuple[str, ...]
    doubtful: int


def case_view(case: Case, cells: tuple[ReviewCell, ...]) -> CaseView:
    """Lay a case out. A document of another shape gives a view that says so."""
    pictures = {(each.kind, each.field, each.cell): each.sha256 for each in case.pictures if each.here}
    try:
        return _view(case.document, pictures, cells)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return CaseView(False, (), (), (), None, None, "insufficient", (), 0)


def _view(
    document: Mapping[str, Any], pictures: Mapping[tuple[str, int, int | None], str], cells: tuple[ReviewCell, ...]
) -> CaseView:
    differential = document["differential"]
    shares = []
    for label in LABELS:
        share = differential["classes"][label]
        wilson = share["wilson"]
        shares.append(
            ShareRow(
                label,
                int(share["count"]),
                None if share["percent"] is None else float(share["percent"]),
                None if wilson is None else (float(wilson[0]), float(wilson[1])),
            )
        )
    tier = str(differential["tier"])
    return CaseView(
        understood=True,
        fields=tuple(
            _field(number, entry, pictures, tuple(each for each in cells if each.place.field == number))
            for number, entry in enumerate(document["fields"])
        ),
        cells=tuple(
            CellCard(
                cell,
                pictures.get(("cell", cell.place.field, cell.place.cell)),
                pictures.get(("activation", cell.place.field, cell.place.cell)),
            )
            for cell in cells
        ),
        shares=tuple(shares),
        counted=int(differential["counted"]),
        other=int(differential["other"]),
        tier=tier if tier in TIERS else "insufficient",
        flags=tuple(str(flag) for flag in differential["flags"]),
        doubtful=sum(cell.doubt != "none" for cell in cells),
    )


def _field(
    number: int,
    entry: Mapping[str, Any],
    pictures: Mapping[tuple[str, int, int | None], str],
    cells: tuple[ReviewCell, ...],
) -> FieldCard:
    if "error" in entry:
        return FieldCard(number + 1, 0, 0, None, False, (), str(entry["error"]["code"]), (), 0)
    width, height = int(entry["width"]), int(entry["height"])
    quality = entry["quality"]
    return FieldCard(
        number=number + 1,
        width=width,
        height=height,
        picture=pictures.get(("field", number, None)),
        accepted=bool(quality["accepted"]),
        reasons=tuple(str(reason) for reason in quality["reasons"]),
        error=None,
        cells=tuple(sorted(cells, key=lambda each: each.place)),
        size=max(width, height) / 24,
    )


def _moment(written: str | None) -> str:
    moment = None if written is None else times.parse(written)
    return "not known" if moment is None else moment.strftime("%Y-%m-%d %H:%M UTC")


def _size(number: int | None) -> str:
    return "not known" if number is None else f"{number / 1e9:.1f} GB"


def _flag(flag: str) -> str:
    name, _, label = flag.partition(":")
    if name == "interval-crosses-limit":
        return f"{NAMES.get(label, label)}: the interval crosses a limit of the reference range"
    return FLAGS[name].title if name in FLAGS else flag


def _reason(reason: str) -> str:
    return REASONS[reason].title if reason in REASONS else reason


FILTERS: Final[Mapping[str, Callable[..., str]]] = {"moment": _moment, "size": _size, "flag": _flag, "reason": _reason}
"""What templates write values with."""

WORDS: Final[Mapping[str, Any]] = {
    "NAMES": {**NAMES, "other": "Other"},
    "LETTERS": LETTERS,
    "STATUS": STATUS,
    "TIERS": TIERS,
    "CHOICES": CHOICES,
    "RESEARCH_USE": RESEARCH_USE,
}
"""What templates call things."""

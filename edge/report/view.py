"""A record's public JSON as typed values, in the order a report needs them.

Reading is lenient where a document may be older or come from elsewhere, and strict where a number would be claimed:
a percentage is only taken over when the tier and the count both allow it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from edge.core.labels import LABELS, OTHER
from edge.core.types import Picture, ResultRecord
from edge.report.wording import TIERS

CLAIM_FROM = 100
"""Counted cells below which no percentage is claimed (CLSI H20 practice; see the tiers of `edge.core`)."""

Reading = Literal["within", "above", "below", "indeterminate"]


@dataclass(frozen=True, slots=True)
class CellView:
    """One cell as the report shows it. `field` and `index` are positions in the document, from 0."""

    field: int
    index: int
    box: tuple[float, float, float, float]
    label: str
    ranked: tuple[tuple[str, float], ...]
    abstained: bool
    reason: str | None
    hand: str | None = None
    """Who called it by hand; None when the call is the model's."""

    @property
    def group(self) -> str:
        """The class it was counted in, or `other` when a person has to look at it."""
        return OTHER if self.abstained or self.label not in LABELS else self.label

    @property
    def probability(self) -> float | None:
        """Probability of the most probable of the five classes, 0..1."""
        return self.ranked[0][1] if self.ranked else None


@dataclass(frozen=True, slots=True)
class FieldView:
    """One field that could be read. `figures` are the quality figures by name; None where one could not be judged."""

    index: int
    file: str
    width: int
    height: int
    accepted: bool
    reasons: tuple[str, ...]
    figures: Mapping[str, float | None]
    background: tuple[float, ...] | None
    cells: tuple[CellView, ...]

    @property
    def number(self) -> int:
        """The number people see, from 1."""
        return self.index + 1


@dataclass(frozen=True, slots=True)
class FailureView:
    """One field that could not be read."""

    index: int
    file: str
    code: str
    message: str

    @property
    def number(self) -> int:
        """The number people see, from 1."""
        return self.index + 1


@dataclass(frozen=True, slots=True)
class ShareView:
    """One row of the differential. Percentages and intervals are 0..100, and None when they may not be claimed."""

    label: str
    count: int
    percent: float | None
    wilson: tuple[float, float] | None
    exact: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class ReportView:
    """Everything the report shows of a record's document."""

    fields: tuple[FieldView, ...]
    failures: tuple[FailureView, ...]
    counted: int
    tier: str
    shares: tuple[ShareView, ...]
    other: int
    flags: tuple[str, ...]
    elapsed_seconds: float | None
    pictures: Mapping[tuple[str, int, int | None], bytes] = field(repr=False)

    @property
    def countable(self) -> bool:
        """Whether enough cells were counted for percentages to mean anything."""
        return self.tier != "insufficient" and self.counted >= CLAIM_FROM

    @property
    def claimable(self) -> bool:
        """Whether percentages may be shown: enough cells, and none withheld (too many cells may need review)."""
        return self.countable and all(share.percent is not None for share in self.shares)

    @property
    def accepted(self) -> tuple[FieldView, ...]:
        """The fields that passed the quality gate."""
        return tuple(f for f in self.fields if f.accepted)

    @property
    def rejected(self) -> tuple[FieldView, ...]:
        """The fields that the quality gate refused."""
        return tuple(f for f in self.fields if not f.accepted)

    @property
    def cells(self) -> tuple[CellView, ...]:
        """All cells of all fields."""
        return tuple(cell for f in self.fields for cell in f.cells)

    def group(self, name: str) -> tuple[CellView, ...]:
        """Select the cells of one class, the least certain first: those are the ones worth a second look."""
        chosen = (cell for cell in self.cells if cell.group == name)
        return tuple(sorted(chosen, key=lambda c: (c.probability or 0.0, c.field, c.index)))

    @property
    def folder(self) -> str:
        """The folder that all files share, with its closing slash; empty when there is none."""
        paths = [f.file.split("/")[:-1] for f in self.fields] + [f.file.split("/")[:-1] for f in self.failures]
        shared: list[str] = []
        for parts in zip(*paths, strict=False):
            if len(set(parts)) > 1:
                break
            shared.append(parts[0])
        return "/".join(shared) + "/" if any(shared) else ""

    def name(self, file: str) -> str:
        """Call a file as it is called within `folder`."""
        return file.removeprefix(self.folder)

    @property
    def adds_up(self) -> bool:
        """Whether the listed cells give the differential that is shown. They must; a record may be damaged."""
        counts = {share.label: share.count for share in self.shares} | {OTHER: self.other}
        return all(len(self.group(name)) == count for name, count in counts.items()) and self.counted == sum(
            share.count for share in self.shares
        )


def view(record: ResultRecord) -> ReportView:
    """Read a record for display.

    Raises:
        KeyError, TypeError or ValueError when the document is not one of `analyze`.
    """
    document = record.document
    fields: list[FieldView] = []
    failures: list[FailureView] = []
    for index, entry in enumerate(document["fields"]):
        if "error" in entry:
            failures.append(_failure(index, entry))
        else:
            fields.append(_field(index, entry))
    differential = document["differential"]
    counted = int(differential["counted"])
    tier = str(differential["tier"]) if differential["tier"] in TIERS else "insufficient"
    claim = tier != "insufficient" and counted >= CLAIM_FROM
    classes = differential["classes"]
    return ReportView(
        fields=tuple(fields),
        failures=tuple(failures),
        counted=counted,
        tier=tier if claim else "insufficient",
        shares=tuple(_share(label, classes.get(label, {}), claim) for label in LABELS),
        other=int(differential["other"]),
        flags=tuple(str(flag) for flag in differential.get("flags", ())),
        elapsed_seconds=_figure(document.get("elapsed_seconds")),
        pictures=_by_place(record.pictures),
    )


def reading(share: ShareView, limits: tuple[float, float] | None) -> Reading | None:
    """Say where a class lies against its reference range, or None when nothing may be said.

    Both intervals must agree: "within" needs both inside the range, "above" and "below" both outside it. An interval
    that crosses a limit is "indeterminate".
    """
    if share.percent is None or share.wilson is None or share.exact is None or limits is None:
        return None
    low, high = min(share.wilson[0], share.exact[0]), max(share.wilson[1], share.exact[1])
    # At 0 of n, and n of n, rounding leaves a Wilson limit a hair beyond 0 or 100.
    low, high = max(low, 0.0), min(high, 100.0)
    if low > limits[1]:
        return "above"
    if high < limits[0]:
        return "below"
    if low >= limits[0] and high <= limits[1]:
        return "within"
    return "indeterminate"


def _by_place(pictures: Sequence[Picture]) -> dict[tuple[str, int, int | None], bytes]:
    return {(picture.kind, picture.field, picture.cell): picture.jpeg for picture in pictures}


def _figure(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def _failure(index: int, entry: Mapping[str, Any]) -> FailureView:
    error = entry["error"]
    code, message = (
        (str(error.get("code", "")), str(error.get("message", "")))
        if isinstance(error, Mapping)
        else ("unreadable", str(error))
    )
    return FailureView(index=index, file=str(entry["file"]), code=code, message=message)


def _field(index: int, entry: Mapping[str, Any]) -> FieldView:
    quality = entry["quality"]
    background = quality.get("background")
    return FieldView(
        index=index,
        file=str(entry["file"]),
        width=int(entry["width"]),
        height=int(entry["height"]),
        accepted=bool(quality["accepted"]),
        reasons=tuple(str(reason) for reason in quality.get("reasons", ())),
        figures={
            name: _figure(value) for name, value in quality.items() if name not in {"accepted", "reasons", "background"}
        },
        background=tuple(float(value) for value in background) if background else None,
        cells=tuple(_cell(index, position, cell) for position, cell in enumerate(entry.get("cells", ()))),
    )


def _cell(field_index: int, index: int, entry: Mapping[str, Any]) -> CellView:
    x, y, width, height = (float(value) for value in entry["box"])
    ranked = sorted(((str(name), float(p)) for name, p in entry["probabilities"].items()), key=lambda pair: -pair[1])
    return CellView(
        field=field_index,
        index=index,
        box=(x, y, width, height),
        label=str(entry["label"]),
        ranked=tuple(ranked),
        abstained=bool(entry["abstained"]),
        reason=None if entry.get("reason") is None else str(entry["reason"]),
        hand=str(entry["reviewed"].get("operator", "")) if isinstance(entry.get("reviewed"), Mapping) else None,
    )


def _share(label: str, entry: Mapping[str, Any], claim: bool) -> ShareView:
    percent = _figure(entry.get("percent")) if claim else None
    wilson, exact = entry.get("wilson"), entry.get("clopper_pearson")
    return ShareView(
        label=label,
        count=int(entry.get("count", 0)),
        percent=percent,
        wilson=None if percent is None or wilson is None else (float(wilson[0]), float(wilson[1])),
        exact=None if percent is None or exact is None else (float(exact[0]), float(exact[1])),
    )

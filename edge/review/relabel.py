"""A person's corrections as the next version of a result, its differential counted anew. Nothing is edited in place.

A corrected cell keeps the model's probabilities, and says under `reviewed` who called it, why, and what the model had
said; the document's `differential` is computed by the same function as the first one.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from edge.core.differential import differential
from edge.core.errors import UsageError
from edge.core.labels import LABELS
from edge.core.types import Box, CellCall, Differential, ResultRecord
from edge.report.document import differential_document
from edge.review.places import Change, Place, checked


def relabelled(
    record: ResultRecord,
    changes: Sequence[Change],
    *,
    operator: str,
    reason: str,
    ranges: Mapping[str, tuple[float, float]],
    signed: bool,
) -> ResultRecord:
    """Give the next version of `record` with these cells called by a person.

    `signed` says whether any version has been signed: the new one is then "corrected", else "preliminary" again.
    `ranges` are the reference ranges that flags are computed against. A cell that is called what it is called already
    becomes a person's call too. The given record stays as it is.

    Raises `UsageError`: `no-change`, `operator-missing`, `reason-missing`, `label-unknown`, `cell-unknown`,
    `cell-twice`.
    """
    _require(changes, operator, reason)
    document = copy.deepcopy(dict(record.document))
    for wanted in changes:
        entry = _entry(document, checked(wanted).place)
        before = entry.get("reviewed")
        model = before["model"] if isinstance(before, Mapping) else _model_call(entry)
        entry["label"] = wanted.label
        entry["abstained"] = False
        entry["reason"] = None
        entry["reviewed"] = {"operator": operator.strip(), "reason": reason.strip(), "model": model}
    counted = differential_document(recount(document, ranges))
    counted["flags"] += [flag for flag in record.document["differential"]["flags"] if not _computed(flag)]
    document["differential"] = counted
    return dataclasses.replace(
        record,
        version=record.version + 1,
        operator=operator.strip(),
        status="corrected" if signed else "preliminary",
        document=document,
    )


def recount(document: Mapping[str, Any], ranges: Mapping[str, tuple[float, float]]) -> Differential:
    """Count the cells of a document as they are called in it."""
    calls = (_call(entry) for found in document["fields"] for entry in found.get("cells", ()))
    return differential(calls, ranges)


def _computed(flag: str) -> bool:
    """Whether a flag speaks of the count; one that speaks of the sample or the device stays as it is."""
    return flag in {"no-cells", "low-count", "other-rate-high"} or flag.startswith("interval-crosses-limit:")


def _require(changes: Sequence[Change], operator: str, reason: str) -> None:
    if not changes:
        raise UsageError("no-change", "No cell is named.", "Name at least one, as 3.2=monocyte.")
    if not operator.strip():
        raise UsageError("operator-missing", "Nobody is named who calls the cells.", "Name the operator.")
    if not reason.strip():
        raise UsageError("reason-missing", "No reason is given.", "Say in a few words why the cells are called anew.")
    places = [wanted.place for wanted in changes]
    twice = next((where for where in places if places.count(where) > 1), None)
    if twice is not None:
        raise UsageError("cell-twice", f"Cell {twice} is named twice.", "Give each cell one class.")


def _entry(document: Mapping[str, Any], where: Place) -> dict[str, Any]:
    fields = document["fields"]
    cells = fields[where.field].get("cells", ()) if where.field < len(fields) else ()
    if where.cell >= len(cells):
        raise UsageError(
            "cell-unknown",
            f"There is no cell {where} in this result.",
            "List the cells: leuko review show RESULT --all",
        )
    entry: dict[str, Any] = cells[where.cell]
    return entry


def _model_call(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {"label": entry["label"], "abstained": bool(entry["abstained"]), "reason": entry.get("reason")}


def _call(entry: Mapping[str, Any]) -> CellCall:
    return CellCall(
        label=str(entry["label"]),
        probabilities=tuple(float(entry["probabilities"][label]) for label in LABELS),
        abstained=bool(entry["abstained"]),
        reason=entry.get("reason"),
        box=Box(*(int(value) for value in entry["box"])),
    )

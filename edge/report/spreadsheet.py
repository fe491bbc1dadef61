"""A result as comma-separated values, for a spreadsheet: its differential, or its cells."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any, Final

from edge.core.labels import LABELS, LOINC, OTHER
from edge.core.types import ResultRecord

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def differential(record: ResultRecord) -> str:
    """One row for each class and `other`; percentages and 95 % limits are 0-100, empty where they are not claimed."""
    counts = record.document["differential"]
    rows: list[list[Any]] = [
        [
            *("sample", "result", "version", "status", "operator", "device", "created", "clock", "bundle"),
            *("counted", "tier", "class", "loinc", "count", "percent"),
            *("wilson_low", "wilson_high", "clopper_pearson_low", "clopper_pearson_high", "flags"),
        ]
    ]
    stamp = [
        *(record.sample, record.id, record.version, record.status, record.operator, record.device),
        *(record.created.wall, record.created.tier, record.bundle, counts["counted"], counts["tier"]),
    ]
    flags = " ".join(counts["flags"])
    for label in LABELS:
        share = counts["classes"][label]
        limits = [*(share["wilson"] or (None, None)), *(share["clopper_pearson"] or (None, None))]
        rows.append([*stamp, label, LOINC[label], share["count"], share["percent"], *limits, flags])
    rows.append([*stamp, OTHER, LOINC[OTHER], counts["other"], None, None, None, None, None, flags])
    return _written(rows)


def cells(record: ResultRecord) -> str:
    """One row for each cell, fields and cells counted from 1, boxes in pixels of the field."""
    rows: list[list[Any]] = [
        [
            *("sample", "result", "version", "field", "cell", "file", "x", "y", "width", "height"),
            *("label", "abstained", "reason", *LABELS, "reviewed_by", "review_reason", "model_label"),
        ]
    ]
    for number, found in enumerate(record.document["fields"], start=1):
        for position, entry in enumerate(found.get("cells", ()), start=1):
            reviewed = entry.get("reviewed") or {}
            rows.append(
                [
                    *(record.sample, record.id, record.version, number, position, found["file"], *entry["box"]),
                    *(entry["label"], entry["abstained"], entry["reason"]),
                    *(entry["probabilities"][label] for label in LABELS),
                    *(reviewed.get("operator"), reviewed.get("reason")),
                    reviewed["model"]["label"] if reviewed else entry["label"],
                ]
            )
    return _written(rows)


def _written(rows: Iterable[list[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerows([_harmless(value) for value in row] for row in rows)
    return text.getvalue()


def _harmless(value: Any) -> Any:
    """Keep a spreadsheet from running a sample's or a file's name as a formula: an apostrophe marks it as text."""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return "" if value is None else value

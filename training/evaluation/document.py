"""The machine's copy of an evaluation: `evaluation.json`. Its keys are described in docs/evaluation.md."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from training.config import CLASSES
from training.evaluation.aggregate import Group, Judged, summary
from training.evaluation.judge import Row, View
from training.metrics import Figures

SCHEMA: Final = 1
"""Raised when a key changes its meaning or goes."""

_CURVE: Final = 101
"""Points of a risk-coverage curve that are written, at even coverages."""


def finite(value: Any) -> Any:
    """Give a JSON value: no tuples, and null for what is no number."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def _figures(figures: Figures) -> dict[str, Any]:
    return {
        "n": figures.n,
        "accuracy": figures.accuracy,
        "balanced_accuracy": figures.balanced_accuracy,
        "balanced_accuracy_populated": figures.balanced_accuracy_populated,
        "populated": list(figures.populated),
        "macro_f1": figures.macro_f1,
        "classes": {
            name: {
                "n": recall.n,
                "recall": recall.value,
                "wilson": [recall.interval.low, recall.interval.high],
                "precision": figures.precision[name],
                "f1": figures.f1[name],
            }
            for name, recall in figures.recall.items()
        },
        "confusion": figures.confusion,
    }


def _view(view: View) -> dict[str, Any]:
    return {
        **_figures(view.figures),
        "auc": view.auc,
        "macro_auc": view.macro_auc,
        "ece": asdict(view.ece),
        "brier": asdict(view.brier),
        "nll": asdict(view.nll),
        "reliability": {"before": [asdict(item) for item in view.bins_before], "after": [asdict(b) for b in view.bins]},
    }


def _row(row: Row) -> dict[str, Any]:
    at = np.linspace(row.selective.coverages[0], 1, _CURVE)
    return {
        "name": row.name,
        "source": row.source,
        "cells": row.note,
        "five": _view(row.five),
        "six": _view(row.six),
        "selective": {
            "aurc": row.selective.aurc,
            "risk_at_90": row.selective.risk,
            "coverage": at.tolist(),
            "risk": np.interp(at, row.selective.coverages, row.selective.risks).tolist(),
        },
        "abstention": asdict(row.abstention),
        "conformal": [asdict(item) for item in row.conformal],
    }


def _system(item: Judged) -> dict[str, Any]:
    found = item.judgement
    return {
        "name": item.system.name,
        "path": str(item.system.path),
        "kind": item.system.kind,
        "seed": item.system.seed,
        "leave_out": list(item.system.leave_out),
        "settings": item.system.settings,
        "calibration": asdict(found.calibration) if found.calibration else None,
        "rows": [_row(row) for row in found.rows],
        "other": {
            "score": found.score,
            "held_out": [asdict(kind) for kind in found.kinds],
            "validation": [asdict(kind) for kind in found.kinds_validation],
        },
        "robustness": [
            {**asdict(each), "relative": each.relative, "mean_relative": each.mean_relative}
            for each in found.robustness
        ],
    }


def document(groups: Sequence[Group], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Give the whole evaluation as JSON values; `facts` say how it was made."""
    written: dict[str, Any] = finite(
        {
            "schema": SCHEMA,
            "classes": list(CLASSES),
            **facts,
            "groups": [
                {
                    "name": members.name,
                    "seeds": list(members.seeds),
                    "leave_out": list(members.leave_out),
                    "summary": {
                        row: {name: asdict(value) if value else None for name, value in values.items()}
                        for row, values in summary(members).items()
                    },
                    "systems": [_system(item) for item in members.members],
                }
                for members in groups
            ],
        }
    )
    return written

"""What was measured over many cells: as tables, and as a document for machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from training.config import CLASSES
from training.explain.study import DEVICE, Explanation, Settings

_MEASURES = {
    "rank_correlation": "rank correlation",
    "overlap": "overlap of the top fifth",
    "pointing": "peak in the nucleus",
    "deletion": "deletion (low is good)",
    "insertion": "insertion (high is good)",
}


def mean(explained: Sequence[Explanation], name: str, measure: str) -> float | None:
    """Mean of a measure of one map over the cells in which it has a value; None where it has none."""
    values = [getattr(each.measures[name], measure) for each in explained]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def nucleus_share(explained: Sequence[Explanation]) -> float:
    """Mean share of the crop that is nucleus: how often a peak anywhere would lie in it."""
    return float(np.mean([each.subject.nucleus.mean() for each in explained]))


def table(explained: Sequence[Explanation]) -> list[list[str]]:
    """One row per map, its measures as means over all cells, under a row of titles."""
    rows = [["map", *_MEASURES.values()]]
    for name in explained[0].maps:
        rows.append([name, *(_shown(mean(explained, name, measure)) for measure in _MEASURES)])
    return rows


def class_table(explained: Sequence[Explanation], measure: str) -> list[list[str]]:
    """One row per explained class, the means of one measure of each map in it, under a row of titles."""
    names = [name for name in explained[0].maps if name != DEVICE or measure == "pointing"]
    rows = [["class", "n", *names]]
    for label in CLASSES:
        cells = [each for each in explained if each.target == label]
        if cells:
            rows.append([label, str(len(cells)), *(_shown(mean(cells, name, measure)) for name in names)])
    return rows


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _markdown_table(rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def markdown(explained: Sequence[Explanation], settings: Settings, subject: str) -> str:
    """All tables in Markdown. `subject` says what the cells are, for example whose validation cells."""
    right = [each.called == each.subject.truth for each in explained if each.subject.truth is not None]
    calls = f" The network calls {sum(right)} of {len(right)} rightly." if right else ""
    parts = [
        f"n = {len(explained)} cells, seed {settings.seed}: {subject}.{calls} Means over the cells.",
        _markdown_table(table(explained)),
        f"The nucleus covers {nucleus_share(explained):.2f} of the crop: as often would a peak anywhere lie in it.",
    ]
    for measure in ("rank_correlation", "overlap", "pointing"):
        title = _MEASURES[measure].capitalize()
        parts += [f"{title}, by the class that is explained:", _markdown_table(class_table(explained, measure))]
    return "\n\n".join(parts) + "\n"


def document(explained: Sequence[Explanation], settings: Settings, errors: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Everything that was measured, as JSON values; a measure without a value is null."""
    return {
        "settings": asdict(settings),
        "cells": [_cell(each) for each in explained],
        "errors": list(errors),
        "summary": _summary(explained),
        "by_class": {
            label: _summary(cells)
            for label in CLASSES
            if (cells := [each for each in explained if each.target == label])
        },
    }


def _summary(explained: Sequence[Explanation]) -> dict[str, Any]:
    if not explained:
        return {"cells": 0, "maps": {}}
    return {
        "cells": len(explained),
        "nucleus_share": _rounded(nucleus_share(explained)),
        "maps": {
            name: {measure: _rounded(mean(explained, name, measure)) for measure in _MEASURES}
            for name in explained[0].maps
        },
    }


def _cell(explanation: Explanation) -> dict[str, Any]:
    subject = explanation.subject
    return {
        "picture": subject.picture,
        "box": asdict(subject.box) if subject.box is not None else None,
        "source": subject.source,
        "truth": subject.truth,
        "called": explanation.called,
        "explained": explanation.target,
        "probabilities": {
            label: _rounded(value) for label, value in zip(CLASSES, explanation.probabilities, strict=True)
        },
        "maps": {
            name: {measure: _rounded(value) for measure, value in asdict(measures).items()}
            for name, measures in explanation.measures.items()
        },
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)

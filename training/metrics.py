"""Figures of a classifier on one source. Accuracy alone is never the headline: classes are weighted alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.core.differential import wilson
from edge.core.types import Interval
from training.config import CLASSES

Integers = npt.NDArray[np.int64]

POPULATED = 4
"""A class with fewer cells than this is too small for its recall to weigh as much as another's."""


@dataclass(frozen=True, slots=True)
class ClassRecall:
    """Recall of one class over `n` cells, with its 95 % Wilson interval."""

    n: int
    value: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures on one source. `confusion[i][j]` counts cells of class i called j, both in the order of CLASSES."""

    source: str
    n: int
    balanced_accuracy: float
    macro_f1: float
    recall: dict[str, ClassRecall]
    confusion: tuple[tuple[int, ...], ...]

    @property
    def accuracy(self) -> float:
        """Share of the cells that are called rightly. Never the headline: it forgives what rare classes suffer."""
        return float(np.trace(np.array(self.confusion)) / self.n)

    @property
    def populated(self) -> tuple[str, ...]:
        """The classes with at least POPULATED cells."""
        return tuple(name for name, recall in self.recall.items() if recall.n >= POPULATED)

    @property
    def balanced_accuracy_populated(self) -> float | None:
        """Mean recall of the populated classes; None when there is none."""
        values = [self.recall[name].value for name in self.populated]
        return float(np.mean(values)) if values else None

    @property
    def precision(self) -> dict[str, float | None]:
        """Precision of each class that occurs in the truth, 0..1; None when no cell was called so."""
        matrix = np.array(self.confusion)
        called = matrix.sum(axis=0)
        places = {name: CLASSES.index(name) for name in self.recall}
        return {name: float(matrix[at, at] / called[at]) if called[at] else None for name, at in places.items()}

    @property
    def f1(self) -> dict[str, float]:
        """F1 of each class that occurs in the truth: 2 TP / (2 TP + FP + FN)."""
        matrix = np.array(self.confusion)
        places = {name: CLASSES.index(name) for name in self.recall}
        return {
            name: float(2 * matrix[at, at] / (matrix[at].sum() + matrix[:, at].sum())) for name, at in places.items()
        }


def confusion_matrix(truth: Integers, called: Integers, classes: int = len(CLASSES)) -> Integers:
    """Count cells of class i called j: int64[classes, classes]."""
    matrix = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(matrix, (truth, called), 1)
    return matrix


def figures(source: str, truth: Integers, called: Integers) -> Figures:
    """Figures over the classes that occur in the truth: recall, its mean (balanced accuracy), and the mean F1.

    A call of a class that the truth lacks lowers the recall of the cell's own class; it has no F1 of its own.
    Raises ValueError when there is no cell.
    """
    if len(truth) == 0:
        raise ValueError(f"no cells of {source} to judge")
    matrix = confusion_matrix(truth, called)
    per_class: dict[str, ClassRecall] = {}
    f1: list[float] = []
    for index in np.flatnonzero(matrix.sum(axis=1)):
        n, hits = int(matrix[index].sum()), int(matrix[index, index])
        per_class[CLASSES[index]] = ClassRecall(n, hits / n, wilson(hits, n))
        f1.append(2 * hits / (n + int(matrix[:, index].sum())))
    return Figures(
        source=source,
        n=len(truth),
        balanced_accuracy=float(np.mean([recall.value for recall in per_class.values()])),
        macro_f1=float(np.mean(f1)),
        recall=per_class,
        confusion=tuple(tuple(int(count) for count in row) for row in matrix),
    )


def table(rows: Sequence[Figures]) -> str:
    """Give the figures as a Markdown table."""
    lines = ["| source | n | balanced accuracy | macro-F1 | recall (95 % Wilson) |", "|---|---|---|---|---|"]
    for row in rows:
        recalls = ", ".join(
            f"{name} {recall.value:.2f} ({recall.interval.low:.2f}-{recall.interval.high:.2f}, n={recall.n})"
            for name, recall in row.recall.items()
        )
        lines.append(f"| {row.source} | {row.n} | {row.balanced_accuracy:.3f} | {row.macro_f1:.3f} | {recalls} |")
    return "\n".join(lines)

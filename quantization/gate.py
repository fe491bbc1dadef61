"""One network in many forms: what each says of the same cells, and whether it may stand for the network.

The rules are those of the project: the same class for 99 % of the cells of a source, a macro-F1 at most 0.3 points
lower on PBC and 1 point on any other source, and no class whose recall falls by more than 2 points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from edge.core.types import FloatArray
from quantization.errors import ParityError
from quantization.looks import looks
from quantization.parity import Parity, compare
from quantization.variants import Variant
from training.config import CLASSES
from training.metrics import figures
from training.predictions import SecondLook

if TYPE_CHECKING:
    from training.validation import ValidationSet

AGREEMENT: Final = 0.99
MACRO_F1_DROP: Final = 0.01
MACRO_F1_DROP_OF: Final = {"pbc": 0.003}
"""For a source that is not named, MACRO_F1_DROP."""

RECALL_DROP: Final = 0.02

ONE_LOOK: Final = SecondLook(0.0)
"""No second one."""

ONE: Final = 1
"""Cells that no rule is about: in a class of fewer than 50 one cell alone is more than 2 points."""

RULES: Final = (
    "Rules, per source: the same class for at least 99 % of the cells; macro-F1 at most 0.3 points lower on pbc and 1 "
    "point elsewhere; recall of no class lower by more than 2 points. A share is compared in cells: of n cells 1 % "
    "(2 %) may change, rounded down, but one always may, because below 100 (50) cells one cell is more than the rule "
    "allows; macro-F1 is not judged where one cell at most is called otherwise. So a rule says little where n is small."
)


@dataclass(frozen=True, slots=True)
class ClassChange:
    """Of the `n` cells of a class the reference called `before` rightly, the variant `after`."""

    label: str
    n: int
    before: int
    after: int

    @property
    def points(self) -> float:
        """Change of the recall in points of a hundred."""
        return 100 * (self.after - self.before) / self.n


@dataclass(frozen=True, slots=True)
class Row:
    """One variant on one source against the reference; `faults` are the rules that it breaks, in words."""

    variant: str
    logits: Parity
    macro_f1: float
    macro_f1_before: float
    balanced_accuracy: float
    classes: tuple[ClassChange, ...]
    faults: tuple[str, ...]

    @property
    def source(self) -> str:
        """The source of the cells."""
        return self.logits.source


@dataclass(frozen=True, slots=True)
class Compared:
    """Every variant on every source: `rows` are what a device calls the cells, `first` what it says at one look.

    The device looks again at cells as `second_look` says; where it never does the two are the same. The rules are
    about `rows`: a wrong first look that is mended before anyone sees it costs nothing.
    """

    rows: tuple[Row, ...]
    first: tuple[Row, ...]
    second_look: SecondLook

    def table(self) -> str:
        """Give the rows as Markdown, and for the record those of the first look."""
        below, widths = self.second_look.below, self.second_look.widths
        if not below:
            return table(self.rows)
        wider = f", also {' and '.join(f'{width:g}' for width in widths)} times as wide" if widths else ""
        return (
            f"As a device calls the cells, with a second look at those below {below:g}{wider}; this is judged:\n\n"
            f"{table(self.rows)}\n\nOne look at each cell, for the record:\n\n{table(self.first)}"
        )


def judge(variant: str, source: str, labels: npt.NDArray[np.int64], reference: FloatArray, logits: FloatArray) -> Row:
    """Compare a variant's logits float32[N, 6] with the reference's on cells of one source with truth int64[N]."""
    compared = compare(source, reference, logits)
    before, after = reference.argmax(axis=1), logits.argmax(axis=1)
    was, now = figures(source, labels, before.astype(np.int64)), figures(source, labels, after.astype(np.int64))
    classes = tuple(
        ClassChange(
            CLASSES[label],
            int((labels == label).sum()),
            int(((before == label) & (labels == label)).sum()),
            int(((after == label) & (labels == label)).sum()),
        )
        for label in np.unique(labels).tolist()
    )
    changed = int((before != after).sum())
    broken = []
    if changed > _allowed(len(labels), 1 - AGREEMENT):
        broken.append(f"{changed} of {len(labels)} cells get another class")
    allowed = MACRO_F1_DROP_OF.get(source, MACRO_F1_DROP)
    if changed > ONE and was.macro_f1 - now.macro_f1 > allowed:
        broken.append(f"macro-F1 falls by {100 * (was.macro_f1 - now.macro_f1):.2f} points")
    broken += [
        f"{item.label} pays: {item.before} of {item.n} were right, now {item.after}"
        for item in classes
        if item.before - item.after > _allowed(item.n, RECALL_DROP)
    ]
    return Row(variant, compared, now.macro_f1, was.macro_f1, now.balanced_accuracy, classes, tuple(broken))


def _allowed(cells: int, share: float) -> int:
    """How many of so many cells a rule lets go."""
    # A share of exactly one cell must not be lost to the last bit.
    return max(ONE, math.floor(cells * share + 1e-9))


def measure(
    reference: Variant, variants: Sequence[Variant], sets: Sequence[ValidationSet], second_look: SecondLook = ONE_LOOK
) -> Compared:
    """Run every variant over every set, all with the same second look; the rows come variant by variant.

    Raises what entering a runtime raises, and ValueError when a variant takes other pictures.
    """
    with reference.open() as runtime:
        expected = [looks(runtime.run, item.inputs, second_look, item.wider) for item in sets]
    rows, first = [], []
    for variant in variants:
        with variant.open() as runtime:
            # What another interpreter runs it with is known only now.
            name = variant.name if variant.quick else f"{variant.name} ({runtime.info.name} {runtime.info.version})"
            for item, wanted in zip(sets, expected, strict=True):
                found = looks(runtime.run, item.inputs, second_look, item.wider)
                rows.append(judge(name, item.name, item.labels, wanted.called, found.called))
                first.append(judge(name, item.name, item.labels, wanted.first, found.first))
    return Compared(tuple(rows), tuple(first), second_look)


def faults(rows: Sequence[Row]) -> list[str]:
    """Give every rule that is broken, with variant, source and class."""
    return [f"{row.variant} on {row.source}: {fault}" for row in rows for fault in row.faults]


def require(rows: Sequence[Row]) -> None:
    """Raise ParityError `parity-failed` when a variant breaks a rule, with each rule, source and class."""
    if broken := faults(rows):
        raise ParityError(
            "parity-failed",
            f"A variant is not the network that it was made from. {'; '.join(broken)}.",
            "Quantize by another method (leuko quantize tflite --method qat), look for the layer (leuko quantize "
            "errors), or pack it all the same with --despite-parity, which writes this into the bundle's limits.",
        )


def describe(row: Row) -> str:
    """Say one row in one line."""
    verdict = "; ".join(row.faults) or "within the rules"
    return f"{row.variant} on {row.source}: same class {row.logits.agreement:.4f} (n={row.logits.n}), {verdict}"


def table(rows: Sequence[Row]) -> str:
    """Give the rows as a Markdown table; of the classes only those whose recall changed are named."""
    lines = [
        "| variant | source | n | same class | logit difference, largest (mean) | SQNR dB | macro-F1 (change) "
        "| cells lost or won by class | rules |",
        "|---|---|---:|---:|---:|---:|---:|---|---|",
    ]
    for row in rows:
        compared, change = row.logits, 100 * (row.macro_f1 - row.macro_f1_before)
        moved = [
            f"{item.label} {item.after - item.before:+d} of {item.n} ({item.points:+.1f})"
            for item in row.classes
            if item.after != item.before
        ]
        noise = f"{compared.signal_to_noise:.1f}" if math.isfinite(compared.signal_to_noise) else "-"
        lines.append(
            f"| {row.variant} | {row.source} | {compared.n} | {compared.agreement:.4f} | "
            f"{compared.largest:.4g} ({compared.mean:.3g}) | {noise} | {100 * row.macro_f1:.1f} ({change:+.2f}) | "
            f"{', '.join(moved) or 'none'} | {'; '.join(row.faults) or 'kept'} |"
        )
    return "\n".join(lines)

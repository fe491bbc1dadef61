"""Judgements as tables, once, for Markdown and for the report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from edge.core.differential import wilson
from training.config import CLASSES
from training.evaluation.aggregate import Group, Judged, Spread, spread, summary
from training.evaluation.conformal import METHODS
from training.evaluation.corruptions import CORRUPTIONS, SEVERITIES
from training.evaluation.foreign import SCORES
from training.evaluation.judge import Row
from training.evaluation.robustness import Robustness


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text. `note` says how to read it."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def markdown(self) -> str:
        """Give it as a Markdown section."""
        lines = [f"## {self.title}", ""]
        if self.note:
            lines += [self.note, ""]
        lines += ["| " + " | ".join(self.header) + " |", "|" + "---|" * len(self.header)]
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in self.rows]
        return "\n".join(lines) + "\n"


def number(value: float | None, digits: int = 3) -> str:
    """Write a figure, a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def ranged(value: Spread | None, digits: int = 3) -> str:
    """Write mean and range; one seed has no range."""
    if value is None:
        return "-"
    if value.n == 1:
        return number(value.mean, digits)
    return f"{value.mean:.{digits}f} ({value.low:.{digits}f}-{value.high:.{digits}f})"


_HEADLINE = {
    "macro_f1": "macro-F1",
    "balanced_accuracy_populated": "balanced accuracy",
    "balanced_accuracy": "over all classes",
    "macro_auc": "macro AUC",
    "accuracy": "accuracy",
}
_CONFIDENCE = {
    "ece_before": "ECE before",
    "ece": "ECE",
    "brier": "Brier",
    "nll": "NLL",
    "aurc": "AURC",
    "risk_at_90": "risk at 90 %",
    "counted": "counted",
    "risk_counted": "risk of the counted",
}
_SIX = {"six_macro_f1": "macro-F1, six classes", "six_balanced_accuracy": "balanced accuracy, six classes"}


def _summary(title: str, note: str, groups: Sequence[Group], columns: dict[str, str], digits: int) -> Table:
    rows = []
    six = columns is _SIX
    for members in groups:
        for name, values in summary(members).items():
            n = _numbers((row.six if six else row.five).figures.n for row in _rows_of(members)[name])
            rows.append((members.name, name, n, *(ranged(values[key], digits) for key in columns)))
    return Table(title, ("system", "cells of", "n", *columns.values()), tuple(rows), note)


def _rows_of(members: Group) -> dict[str, list[Row]]:
    """Rows of the same name of all members, in the order of the first that has it."""
    found: dict[str, list[Row]] = {}
    for item in members.members:
        for row in item.judgement.rows:
            found.setdefault(row.name, []).append(row)
    return found


def _numbers(values: Iterable[int]) -> str:
    found = sorted(set(values))
    return f"{found[0]}" if len(found) == 1 else f"{found[0]}-{found[-1]}"


def recalls(groups: Sequence[Group]) -> Table:
    """Per class: recall with its Wilson interval, precision, F1 and AUC."""
    lines = []
    for members in groups:
        for name, rows in _rows_of(members).items():
            for label in CLASSES:
                views = [row.five for row in rows if label in row.five.figures.recall]
                if not views:
                    continue
                of_class = [view.figures.recall[label] for view in views]
                recall = spread([each.value for each in of_class])
                n = min(each.n for each in of_class)
                interval = wilson(round(n * recall.mean), n) if recall else None
                lines.append(
                    (
                        members.name,
                        name,
                        label,
                        _numbers(each.n for each in of_class),
                        ranged(recall),
                        f"{interval.low:.3f}-{interval.high:.3f}" if interval else "-",
                        ranged(spread([view.figures.precision[label] for view in views])),
                        ranged(spread([view.figures.f1[label] for view in views])),
                        ranged(spread([view.auc.get(label) for view in views]), 4),
                    )
                )
    return Table(
        "Per class",
        ("system", "cells of", "class", "n", "recall", "95 % Wilson", "precision", "F1", "AUC"),
        tuple(lines),
        "Cells of the five classes; the call is the largest of the five. The Wilson interval is that of the (mean) "
        "recall over n cells: seeds do not make cells.",
    )


def foreign(groups: Sequence[Group]) -> Table:
    """AUROC of `other` per kind and score, on held-out cells."""
    rows = []
    for members in groups:
        scores = sorted({item.judgement.score for item in members.members if item.judgement.score})
        found: dict[tuple[str, str], list[Judged]] = {}
        for item in members.members:
            for kind in item.judgement.kinds:
                found.setdefault((kind.source, kind.kind), []).append(item)
        for (source, name), items in found.items():
            kinds = [
                kind for item in items for kind in item.judgement.kinds if (kind.source, kind.kind) == (source, name)
            ]
            rows.append(
                (
                    members.name,
                    source,
                    name,
                    _numbers(kind.n for kind in kinds),
                    *(
                        ranged(spread([kind.auroc[score] for kind in kinds])) + (" *" if score in scores else "")
                        for score in SCORES
                    ),
                    ranged(spread([kind.refused for kind in kinds])),
                )
            )
    return Table(
        "None of the five: AUROC per kind",
        ("system", "source", "kind", "n", *SCORES, "called other"),
        tuple(rows),
        "Held-out foreign objects against held-out cells of the five classes of the same source (of all sources where "
        "it has none). * is the score with the best mean AUROC on validation cells.",
    )


def left_out(groups: Sequence[Group]) -> Table | None:
    """Balanced accuracy of each source under each choice of sources that were left out; None without such a choice."""
    names = list(dict.fromkeys(name for members in groups for name in summary(members)))
    if not any(name.split(",")[0] in members.leave_out for members in groups for name in names):
        return None
    rows = []
    for name in names:
        cells = [name]
        for members in groups:
            values = summary(members).get(name)
            text = ranged(values["balanced_accuracy_populated"]) if values else "-"
            cells.append(f"**{text}**" if values and name.split(",")[0] in members.leave_out else text)
        rows.append(tuple(cells))
    return Table(
        "Leave one source out",
        ("cells of", *(members.name for members in groups)),
        tuple(rows),
        "Balanced accuracy over populated classes. Bold: no image of this source was trained on or used to choose, and "
        "all its cells are judged; otherwise its test split.",
    )


def sets(groups: Sequence[Group]) -> Table | None:
    """Conformal sets: coverage and size per source; None when none were asked for."""
    lines = []
    for members in groups:
        for name, rows in _rows_of(members).items():
            for method in METHODS:
                found = [each for row in rows for each in row.conformal if each.method == method]
                if found:
                    lines.append(
                        (
                            members.name,
                            name,
                            method,
                            number(1 - found[0].alpha, 2),
                            ranged(spread([each.coverage for each in found])),
                            ranged(spread([each.size for each in found]), 2),
                            ranged(spread([each.single for each in found])),
                            ranged(spread([each.empty for each in found])),
                        )
                    )
    if not lines:
        return None
    return Table(
        "Conformal sets",
        ("system", "cells of", "method", "promised", "coverage", "mean size", "one class", "empty"),
        tuple(lines),
        "Quantiles from validation cells of the five classes. The promise holds for cells exchangeable with those, not "
        "for another site.",
    )


def robustness(groups: Sequence[Group]) -> Table | None:
    """Balanced accuracy under corruption; None when none was measured."""
    lines: list[tuple[str, ...]] = []
    for members in groups:
        measured: dict[str, list[Robustness]] = {}
        for item in members.members:
            for each in item.judgement.robustness:
                measured.setdefault(each.source, []).append(each)
        for source, found in measured.items():
            head = (members.name, source)
            empty = ("",) * len(SEVERITIES)
            lines.append((*head, "none", *empty, ranged(spread([each.clean for each in found])), ""))
            for corruption in CORRUPTIONS:
                curves = [each.corrupted[corruption.name] for each in found]
                lines.append(
                    (
                        *head,
                        corruption.name + ("" if corruption.published else " (ours)"),
                        *(number(fmean(curve[at] for curve in curves)) for at in range(len(SEVERITIES))),
                        ranged(spread([fmean(curve) for curve in curves])),
                        ranged(spread([each.relative.get(corruption.name) for each in found])),
                    )
                )
            lines.append(
                (*head, "**mean**", *empty, "", f"**{ranged(spread([each.mean_relative for each in found]))}**")
            )
    if not lines:
        return None
    return Table(
        "Corruptions",
        ("system", "cells of", "corruption", *(f"severity {level}" for level in SEVERITIES), "mean", "of clean"),
        tuple(lines),
        "Balanced accuracy of the same cells, five classes. The list and its parameters are those of BloodMNIST-C (Di "
        "Salvo et al., MedMNIST-C, 2024) but for the three that are ours.",
    )


def protocol(groups: Sequence[Group]) -> Table:
    """Which cells each row is made of."""
    rows = []
    for members in groups:
        for row in {row.name: row for item in members.members for row in item.judgement.rows}.values():
            rows.append((members.name, row.name, row.note))
    return Table("Which cells", ("system", "cells of", "how they were kept from training"), tuple(rows))


def everything(groups: Sequence[Group]) -> list[Table]:
    """All tables that these groups have something for, the headline first."""
    several = any(len(members.members) > 1 for members in groups)
    span = "Mean and range over seeds. " if several else ""
    tables = [
        _summary(
            "Five classes",
            f"{span}The call is the largest of the five. Balanced accuracy is over classes with at least 4 cells.",
            groups,
            _HEADLINE,
            3,
        ),
        recalls(groups),
        left_out(groups),
        _summary("Six classes", f"{span}Foreign cells too; the call is the largest of the six.", groups, _SIX, 3),
        foreign(groups),
        _summary(
            "How far its confidence can be trusted",
            f"{span}Five classes, after the temperature (ECE before it as well). Counted: neither called other nor "
            "below the threshold.",
            groups,
            _CONFIDENCE,
            4,
        ),
        sets(groups),
        robustness(groups),
        protocol(groups),
    ]
    return [table for table in tables if table is not None and table.rows]

"""Judgements as tables, once, for Markdown and for the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from training.evaluation.aggregate import Group, Judged, Spread, spread, summary
from training.evaluation.corruptions import CORRUPTIONS
from training.evaluation.foreign import SCORES
from training.evaluation.judge import Row


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
    for members in groups:
        for name, values in summary(members).items():
            counts = sorted({_cells(item, name) for item in members.members} - {0})
            n = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]}-{counts[-1]}"
            rows.append((members.name, name, n, *(ranged(values[key], digits) for key in columns)))
    return Table(title, ("system", "cells of", "n", *columns.values()), tuple(rows), note)


def _cells(item: Judged, name: str) -> int:
    return next((row.five.figures.n for row in item.judgement.rows if row.name == name), 0)


def _one(
    groups: Sequence[Group], cells: Callable[[Group, Judged, Row], list[tuple[str, ...]]]
) -> list[tuple[str, ...]]:
    return [
        line
        for members in groups
        for item in members.members
        for row in item.judgement.rows
        for line in cells(members, item, row)
    ]


def _label(members: Group, item: Judged) -> str:
    return f"{members.name}, seed {item.system.seed}" if len(members.members) > 1 else members.name


def recalls(groups: Sequence[Group]) -> Table:
    """Per class: recall with its Wilson interval, precision, F1 and AUC."""

    def lines(members: Group, item: Judged, row: Row) -> list[tuple[str, ...]]:
        figures = row.five.figures
        return [
            (
                _label(members, item),
                row.name,
                name,
                str(recall.n),
                f"{recall.value:.3f} ({recall.interval.low:.3f}-{recall.interval.high:.3f})",
                number(figures.precision[name]),
                number(figures.f1[name]),
                number(row.five.auc.get(name), 4),
            )
            for name, recall in figures.recall.items()
        ]

    return Table(
        "Per class",
        ("system", "cells of", "class", "n", "recall (95 % Wilson)", "precision", "F1", "AUC"),
        tuple(_one(groups, lines)),
        "Cells of the five classes; the call is the largest of the five.",
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
                    "-".join(map(str, sorted({kind.n for kind in kinds}))),
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
    if not any(members.leave_out for members in groups):
        return None
    names = list(dict.fromkeys(name for members in groups for name in summary(members)))
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

    def lines(members: Group, item: Judged, row: Row) -> list[tuple[str, ...]]:
        return [
            (
                _label(members, item),
                row.name,
                each.method,
                number(1 - each.alpha, 2),
                number(each.coverage),
                number(each.size, 2),
                number(each.single),
                number(each.empty),
            )
            for each in row.conformal
        ]

    rows = _one(groups, lines)
    if not rows:
        return None
    return Table(
        "Conformal sets",
        ("system", "cells of", "method", "promised", "coverage", "mean size", "one class", "empty"),
        tuple(rows),
        "Quantiles from validation cells of the five classes. The promise holds for cells exchangeable with those, not "
        "for another site.",
    )


def robustness(groups: Sequence[Group]) -> Table | None:
    """Balanced accuracy under corruption; None when none was measured."""
    rows: list[tuple[str, ...]] = []
    for members in groups:
        for item in members.members:
            for found in item.judgement.robustness:
                label = _label(members, item)
                rows.append((label, found.source, "none", *(number(found.clean),) * 6, "1.000" if found.clean else "-"))
                for corruption in CORRUPTIONS:
                    values = found.corrupted[corruption.name]
                    rows.append(
                        (
                            label,
                            found.source,
                            corruption.name + ("" if corruption.published else " (ours)"),
                            *map(number, values),
                            number(sum(values) / len(values)),
                            number(found.relative.get(corruption.name)),
                        )
                    )
                rows.append((label, found.source, "**mean**", *("",) * 6, f"**{number(found.mean_relative)}**"))
    if not rows:
        return None
    return Table(
        "Corruptions",
        ("system", "cells of", "corruption", *(f"severity {level}" for level in range(1, 6)), "mean", "of clean"),
        tuple(rows),
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

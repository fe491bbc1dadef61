"""Several systems side by side: mean and range over seeds, and sources that were left out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from edge.core.errors import UsageError
from training.evaluation.judge import Judgement, Row
from training.evaluation.systems import System


@dataclass(frozen=True, slots=True)
class Judged:
    """A system and what was found of it."""

    system: System
    judgement: Judgement


@dataclass(frozen=True, slots=True)
class Group:
    """Systems that differ in nothing but the seed, under one name."""

    name: str
    members: tuple[Judged, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the members that have one, ascending."""
        return tuple(sorted(item.system.seed for item in self.members if item.system.seed is not None))

    @property
    def leave_out(self) -> tuple[str, ...]:
        """Sources that any member was not trained on."""
        return tuple(sorted({name for item in self.members for name in item.system.leave_out}))


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over `n` seeds: mean, least and largest."""

    mean: float
    low: float
    high: float
    n: int


def spread(values: Sequence[float | None]) -> Spread | None:
    """Summarise the values that are known; None when none is."""
    known = [value for value in values if value is not None and np.isfinite(value)]
    if not known:
        return None
    # A mean of equal numbers can differ from them by its last bit.
    mean = float(np.clip(np.mean(known), min(known), max(known)))
    return Spread(mean, min(known), max(known), len(known))


FIGURES: Final[dict[str, Callable[[Row], float | None]]] = {
    "macro_f1": lambda row: row.five.figures.macro_f1,
    "balanced_accuracy_populated": lambda row: row.five.figures.balanced_accuracy_populated,
    "balanced_accuracy": lambda row: row.five.figures.balanced_accuracy,
    "accuracy": lambda row: row.five.figures.accuracy,
    "macro_auc": lambda row: row.five.macro_auc,
    "ece_before": lambda row: row.five.ece.before,
    "ece": lambda row: row.five.ece.after,
    "brier": lambda row: row.five.brier.after,
    "nll": lambda row: row.five.nll.after,
    "aurc": lambda row: row.selective.aurc,
    "risk_at_90": lambda row: row.selective.risk,
    "counted": lambda row: row.abstention.coverage,
    "risk_counted": lambda row: row.abstention.risk,
    "six_macro_f1": lambda row: row.six.figures.macro_f1,
    "six_balanced_accuracy": lambda row: row.six.figures.balanced_accuracy,
}
"""Figures that are summarised over seeds, keyed as in evaluation.json."""


def named(text: str) -> tuple[str, tuple[str, ...]]:
    """Read `GROUP=RUN,RUN,...`. Raises UsageError `bad-group`."""
    name, _, runs = text.partition("=")
    members = tuple(part.strip() for part in runs.split(",") if part.strip())
    if not name.strip() or not members:
        raise UsageError("bad-group", f"{text!r} names no group.", "Write --name GROUP=RUN,RUN,...")
    return name.strip(), members


def _title(members: Sequence[Judged], taken: set[str]) -> str:
    system = members[0].system
    if len(members) == 1:
        name = system.name
    else:
        name = str(system.settings.get("model") or system.settings.get("peer") or system.name)
        if system.leave_out:
            name += f", without {', '.join(system.leave_out)}"
    plain, number = name, 1
    while name in taken:
        number += 1
        name = f"{plain} ({number})"
    taken.add(name)
    return name


def group(judged: Sequence[Judged], names: Sequence[tuple[str, Sequence[str]]] = ()) -> list[Group]:
    """Put systems together: as `names` say (by path or by the folder's name), the rest by equal settings, in order.

    Raises UsageError `unknown-run` for a name that is none of them, `run-twice` for one in two groups, and
    `same-seed-twice` when two members of a group have the same seed: a range over them would be a lie. `other-cells`
    when they left out different sources, and so are judged on different cells.
    """
    of: dict[int, str] = {}
    for name, members in names:
        for member in members:
            found = [
                index
                for index, item in enumerate(judged)
                if member in {str(item.system.path), item.system.name, str(item.system.path.parent)}
            ]
            if len(found) != 1:
                raise UsageError(
                    "unknown-run", f"{member!r} of group {name!r} names {len(found)} systems.", "Give its path."
                )
            if found[0] in of:
                raise UsageError("run-twice", f"{member!r} is in two groups.", "Name each run once.")
            of[found[0]] = name
    taken = {name for name, _ in names}
    groups: dict[str, list[Judged]] = {}
    for index, item in enumerate(judged):
        key = "name " + of[index] if index in of else json.dumps(item.system.settings, sort_keys=True, default=str)
        groups.setdefault(key, []).append(item)
    made = []
    for key, together in groups.items():
        name = key.removeprefix("name ") if key.startswith("name ") else _title(together, taken)
        seeds = [item.system.seed for item in together if item.system.seed is not None]
        if len(set(seeds)) < len(seeds):
            raise UsageError(
                "same-seed-twice", f"{name!r} holds two systems of the same seed.", "Give each its own --name."
            )
        if len({tuple(sorted(item.system.leave_out)) for item in together}) > 1:
            raise UsageError(
                "other-cells", f"{name!r} holds systems that left out different sources.", "Name them apart."
            )
        made.append(Group(name, tuple(together)))
    return made


def summary(members: Group) -> dict[str, dict[str, Spread | None]]:
    """Spread of each of FIGURES for each row name, in the order of the first member that has it."""
    found: dict[str, list[Row]] = {}
    for item in members.members:
        for row in item.judgement.rows:
            found.setdefault(row.name, []).append(row)
    return {
        name: {figure: spread([value(row) for row in rows]) for figure, value in FIGURES.items()}
        for name, rows in found.items()
    }

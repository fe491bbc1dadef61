"""`leuko train evaluate`: systems in, tables, plots, one page and one JSON document out."""

from __future__ import annotations

import json
import logging
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge.core.durable import write_bytes, write_text
from edge.core.errors import UsageError
from edge.core.labels import LABELS
from edge.core.types import FloatArray, Image
from edge.imaging.preprocess import to_input
from training.evaluation import aggregate, page, plots, robustness, rows, systems, tables
from training.evaluation.aggregate import Group, Judged
from training.evaluation.document import document
from training.evaluation.judge import Judgement, judge
from training.evaluation.systems import System
from training.predictions import SecondLook, logits_of

_LOG = logging.getLogger(__name__)

JSON_FILE: Final = "evaluation.json"
TABLE_FILE: Final = "table.md"
PAGE_FILE: Final = "evaluation.html"
PLOTS_FOLDER: Final = "plots"


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for.

    `risk` (0..1) is that of the abstention threshold, `alpha` (0..1) the error rate of conformal sets, None without.
    `corrupted` names sources whose cells are also judged through corruptions, at most `per_class` of each class.
    `names` put systems into groups. `second_look` is that of `systems.second_look_of`. `command` is written into
    the results.
    """

    paths: tuple[Path, ...]
    data: Path | None
    out: Path
    risk: float = 0.05
    alpha: float | None = None
    corrupted: tuple[str, ...] = ()
    per_class: int = 40
    cache: Path | None = None
    names: tuple[tuple[str, tuple[str, ...]], ...] = ()
    second_look: SecondLook | None = None
    command: str = ""


def machine() -> str:
    """Name the machine: processor, cores, system."""
    model = platform.processor() or platform.machine()
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
        model = found[1].strip() if found else model
    except OSError:
        pass
    return (
        f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    )


def _robustness(system: System, request: Request) -> tuple[robustness.Robustness, ...]:
    size = systems.config_of(system).size
    cells = systems.crops_of(system, request.data, request.cache)
    found = []
    second_look = systems.second_look_of(system, request.second_look)
    with systems.network(system) as (run, preprocessing):

        def logits(crops: Sequence[Image]) -> FloatArray:
            return logits_of(run, np.stack([to_input(crop, preprocessing) for crop in crops]), second_look)

        for source in request.corrupted:
            mask = rows.held_out(cells, system.leave_out) & (cells.kind == "cell") & (cells.source == source)
            chosen = robustness.sample(cells.select(mask & (cells.labels < len(LABELS))), request.per_class)
            if not len(chosen):
                raise UsageError(
                    "no-such-cells",
                    f"{system.name} has no held-out cells of {source!r}.",
                    f"Choose of: {', '.join(sorted(set(cells.source.tolist()) - {rows.RENDERED}))}.",
                )
            found.append(robustness.measure(source, chosen, size, logits))
    return tuple(found)


def judge_system(system: System, request: Request) -> Judgement:
    """Judge one system, with corruptions where they are asked for and it can judge other pictures."""
    predictions = systems.predictions(system, request.data, request.cache, request.second_look)
    found = judge(predictions, system.leave_out, request.risk, request.alpha)
    if not found.rows:
        raise UsageError(
            "nothing-to-judge",
            f"{system.name}: no held-out cell of the five classes.",
            "Judge cells of a test split, of a source left out, or for evaluation only.",
        )
    for row in found.rows:
        _LOG.info(
            "%s, %s: balanced accuracy %.3f, macro-F1 %.3f (n=%d)",
            system.name,
            row.name,
            row.five.figures.balanced_accuracy,
            row.five.figures.macro_f1,
            row.five.figures.n,
        )
    if request.corrupted and system.kind == "predictions":
        _LOG.warning("%s is a file of predictions: no corruptions", system.name)
    elif request.corrupted:
        found = replace(found, robustness=_robustness(system, request))
    return found


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "system"


def _facts(groups: Sequence[Group], request: Request) -> dict[str, Any]:
    return {
        "command": request.command,
        "machine": machine(),
        "seeds": sorted({seed for members in groups for seed in members.seeds}),
        "risk_target": request.risk,
        "alpha": request.alpha,
    }


def markdown(groups: Sequence[Group], facts: dict[str, Any]) -> str:
    """Give all tables as one Markdown text that says how it was made."""
    seeds = "; ".join(f"{members.name}: {', '.join(map(str, members.seeds))}" for members in groups if members.seeds)
    lines = [
        "# Evaluation",
        "",
        "For Research Use Only. Not for use in diagnostic procedures.",
        "",
        f"- Command: `{facts['command']}`",
        f"- Machine: {facts['machine']}",
        f"- Seeds: {seeds or 'none'}",
        "",
    ]
    return "\n".join(lines) + "\n" + "\n".join(table.markdown() for table in tables.everything(groups))


def evaluate(request: Request) -> str:
    """Judge all systems and write table.md, evaluation.json, evaluation.html and plots/ into `out`.

    Returns the Markdown. Raises UsageError or InputError for what cannot be judged, before anything is written.
    """
    found = [systems.find(path) for path in request.paths]
    if len({item.path.resolve() for item in found}) < len(found):
        raise UsageError("run-twice", "The same system is named twice.", "Name each once.")
    # Groups are made twice: a wrong --name must not cost the time of the judging.
    empty = Judgement(None, (), None, (), ())
    aggregate.group([Judged(item, empty) for item in found], request.names)
    groups = aggregate.group([Judged(item, judge_system(item, request)) for item in found], request.names)
    facts = _facts(groups, request)
    text = markdown(groups, facts)
    folder = request.out / PLOTS_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {}
    for members in groups:
        first = min(members.members, key=lambda item: -1 if item.system.seed is None else item.system.seed)
        which = first.system.name if first.system.seed is None else f"seed {first.system.seed}"
        title = members.name if len(members.members) == 1 else f"{members.name}, {which}"
        drawn[title] = plots.pictures(first.judgement, _file_name(members.name))
        for picture in drawn[title]:
            write_bytes(folder / f"{picture.name}.png", picture.png)
            write_bytes(folder / f"{picture.name}.svg", picture.svg)
    shown = {
        "Command": facts["command"],
        "Machine": facts["machine"],
        "Systems": "; ".join(
            f"{members.name} (seed {', '.join(map(str, members.seeds))})" if members.seeds else members.name
            for members in groups
        ),
    }
    write_text(request.out / TABLE_FILE, text)
    write_text(request.out / PAGE_FILE, page.render("Evaluation", shown, tables.everything(groups), drawn))
    written = json.dumps(document(groups, facts), indent=1, allow_nan=False)
    write_text(request.out / JSON_FILE, written + "\n")
    return text

"""`leuko train evaluate`: judge runs, bundles and other systems on the cells that were kept from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge.cli import output
from edge.cli.train.common import require_extra, show_progress


def evaluate(  # noqa: PLR0917  # options, given by name
    systems: Annotated[
        list[Path], typer.Argument(help="Folders of runs or bundles, or files of predictions.", metavar="SYSTEM...")
    ],
    out: Annotated[Path, typer.Option(help="Folder of tables, plots, page and JSON.", metavar="DIR")],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of labelled images; needless where predictions are kept.", metavar="DIR"),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(help="Put systems into one row, for example seeds; may be repeated.", metavar="GROUP=RUN,RUN"),
    ] = None,
    risk: Annotated[float, typer.Option(min=0.0, max=1.0, help="Risk that the abstention threshold keeps to.")] = 0.05,
    conformal: Annotated[
        float | None, typer.Option(help="Conformal sets at this error rate, for example 0.1.", metavar="ALPHA")
    ] = None,
    corruptions: Annotated[
        bool, typer.Option("--corruptions", help="Judge through 14 corruptions at 5 severities too: takes a while.")
    ] = False,
    corrupted: Annotated[
        list[str] | None, typer.Option(help="Source whose cells are corrupted (default: pbc).", metavar="SOURCE")
    ] = None,
    per_class: Annotated[int, typer.Option(min=1, help="Cells of each class that are corrupted.")] = 40,
    second_look: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Look again at a cell whose best class is less probable; 0: never (default: as the device).",
        ),
    ] = None,
    width: Annotated[
        list[float] | None,
        typer.Option(
            min=1.01,
            max=1.5,
            help="With --second-look: also so many times as wide; may be repeated (default: all sides of the crop).",
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder of ready-cut cells, shared by runs (default: each run's).", metavar="DIR"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print evaluation.json instead of the tables.")] = False,
) -> None:
    """Judge systems: tables, plots, one HTML page and one JSON document; prints the tables."""
    require_extra("train", "sklearn", "matplotlib")
    import json
    import shlex
    import sys

    from edge.core.errors import UsageError
    from training.evaluation import aggregate
    from training.evaluation.evaluate import JSON_FILE, Request
    from training.evaluation.evaluate import evaluate as run
    from training.predictions import SecondLook

    if conformal is not None and not 0 < conformal < 1:
        raise UsageError("bad-alpha", f"--conformal {conformal:g} is no error rate.", "Choose one between 0 and 1.")
    show_progress()
    text = run(
        Request(
            paths=tuple(systems),
            data=data,
            out=out,
            risk=risk,
            alpha=conformal,
            corrupted=tuple(corrupted or ["pbc"]) if corruptions or corrupted else (),
            per_class=per_class,
            cache=cache,
            second_look=SecondLook(second_look, tuple(width or ())) if second_look is not None else None,
            names=tuple(aggregate.named(each) for each in name or ()),
            command=shlex.join(["leuko", *sys.argv[1:]]),
        )
    )
    if as_json:
        output.answer_json(json.loads((out / JSON_FILE).read_text(encoding="utf-8")))
    else:
        output.answer(text)

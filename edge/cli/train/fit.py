"""`leuko train fit` and `leuko train distill`: train one network on a folder of labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edge.cli import output
from edge.cli.train.common import Cache, Data, Out, require_extra, show_progress
from edge.cli.train.options import configuration, run_options

Generated = Annotated[Path | None, typer.Option(help="Cells that `leuko train gan sample` wrote.", metavar="FILE")]
Weights = Annotated[
    Path | None,
    typer.Option(help="ImageNet weights of the base (.npz); Keras downloads its own without.", metavar="FILE"),
]


@run_options()
def fit(  # noqa: PLR0917  # options, given by name
    data: Data,
    out: Out,
    settings: dict[str, Any],
    weights: Weights = None,
    cache: Cache = None,
    generated: Generated = None,
    config: Path | None = None,
) -> None:
    """Train a network, and print the file of its weights.

    A run that was broken off goes on when the same command is given again. Several GPUs share the work by themselves,
    several machines when TF_CONFIG names them: see docs/fitting.md.
    """
    require_extra("train")
    from training.make_student import train

    show_progress()
    output.answer(str(train(data, weights, out, configuration(settings, config), cache=cache, drawn=generated)))


@run_options()
def distill(  # noqa: PLR0917  # options, given by name
    data: Data,
    out: Out,
    teacher: Annotated[
        list[Path],
        typer.Option(help="Folder of a finished run; several teachers answer with their mean.", metavar="RUN"),
    ],
    settings: dict[str, Any],
    share: Annotated[float, typer.Option(min=0.0, max=1.0, help="Weight of the teacher's answer in the loss.")] = 0.5,
    temperature: Annotated[float, typer.Option(min=0.1, help="Softens the answers of teacher and student.")] = 3.0,
    weights: Weights = None,
    cache: Cache = None,
    generated: Generated = None,
    config: Path | None = None,
) -> None:
    """Train a student on the labels and on a teacher's answers, and print the file of its weights.

    Teacher and student see the same random view of each cell. With `--share 0` the teacher is not asked: the same
    student without it, to compare.
    """
    require_extra("train")
    from training.make_student import train

    show_progress()
    chosen = configuration({**settings, "distillation_share": share, "distillation_temperature": temperature}, config)
    output.answer(str(train(data, weights, out, chosen, teachers=teacher, cache=cache, drawn=generated)))

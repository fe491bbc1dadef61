"""`leuko train fit`: train one network on a folder of labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge.cli import output
from edge.cli.train.common import Data, Out, Seed, require_extra, show_progress


def fit(  # noqa: PLR0917  # options, given by name
    data: Data,
    out: Out,
    model: Annotated[str, typer.Option(help="Which network: a name of `training.models.registry`.")] = "student",
    weights: Annotated[
        Path | None,
        typer.Option(help="ImageNet weights of the backbone (.npz); Keras downloads its own without.", metavar="FILE"),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1)] = 40,
    steps: Annotated[int, typer.Option(min=1, help="Batches per epoch.")] = 100,
    batch: Annotated[int, typer.Option(min=2)] = 64,
    learning_rate: Annotated[float, typer.Option(min=0.0)] = 1e-3,
    leave_out: Annotated[
        list[str] | None, typer.Option(help="Source that is neither trained on nor used to choose.", metavar="SOURCE")
    ] = None,
    generated: Annotated[
        Path | None, typer.Option(help="Cells that `leuko train gan sample` wrote.", metavar="FILE")
    ] = None,
    generated_share: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="Share of generated cells in the classes that have some.")
    ] = 0.0,
    seed: Seed = 0,
) -> None:
    """Train a network, and print the file of its weights."""
    require_extra("train")
    from training.config import RunConfig
    from training.make_student import train

    show_progress()
    config = RunConfig(
        model=model,
        epochs=epochs,
        steps=steps,
        batch=batch,
        learning_rate=learning_rate,
        leave_out=tuple(leave_out or ()),
        generated_share=generated_share,
        seed=seed,
    )
    output.answer(str(train(data, weights, out, config, generated)))

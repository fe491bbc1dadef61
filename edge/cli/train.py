"""`leuko train`: make models. Needs the `train` extra; a device does not have it."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Annotated

import typer

from edge.cli import output

app = typer.Typer(help="Train models (needs the extra `train`).", no_args_is_help=True)

Data = Annotated[Path, typer.Option(help="Folder of labelled images, with its manifest.csv.", metavar="DIR")]
Out = Annotated[Path, typer.Option(help="Folder of the run; an unfinished run in it goes on.", metavar="DIR")]


def require_extra(name: str) -> None:
    """Raise MissingExtraError unless the packages of the extra `train` or `quantize` are installed."""
    from edge.core.errors import MissingExtraError

    missing = [package for package in ("tensorflow", "keras") if importlib.util.find_spec(package) is None]
    if missing:
        raise MissingExtraError(
            "extra-missing", f"{', '.join(missing)} is not installed.", f"Run: pip install 'leukoscope[{name}]'"
        )


def show_progress() -> None:
    """Send the log of the run to standard error."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")


@app.command()
def student(  # noqa: PLR0917  # options, given by name
    data: Data,
    out: Out,
    weights: Annotated[
        Path | None,
        typer.Option(help="ImageNet weights of the backbone (.npz); Keras downloads its own without.", metavar="FILE"),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1)] = 40,
    steps: Annotated[int, typer.Option(min=1, help="Batches per epoch.")] = 100,
    batch: Annotated[int, typer.Option(min=2)] = 64,
    learning_rate: Annotated[float, typer.Option(min=0.0)] = 1e-3,
    leave_out: Annotated[
        str | None, typer.Option(help="Source that is neither trained on nor used to choose.", metavar="SOURCE")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Train the student that devices run, and print the file of its weights."""
    require_extra("train")
    from training.config import RunConfig
    from training.make_student import train

    show_progress()
    config = RunConfig(
        epochs=epochs, steps=steps, batch=batch, learning_rate=learning_rate, leave_out=leave_out, seed=seed
    )
    output.answer(str(train(data, weights, out, config)))

"""What all commands of `leuko train` share: their options, and the packages they need."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[Path, typer.Option(help="Folder of labelled images, with its manifest.csv.", metavar="DIR")]
Out = Annotated[Path, typer.Option(help="Folder of the run; an unfinished run in it goes on.", metavar="DIR")]
Cache = Annotated[
    Path | None,
    typer.Option(help="Folder of ready-cut cells, shared by runs (default: the run's own).", metavar="DIR"),
]
Run = Annotated[Path, typer.Argument(help="Folder of a finished run of `leuko train`.", metavar="RUN")]
Seed = Annotated[int, typer.Option(min=0, help="Decides the batches and the first weights.")]


def require_extra(name: str, *packages: str) -> None:
    """Raise MissingExtraError unless TensorFlow, Keras and `packages`, all of the extra `name`, are installed."""
    from edge.core.errors import MissingExtraError

    wanted = ("tensorflow", "keras", *packages)
    missing = [package for package in wanted if importlib.util.find_spec(package) is None]
    if missing:
        raise MissingExtraError(
            "extra-missing", f"{', '.join(missing)} is not installed.", f"Run: pip install 'leukoscope[{name}]'"
        )


def show_progress() -> None:
    """Send the log of the run to standard error."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    # Its warnings are about its own speed, and each would appear twice.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)

"""`leuko train peer`: one of the published systems that the table compares with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from edge.cli import output
from edge.cli.train.common import Cache, Out, Seed, require_extra, show_progress


def peer(  # noqa: PLR0917  # options, given by name
    name: Annotated[str, typer.Argument(help="di_ruberto, rezatofighi, zhang or choi.", metavar="NAME")],
    out: Out,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of labelled images, with its manifest.csv; choi needs it for runs not yet judged.",
            metavar="DIR",
        ),
    ] = None,
    runs: Annotated[
        list[Path] | None,
        typer.Option("--run", help="Folder of a run that votes (choi), twice or more.", metavar="RUN"),
    ] = None,
    vote: Annotated[Literal["soft", "hard"], typer.Option(help="Mean of the probabilities, or a vote each.")] = "soft",
    size: Annotated[int, typer.Option(min=32, help="Side of the crops in pixels.")] = 128,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of the network (zhang).")] = 20,
    steps: Annotated[int, typer.Option(min=1, help="Batches per epoch (zhang).")] = 100,
    batch: Annotated[int, typer.Option(min=2, help="Cells in a batch (zhang).")] = 32,
    leave_out: Annotated[
        list[str] | None, typer.Option(help="Source that is not learnt from.", metavar="SOURCE")
    ] = None,
    seed: Seed = 0,
    cache: Cache = None,
) -> None:
    """Run a published system on the same cells and splits as the networks, and print the file of its predictions."""
    require_extra("train", "sklearn", "skimage")
    from training.peers import run as peers

    show_progress()
    settings = peers.Settings(
        peer=name,
        size=size,
        leave_out=tuple(leave_out or ()),
        seed=seed,
        epochs=epochs,
        steps=steps,
        batch=batch,
        vote=vote,
        runs=peers.names_of(runs),
    )
    output.answer(str(peers.run(data, settings, out, cache)))

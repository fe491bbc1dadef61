"""`leuko train search` and `leuko train crossval`: many short runs, and what they say together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edge.cli import output
from edge.cli.train.common import Cache, Data, Out, require_extra, show_progress
from edge.cli.train.fit import Weights
from edge.cli.train.options import configuration, run_options

GRID_BATCH = [16, 32, 64]
GRID_RATE = [3e-4, 1e-3, 3e-3]
GRID_DROPOUT = [0.0, 0.2, 0.5]


@run_options("batch", "learning_rate", "dropout")
def search(  # noqa: PLR0917  # options, given by name
    data: Data,
    out: Out,
    settings: dict[str, Any],
    batch: Annotated[list[int], typer.Option(help="Batch size to try.", min=2)] = GRID_BATCH,
    learning_rate: Annotated[list[float], typer.Option(help="Peak of the learning rate to try.")] = GRID_RATE,
    dropout: Annotated[list[float], typer.Option(help="Dropout to try.", min=0.0, max=0.95)] = GRID_DROPOUT,
    storage: Annotated[
        str | None,
        typer.Option(help="File or database URL that processes share; a file in --out without.", metavar="URL"),
    ] = None,
    prune: Annotated[bool, typer.Option(help="End a run that falls below the median of the others.")] = True,
    weights: Weights = None,
    cache: Cache = None,
    config: Path | None = None,
) -> None:
    """Try a grid of batch size, learning rate and dropout, and print the table, best first.

    Started several times with the same --storage (and --out, on one machine) the processes share the grid. A search
    that was broken off goes on when the same command is given again.
    """
    require_extra("train", "optuna")
    from training.make_student import load_cells
    from training.search import Grid
    from training.search import search as run_search

    show_progress()
    chosen = configuration(settings, config)
    grid = Grid(tuple(sorted(set(batch))), tuple(sorted(set(learning_rate))), tuple(sorted(set(dropout))))
    trials = run_search(load_cells(data, chosen, out, cache), chosen, weights, out, grid, storage, prune)
    rows = [["batch", "learning rate", "dropout", "score", "epochs", ""]]
    for trial in trials:
        rows.append(
            [
                str(trial.batch),
                f"{trial.learning_rate:g}",
                f"{trial.dropout:g}",
                f"{trial.score:.4f}",
                str(trial.epochs),
                "pruned" if trial.pruned else "",
            ]
        )
    output.answer(output.table(rows, right=(0, 1, 2, 3, 4)))


@run_options()
def crossval(  # noqa: PLR0917  # options, given by name
    data: Data,
    out: Out,
    settings: dict[str, Any],
    folds: Annotated[int, typer.Option(min=3, help="Parts of the cells; each is held out once.")] = 5,
    weights: Weights = None,
    cache: Cache = None,
    config: Path | None = None,
) -> None:
    """Cross-validate: hold out each fold once, print the figures of each and their mean and range.

    No group of pictures crosses a fold. Of the other folds the next one chooses the checkpoint.
    """
    require_extra("train", "sklearn")
    from training import crossval as folded
    from training.make_student import load_cells

    show_progress()
    chosen = configuration(settings, config)
    done = []
    rows = [["fold", "source", "n", "balanced accuracy", "macro-F1"]]
    for number, figures in folded.crossval(load_cells(data, chosen, out, cache), chosen, weights, out, folds):
        done.append(figures)
        for row in figures:
            rows.append(
                [str(number + 1), row.source, str(row.n), f"{row.balanced_accuracy:.4f}", f"{row.macro_f1:.4f}"]
            )
    folded.save(out, chosen, done)
    for source, by_name in folded.summary(done).items():
        shown = [f"{value.mean:.4f} ({value.low:.4f} - {value.high:.4f})" for value in by_name.values()]
        rows.append(["mean", source, "", *shown])
    output.answer(output.table(rows, right=(2,)))

"""`leuko train adapt`: commission a new microscope."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edge.cli import output
from edge.cli.train.common import Run, Seed, require_extra, show_progress


def adapt(  # noqa: PLR0917  # options, given by name
    run: Run,
    out: Annotated[Path, typer.Option(help="Folder of the adapted run; must be new.", metavar="RUN2")],
    fields: Annotated[
        Path | None, typer.Option(help="Whole fields of the site, without labels; thirty are enough.", metavar="DIR")
    ] = None,
    cells: Annotated[
        Path | None,
        typer.Option(
            help="At most 70 labelled cells of the site: class folders, or manifest.csv with file,label,group.",
            metavar="DIR",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder that the run was trained on; without it the run's replay set.", metavar="DIR"),
    ] = None,
    site: Annotated[str, typer.Option(help="Name of the site: small letters, digits, hyphens.")] = "site",
    bundle: Annotated[Path | None, typer.Option(help="Folder of the new bundle; must be new.", metavar="DIR")] = None,
    name: Annotated[str, typer.Option(help="Name of the bundle.")] = "wbc-student",
    version: Annotated[
        str | None, typer.Option(help="Version of the bundle (default: a step above the run's, marked with the site).")
    ] = None,
    subsample: Annotated[bool, typer.Option(help="Of more than 70 labelled cells take a part, classes alike.")] = False,
    folds: Annotated[int, typer.Option(min=2, max=20, help="Parts that are held out in turn.")] = 5,
    significance: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Refuse when the paired test's p is above.")
    ] = 0.05,
    least: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Refuse below this balanced accuracy on held-out cells.")
    ] = 0.5,
    loss: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Refuse when the source's balanced accuracy falls by more.")
    ] = 0.1,
    seed: Seed = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Adapt a run to a new microscope from unlabelled fields, labelled cells or both; refuse what is worse."""
    require_extra("train")
    from training.adaptation import chain
    from training.adaptation.commission import Options
    from training.adaptation.gate import Limits

    show_progress()
    limits = Limits(significance=significance, least=least, loss=loss)
    options = Options(site=site, seed=seed, folds=folds, subsample=subsample, limits=limits)
    summary = chain.run(chain.Folders(run, out, fields, cells, data, bundle, name, version), options)
    if as_json:
        output.answer_json(summary)
        return
    output.answer(_text(summary))
    output.note(f"{out}" + (f" and {bundle}" if bundle else "") + f" written after {summary['seconds']} seconds")


def _text(summary: dict[str, Any]) -> str:
    source = summary["source"]
    rows = [
        ["balanced accuracy", "before", "after"],
        [
            "source, validation",
            f"{source['before']['balanced_accuracy']:.3f}",
            f"{source['after']['balanced_accuracy']:.3f}",
        ],
    ]
    held = summary["held_out"]
    if held is not None:
        rows.append(
            [
                f"{summary['site']}, {held['before']['cells']} held-out cells",
                f"{held['before']['balanced_accuracy']:.3f}",
                f"{held['after']['balanced_accuracy']:.3f}",
            ]
        )
    lines = [output.table(rows, right=(1, 2))]
    if held is None:
        lines.append(f"No labelled cells: what the model reaches at {summary['site']} is not known.")
    else:
        lines.append(f"way {held['way']}, {held['groups']} groups, p = {held['p']:.4f}")
    if summary["unreadable"]:
        lines.append(f"{len(summary['unreadable'])} pictures could not be read and were left out")
    return "\n".join(lines)

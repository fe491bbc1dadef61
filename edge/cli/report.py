"""`leuko report`: the report of a stored result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge.cli import output


def report(
    sample: Annotated[str, typer.Argument(help="Sample identifier; without one, the stored samples are listed.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for report.html and result.json.", show_default=".")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the stored result as JSON, write nothing.")] = False,
) -> None:
    """Write the report of a sample's newest result from the store."""
    from edge import app, config, recording
    from edge.core.errors import NothingToDoError

    settings = config.load()
    with app.open_store(settings, read_only=True) as store:
        if not sample:
            samples = store.samples()
            if json:
                output.answer_json(list(samples))
            else:
                output.answer("\n".join(samples) if samples else "No result is stored yet.")
            return
        record = store.latest(sample)
    if record is None:
        raise NothingToDoError(
            "no-result", f"There is no result for sample {sample!r}.", "Run `leuko report` to list the stored samples."
        )
    if json:
        output.answer_json(record.document)
        return
    path = recording.write_report(record, settings, out or Path.cwd())
    output.note(output.summary(record, settings.ranges.by_label()))
    output.answer(str(path))

"""`leuko export`: a stored result as a file."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from edge.cli import output


class Format(str, Enum):
    """What a result is written as."""

    csv = "csv"
    html = "html"
    pdf = "pdf"
    json = "json"


def export(
    result: Annotated[
        str, typer.Argument(help="Id of a result, the start of one, or a sample (its newest result).", metavar="RESULT")
    ],
    kind: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.html,
    out: Annotated[Path | None, typer.Option(help="File to write; `-` for standard output (not PDF).")] = None,
    cells: Annotated[
        bool, typer.Option("--cells", help="With csv: one row for each cell, not the differential.")
    ] = False,
    version: Annotated[int | None, typer.Option(help="An older version of the result.", min=1)] = None,
) -> None:
    """Write a stored result as CSV, HTML, PDF (printed by the system's Chromium) or JSON."""
    from edge import app, config
    from edge.core import durable
    from edge.core.errors import NothingToDoError, UsageError
    from edge.review import desk, files

    settings = config.load()
    if cells and kind is not Format.csv:
        raise UsageError("export-option", "--cells belongs to --format csv.", "Leave it out, or write CSV.")
    if kind is Format.pdf and str(out) == "-":
        raise UsageError("export-option", "A PDF is not written to a terminal.", "Name a file: --out report.pdf.")
    with app.open_store(settings, read_only=True) as store:
        record = desk.find(store, result)
        if version is not None:
            older = store.get(record.id, version)
            if older is None:
                raise NothingToDoError(
                    "no-result",
                    f"Result {record.id} has no version {version}.",
                    f"Its versions: leuko review history {record.id}",
                )
            record = older
    content = files.exported(record, settings, "cells" if cells else kind.value)
    if str(out) == "-":
        output.answer(content.decode("utf-8-sig").rstrip("\n"))
        return
    path = out or Path(f"{record.id}-v{record.version}{'-cells' if cells else ''}.{kind.value}")
    durable.write_bytes(path, content)
    output.answer(str(path))

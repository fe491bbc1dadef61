"""`leuko demo`: the main job on the built-in simulated slide, with no camera and no network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge.cli import output
from edge.cli.analyze import FieldProgress


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the report and the demo's own store.")] = Path("demo-report"),
    fields: Annotated[int, typer.Option(help="Fields to look at.", min=1, max=500)] = 45,
    seed: Annotated[int, typer.Option(help="Which slide to draw.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")] = False,
) -> None:
    """Count a simulated smear: draw fields, locate, classify, count, store, report."""
    import msgspec

    from edge import app, config, recording

    # A store of its own: drawn cells must never stand among results of patients.
    settings = config.load()
    settings = msgspec.structs.replace(
        settings, data_folder=str(out / "store"), models_folder=str(settings.models_path.absolute())
    )
    with app.open_camera("simulated", f"simulated:seed={seed},fields={fields},cells=5") as camera:
        record = app.analyse(camera.frames(), f"simulated-slide-{seed}", settings, FieldProgress())
    output.progress_end()
    path = recording.write_report(record, settings, out)
    if json:
        output.answer_json(record.document)
    else:
        output.answer(output.summary(record, settings.ranges.by_label()))
        output.answer(f"report: {path.resolve()}")

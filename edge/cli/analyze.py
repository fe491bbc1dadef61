"""`leuko analyze`: whole fields to a differential count, a stored result and a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.cli import output

if TYPE_CHECKING:
    from edge.core.types import FieldFailure, FieldResult


def analyze(
    # Text, since an empty name would be the current folder as a Path.
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Pictures or videos of fields, or folders of pictures.", show_default=False, metavar="PATH..."
        ),
    ],
    sample: Annotated[str, typer.Option(help="Sample identifier; one is made when none is given.")] = "",
    out: Annotated[Path | None, typer.Option(help="Also write report.html and result.json to this folder.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")] = False,
    *,
    camera: Annotated[
        str, typer.Option(help="The camera that took them, as in `leuko calibrate`: its commissioning record is used.")
    ] = "",
    patient: Annotated[str, typer.Option(help="The patient's identifier; only a salted reference is kept.")] = "",
    training_consent: Annotated[
        bool, typer.Option("--training-consent", help="The pictures may be used to train models.")
    ] = False,
) -> None:
    """Count the white cells of whole fields: locate, classify, count, store, report."""
    from edge import app, config
    from edge.core.errors import NothingToDoError

    settings = config.load()
    record = app.analyse(
        app.replay(paths),
        sample,
        settings,
        FieldProgress(),
        patient=patient,
        training_consent=training_consent,
        camera=camera,
    )
    output.progress_end()
    output.note(
        f"corrected with commissioning record {record.calibration} of {camera}"
        if record.calibration
        else "no commissioning record was used: the light was estimated from each field (--camera names the microscope)"
    )
    saved = app.anything_read(record)
    if saved:
        output.note(f"saved {record.id} (sample {record.sample})")
    if json:
        output.answer_json(record.document)
    elif saved:
        output.answer(output.summary(record, settings.ranges.by_label()))
    if not saved:
        raise NothingToDoError(
            "no-field",
            "Not one field could be read; nothing was saved.",
            "Give pictures of fields, or a folder of them; the messages above say what is wrong with each.",
        )
    if out is not None:
        output.note(f"report {app.write_report(record, settings, out)}")
    raise typer.Exit(1 if output.field_errors(record.document) else 0)


class FieldProgress:
    """Shows how many fields are done, and names each that fails or is refused as it happens."""

    def __init__(self) -> None:
        self._done = 0

    def __call__(self, field: FieldResult | FieldFailure) -> None:
        """Hear of one finished field."""
        from edge.core.types import FieldFailure

        self._done += 1
        if isinstance(field, FieldFailure):
            output.progress_end()
            output.note(f"{field.source}: [{field.code}] {field.message}")
        elif not field.quality.accepted:
            output.progress_end()
            output.note(f"{field.source}: refused: {', '.join(field.quality.reasons)}")
        output.progress(self._done, "fields")

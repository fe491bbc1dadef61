"""`leuko analyze`: whole fields to a differential count, a stored result and a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.cli import output

if TYPE_CHECKING:
    from edge.archive.engine import Engine
    from edge.config import Config
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
    workers: Annotated[
        int | None, typer.Option(min=0, max=10_000, help="Processes that share the work; 0: one for each core.")
    ] = None,
    engine: Annotated[str, typer.Option(help="What they run on: serial, processes or ray.")] = "",
    ray_address: Annotated[str, typer.Option(help="A Ray cluster: HOST:6379, or auto.", metavar="ADDRESS")] = "",
    archive: Annotated[
        Path | None,
        typer.Option(help="Count folders and their subfolders into tables here; saves no result.", metavar="DIR"),
    ] = None,
) -> None:
    """Count the white cells of whole fields: locate, classify, count, store, report."""
    from edge import app, config, recording
    from edge.core.errors import NothingToDoError

    settings = config.load()
    if archive is not None:
        _require_alone(sample, out, patient, training_consent)
        chosen = _engine(workers, engine, ray_address)
        raise typer.Exit(_archive(paths, archive, settings, chosen, json=json, camera=camera))
    if workers is not None or engine or ray_address:
        from edge.archive import run

        chosen = _engine(workers, engine, ray_address)
        record = run.analyse_sample(
            paths,
            sample,
            settings,
            chosen,
            on_field=FieldProgress(),
            on_begin=_begun,
            patient=patient,
            training_consent=training_consent,
            camera=camera,
        )
        _told(chosen)
    else:
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
    saved = recording.anything_read(record)
    if saved:
        output.note(
            f"corrected with commissioning record {record.calibration} of {camera}"
            if record.calibration
            else "no commissioning record was used: "
            "the light was estimated from each field (--camera names the microscope)"
        )
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
        output.note(f"report {recording.write_report(record, settings, out)}")
    raise typer.Exit(1 if output.field_errors(record.document) else 0)


def _engine(workers: int | None, name: str, address: str) -> Engine:
    """Open the engine that is asked for: Ray for an address, else processes for several workers."""
    from edge.archive import engine

    count = workers if workers is not None else (0 if name in {"ray", "processes"} or address else 1)
    if not name:
        name = "ray" if address else ("serial" if count == 1 else "processes")
    if count == 0 and name != "ray":
        import os

        count = len(os.sched_getaffinity(0))
    return engine.open_engine(name, count, address)


def _archive(paths: list[str], out: Path, settings: Config, engine: Engine, *, json: bool, camera: str) -> int:
    from dataclasses import asdict

    from edge.archive import run

    found = run.analyse_archive(paths, out, settings, engine, on_field=FieldProgress(), on_begin=_begun, camera=camera)
    output.progress_end()
    _told(engine)
    output.note(f"written {out / 'fields.jsonl'}, folders.jsonl, summary.json")
    if json:
        output.answer_json(asdict(found))
    else:
        output.answer(
            "\n".join(
                [
                    f"{found.fields} fields in {found.folders} folders: {found.refused} refused by the quality gate, "
                    f"{found.unreadable} unreadable",
                    f"{found.counted} cells counted, {found.other} other",
                    *(f"{label} {count}" for label, count in found.classes.items()),
                    "For Research Use Only. Not for use in diagnostic procedures. No person has reviewed this.",
                ]
            )
        )
    return 1 if found.unreadable else 0


def _require_alone(sample: str, out: Path | None, patient: str, training_consent: bool) -> None:
    from edge.core.errors import UsageError

    if sample or out is not None or patient or training_consent:
        raise UsageError(
            "archive-options",
            "An archive has no sample, patient, consent or report.",
            "Leave --sample, --out, --patient and --training-consent out, or --archive.",
        )


def _begun(done: int, count: int) -> None:
    if done:
        output.note(f"{done} of {count} files were done before; the rest follows.")


def _told(engine: Engine) -> None:
    nodes = getattr(engine, "nodes", {})
    if nodes:
        output.note(f"{sum(nodes.values())} workers on {len(nodes)} nodes")


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

"""What is done with the record of a result: who the patient is, and the files that are written of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge.config import Config
    from edge.core.types import ResultRecord


def with_person(record: ResultRecord, patient: str, training_consent: bool, config: Config) -> ResultRecord:
    """Add to a new record who the patient is, as a salted reference, and whether training is agreed to."""
    from dataclasses import replace

    from edge.sync import secrets

    added: dict[str, object] = {}
    if patient.strip():
        added["patient"] = secrets.patient_reference(config.data_path, patient)
    if training_consent:
        added["training_consent"] = True
    return replace(record, document={**record.document, **added}) if added else record


def anything_read(record: ResultRecord) -> bool:
    """Whether at least one field of the record could be read: only then was it saved."""
    return any("error" not in field for field in record.document["fields"])


def new_sample() -> str:
    """Make an identifier for a sample that was given none, so that no two samples are ever mixed up."""
    from edge.core import identifiers

    return f"unnamed-{identifiers.uuid7()}"


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Make a folder and those above it. Raises `StoreError` `folder-not-writable`."""
    from edge.core.errors import StoreError

    try:
        folder.mkdir(mode, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            "folder-not-writable",
            f"The folder {folder} cannot be made: {error.strerror}.",
            "Choose another one (--out, LEUKO_DATA_FOLDER or data_folder in the configuration).",
        ) from None


def write_report(record: ResultRecord, config: Config, folder: Path) -> Path:
    """Write `report.html` and `result.json` of a record into a folder, which is made; returns the report's path."""
    import json

    from edge.core import durable

    make_folder(folder)
    report = folder / "report.html"
    durable.write_text(folder / "result.json", json.dumps(record.document, indent=2) + "\n")
    durable.write_text(report, render_report(record, config))
    return report


def render_report(record: ResultRecord, config: Config) -> str:
    """The report of a record as one self-contained HTML page."""
    from edge.report import html

    return html.render(record, ranges=config.ranges.by_label(), range_profile=config.ranges.profile)

"""The composition root: the only place that wires parts together."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edge.config import Config

if TYPE_CHECKING:
    from edge.core.protocols import CameraSource
    from edge.core.types import Analysis, FieldFailure, FieldResult, Frame, ResultRecord
    from edge.inference.classifier import Classifier
    from edge.store.results import ResultStore

CAMERAS = {
    "simulated": "devices.cameras.simulated:SimulatedCamera.from_spec",
    "replay": "devices.cameras.replay:ReplayCamera",
}
"""Where each camera is implemented; a missing driver costs nothing until it is asked for."""


def bundle_folder(config: Config) -> Path:
    """The folder of the model bundle in use."""
    from edge.bundle import find

    return Path(config.bundle).expanduser() if config.bundle else find.default()


@contextmanager
def open_classifier(config: Config) -> Iterator[Classifier]:
    """Load the bundle, choose a runtime for it and hold that open.

    Before the first call its files have the hashes that the manifest states, and its golden vectors have reproduced on
    this device, with this runtime. Raises BundleError or RuntimeUnavailableError.
    """
    from edge.bundle import manifest, verify
    from edge.inference import negotiate
    from edge.inference.classifier import Classifier

    folder = bundle_folder(config)
    loaded = manifest.load(folder)
    verify.require_files(loaded, folder)
    choice = negotiate.choose(loaded, folder)
    with choice.open(folder, config.threads) as runtime:
        verify.require(verify.verify(folder, runtime))
        yield Classifier(loaded, runtime)


def open_store(config: Config, *, read_only: bool = False) -> ResultStore:
    """The store of results, to be entered by the caller."""
    from edge.store.results import ResultStore

    if not read_only:
        _make_folder(config.data_path)
    return ResultStore(config.database_path, read_only=read_only)


def replay(paths: Sequence[Path | str]) -> Iterator[Frame | FieldFailure]:
    """The frames of pictures, folders and videos, one after the other; a path that cannot be opened is one failure.

    A picture that is named twice, or once itself and once by its folder, comes once: its cells must not count twice.
    """
    from edge import files
    from edge.core.errors import CameraError
    from edge.core.types import FieldFailure

    for path in files.expand(paths):
        try:
            with open_camera("replay", str(path)) as camera:
                yield from camera.frames()
        except CameraError as error:
            yield FieldFailure(files.display_name(path), error.code, str(error))


def open_camera(kind: str, specification: str) -> CameraSource:
    """Make a camera of a kind in `CAMERAS` from its specification; hardware is touched when it is entered."""
    module, _, attribute = CAMERAS[kind].partition(":")
    factory: object = importlib.import_module(module)
    for name in attribute.split("."):
        factory = getattr(factory, name)
    camera: CameraSource = factory(specification)  # type: ignore[operator]
    return camera


def analyse(
    frames: Iterable[Frame | FieldFailure],
    sample: str,
    config: Config,
    on_field: Callable[[FieldResult | FieldFailure], None] | None = None,
) -> ResultRecord:
    """Analyse the fields of a sample and save the result; returns it after it is safely on disk.

    When not one field could be read there is nothing to keep: the record says why for each, and is not saved.
    """
    from edge import session

    # The store is opened first: a disk that cannot keep the result is found before the work is done.
    with open_store(config) as store, open_classifier(config) as classifier:
        analysis = session.analyse(
            frames,
            session.Pipeline(classifier),
            sample or new_sample(),
            ranges=config.ranges.by_label(),
            on_field=on_field,
        )
        record = to_record(analysis, config)
        if anything_read(record):
            store.save(record)
    return record


def anything_read(record: ResultRecord) -> bool:
    """Whether at least one field of the record could be read: only then was it saved."""
    return any("error" not in field for field in record.document["fields"])


def new_sample() -> str:
    """Make an identifier for a sample that was given none, so that no two samples are ever mixed up."""
    from edge.core import identifiers

    return f"unnamed-{identifiers.uuid7()}"


def _make_folder(folder: Path) -> None:
    from edge.core.errors import StoreError

    try:
        folder.mkdir(parents=True, exist_ok=True)
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

    _make_folder(folder)
    report = folder / "report.html"
    durable.write_text(folder / "result.json", json.dumps(record.document, indent=2) + "\n")
    durable.write_text(report, render_report(record, config))
    return report


def render_report(record: ResultRecord, config: Config) -> str:
    """The report of a record as one self-contained HTML page."""
    from edge.report import html

    return html.render(record, ranges=config.ranges.by_label(), range_profile=config.ranges.profile)


def exported(record: ResultRecord, config: Config, kind: str, *, cells: bool = False) -> bytes:
    """A stored result as the content of a file: "csv" (the differential, or the `cells`), "html", "pdf" or "json"."""
    from edge.report import pdf, spreadsheet

    if kind == "csv":
        # With the mark that makes spreadsheets read it as UTF-8.
        return (spreadsheet.cells(record) if cells else spreadsheet.differential(record)).encode("utf-8-sig")
    if kind == "pdf":
        return pdf.printed(render_report(record, config))
    if kind == "html":
        return render_report(record, config).encode("utf-8")
    return record_json(record)


def record_json(record: ResultRecord) -> bytes:
    """A stored result as JSON: what it is stamped with, and the document of the analysis."""
    import dataclasses
    import json

    stamp = {
        field.name: getattr(record, field.name)
        for field in dataclasses.fields(record)
        if field.name not in {"pictures", "document", "created"}
    }
    created = dataclasses.asdict(record.created)
    return (json.dumps({**stamp, "created": created, "document": record.document}, indent=2) + "\n").encode("utf-8")


def to_record(analysis: Analysis, config: Config) -> ResultRecord:
    """Make the record of a finished analysis, with a new id and everything needed to trust it later."""
    from edge.core import clock, identifiers
    from edge.core.types import ResultRecord
    from edge.report import document

    return ResultRecord(
        id=identifiers.uuid7(),
        version=1,
        sample=analysis.sample,
        operator=config.operator,
        device=config.device_name,
        created=clock.read(),
        status="preliminary",
        bundle=analysis.bundle,
        bundle_sha256=analysis.bundle_sha256,
        runtime=str(analysis.runtime),
        calibration=None,
        throttle_bits=None,
        document=document.document(analysis),
        pictures=document.pictures(analysis),
    )

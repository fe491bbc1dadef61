"""An analysis on many workers: list the pieces, do what is not done, and make of it what one worker would make."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge import app, files, recording, session
from edge.archive import codec, tables
from edge.archive.engine import Ended, Engine, GivenUp, Job, Part
from edge.archive.fields import FieldJob, Identity, identity_of
from edge.archive.workfile import WorkFile, facts_text
from edge.calibration import commissioned
from edge.core.errors import NothingToDoError, UsageError
from edge.core.types import FieldFailure, FieldResult

if TYPE_CHECKING:
    from edge.archive.tables import Summary
    from edge.calibration.commissioned import Commissioned
    from edge.config import Config
    from edge.core.types import ResultRecord
    from edge.inference.classifier import Classifier

_BATCH: Final = 64
_BATCH_SECONDS: Final = 1.0
_FORM: Final = "1"

OnField = Callable[[FieldResult | FieldFailure], None]
OnBegin = Callable[[int, int], None]
"""Hears how many pieces are done already, and how many there are."""


def analyse_sample(
    paths: Sequence[Path | str],
    sample: str,
    config: Config,
    engine: Engine,
    *,
    on_field: OnField | None = None,
    on_begin: OnBegin | None = None,
    patient: str = "",
    training_consent: bool = False,
    camera: str = "",
) -> ResultRecord:
    """Analyse the fields of a sample on an engine, and save the result: that of `app.analyse`, but for id and time.

    What was done before it is interrupted, by whatever, is kept: the same call goes on from there, as long as the
    files, the model and the version are the same. Raises as `app.analyse` does, and as the engine.
    """
    known = commissioned.required(camera, config) if camera else None
    before = app.read_sensors(config)
    app.require_space(config)
    expanded = files.expand(paths)
    with app.open_store(config) as store, app.open_classifier(config) as classifier:
        started = time.monotonic()
        pipeline = _pipeline(classifier, known)
        identity = identity_of(pipeline, known.id if known is not None else "")
        work_path = _work_path(config, sample, expanded, identity)
        with WorkFile(work_path) as work:
            if not work.facts():
                work.enlist([("", map(os.fspath, expanded))], {"form": _FORM}, ordered=True)
            job = FieldJob.of(config, identity, previews=session.PREVIEWS, pictures=True, camera=camera)
            drain(engine, job, work, on_field, on_begin)
            found = [codec.decode(data, preview=index < session.PREVIEWS) for index, data in enumerate(work.parts())]
            analysis = session.conclude(
                found,
                pipeline,
                sample or recording.new_sample(),
                ranges=config.ranges.by_label(),
                elapsed_seconds=time.monotonic() - started,
            )
            record = recording.with_person(app.to_record(analysis, config, before), patient, training_consent, config)
            used = None if known is None else known.id
            record = replace(record, calibration=used, document={**record.document, "calibration": used})
            if recording.anything_read(record):
                store.save(record)
            work.remove()
    return record


def analyse_archive(
    paths: Sequence[str],
    out: Path,
    config: Config,
    engine: Engine,
    *,
    on_field: OnField | None = None,
    on_begin: OnBegin | None = None,
    camera: str = "",
) -> Summary:
    """Analyse all pictures in folders and their subfolders, and write tables to `out`. Memory does not grow with them.

    Each folder is judged and counted by itself, as a sample is. The same call goes on with what was interrupted.

    Raises UsageError `archive-finished`, `archive-differs`, `archive-overlaps`, or NothingToDoError `no-field`.
    """
    if tables.finished(out):
        raise UsageError("archive-finished", f"{out} holds a finished analysis.", "Choose another folder.")
    roots = _roots(paths)
    known = commissioned.required(camera, config) if camera else None
    recording.make_folder(out)
    with app.open_classifier(config) as classifier:
        started = time.monotonic()
        pipeline = _pipeline(classifier, known)
        identity = identity_of(pipeline, known.id if known is not None else "")
        facts = {"form": _FORM, "paths": facts_text([os.fsencode(each).hex() for each in roots])}
        facts |= {name: str(getattr(identity, name)) for name in Identity.__dataclass_fields__}
        with WorkFile(out / "work.sqlite3") as work:
            begun = work.facts()
            if not begun:
                work.enlist(walk(roots), facts, ordered=False)
            elif begun != facts:
                raise UsageError(
                    "archive-differs",
                    f"The analysis in {out} was begun with other paths, or another model or version.",
                    "Go on with the same ones, or choose another folder.",
                )
            if work.counts()[1] == 0:
                work.remove()
                raise NothingToDoError("no-field", "There is no picture in these folders.", "Name folders of pictures.")
            job = FieldJob.of(config, identity, previews=0, pictures=False, camera=camera)
            drain(engine, job, work, on_field, on_begin)
            summary = tables.write(
                work,
                out,
                ranges=config.ranges.by_label(),
                identity=identity,
                reference=pipeline.reference,
                origin=classifier.origin,
                engine=engine.name,
                seconds=time.monotonic() - started,
            )
            work.remove()
    return summary


def drain(
    engine: Engine, job: Job, work: WorkFile, on_field: OnField | None = None, on_begin: OnBegin | None = None
) -> None:
    """Do all pieces that are not done, and keep what they give, a batch at a time."""
    done, count = work.counts()
    if on_begin is not None:
        on_begin(done, count)
    if done == count:
        return
    parts: list[tuple[int, int, bytes]] = []
    ended: list[int] = []
    written = time.monotonic()

    def flush() -> None:
        nonlocal written
        work.write(parts, ended)
        parts.clear()
        ended.clear()
        written = time.monotonic()

    outcomes = engine.run(job, work.pending())
    try:
        with contextlib.closing(outcomes):  # type: ignore[type-var]
            for outcome in outcomes:
                if isinstance(outcome, Part):
                    parts.append((outcome.number, outcome.frame, outcome.data))
                    if on_field is not None:
                        on_field(codec.decode(outcome.data, pictures=False))
                elif isinstance(outcome, Ended):
                    ended.append(outcome.number)
                else:
                    flush()
                    failure = _failure(outcome, work.path_of(outcome.number))
                    parts.append(
                        (outcome.number, work.frames_of(outcome.number), codec.encode(failure, pictures=False))
                    )
                    ended.append(outcome.number)
                    if on_field is not None:
                        on_field(failure)
                if len(parts) >= _BATCH or time.monotonic() > written + _BATCH_SECONDS:
                    flush()
    finally:
        flush()


def walk(roots: Sequence[str]) -> Iterator[tuple[str, Iterator[str]]]:
    """Give every folder below the roots with the paths of its pictures, unordered; hidden ones and links are left out.

    A root that is no folder is the one path of its own entry, so that what is wrong with it is said in its turn.
    """
    for root in roots:
        if not Path(root).is_dir():
            yield str(Path(root).parent), iter((root,))
            continue
        waiting = [root]
        while waiting:
            folder = waiting.pop()
            yield folder, _pictures(folder)
            waiting.extend(sorted(_folders(folder), key=lambda each: files.natural_order(Path(each)), reverse=True))


def _pictures(folder: str) -> Iterator[str]:
    with contextlib.suppress(PermissionError), os.scandir(folder) as entries:
        for entry in entries:
            suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122  (a name of bytes is no Path yet)
            if suffix in files.PICTURE_SUFFIXES and not entry.name.startswith(".") and not entry.is_dir():
                yield entry.path


def _folders(folder: str) -> list[str]:
    with contextlib.suppress(PermissionError), os.scandir(folder) as entries:
        return [
            entry.path for entry in entries if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
        ]
    return []


def _roots(paths: Sequence[str]) -> list[str]:
    """Give the paths as absolute ones. Raises UsageError when one lies in another: its cells would count twice."""
    if not all(paths):
        raise UsageError("empty-path", "One of the paths is empty.", "Name a picture or a folder.")
    found = [os.path.abspath(each) for each in paths]  # noqa: PTH100  (links stay as they are)
    for one, other in itertools.permutations(found, 2):
        if one == other or other.startswith(one.rstrip("/") + "/"):
            raise UsageError("archive-overlaps", f"{other} lies in {one}.", "Name each folder once.")
    return found


def _failure(outcome: GivenUp, path: str) -> FieldFailure:
    name = files.display_name(path)
    return FieldFailure(
        name,
        "field-failed",
        f"{name} could not be analysed: {outcome.reason}. Analyse it alone; if it fails again, report it.",
    )


def _pipeline(classifier: Classifier, known: Commissioned | None) -> session.Pipeline:
    if known is None:
        return session.Pipeline(classifier)
    return session.Pipeline(classifier, surface=known.surface, reference=known.reference)


def _work_path(config: Config, sample: str, paths: Sequence[Path], identity: Identity) -> Path:
    """Name the work file after all that its contents depend on: a changed picture or model begins another."""
    digest = hashlib.sha256(facts_text([_FORM, sample, repr(identity)]).encode())
    for path in paths:
        digest.update(os.fsencode(os.path.abspath(path)) + b"\0")  # noqa: PTH100
        with contextlib.suppress(OSError, ValueError):
            found = path.stat()
            digest.update(f"{found.st_size} {found.st_mtime_ns}".encode())
    folder = config.data_path / "unfinished"
    recording.make_folder(folder, 0o700)
    return folder / f"{digest.hexdigest()[:32]}.sqlite3"

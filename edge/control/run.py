"""Runs a control and keeps its log: the one door for the command line and the page."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from edge import choices
from edge.control import judge, reference_set
from edge.control.judge import Judgement
from edge.control.schedule import LONGEST_OVERRIDE_HOURS, ControlEvent, Standing, standing
from edge.core import clock
from edge.core.errors import NothingToDoError, StoreError, UsageError
from edge.core.labels import OTHER
from edge.core.types import Box, FieldResult, Frame

if TYPE_CHECKING:
    from devices.cameras.slide import CellTruth
    from edge.config import Config
    from edge.core.types import ResultRecord

SIMULATED_SET: Final = "built-in simulated slide"
SIMULATED: Final = "simulated:seed=20261124,fields=24,cells=5"
"""The built-in set: it tests software, model and runtime of this device, and neither its camera nor its stain."""

SIMULATED_AGREEMENT: Final = 0.9

UNLOCKED_CAMERAS: Final = ("simulated", "replay")
"""Cameras that no patient lies under: a drawn slide, and pictures that were taken before."""


def status(config: Config) -> Standing:
    """How the control stands now. Raises `StoreError`, `UsageError` for a reference set that cannot be read."""
    return standing(
        events(config),
        clock.read(),
        interval_hours=choices.control_hours(config),
        set_name=_set_name(config),
        bundle=_bundle(config),
    )


def events(config: Config) -> tuple[ControlEvent, ...]:
    """The control log, oldest first; empty where nothing was stored yet."""
    from edge import app

    try:
        with app.open_store(config, read_only=True) as store:
            return store.controls()
    except StoreError as error:
        if error.code == "no-store":
            return ()
        if error.code == "older-schema":
            # Opened for writing, which brings the store up to date.
            with app.open_store(config) as store:
                return store.controls()
        raise


def require_open(config: Config, camera: str) -> None:
    """Raise `NothingToDoError` `control-locked` when patients may not be counted with this camera now."""
    from edge import app

    kind = camera.partition(":")[0]
    # What is no kind of camera is the path of pictures, which are replayed, or is refused when it is opened.
    if kind in UNLOCKED_CAMERAS or kind not in app.CAMERAS:
        return
    found = status(config)
    if found.locked:
        raise NothingToDoError(
            "control-locked",
            f"The patient mode is locked. {found.says}",
            "Run the control: leuko control run. In an emergency: leuko control override --reason ... --operator ...",
        )


def run(config: Config, operator: str) -> ControlEvent:
    """Run the reference set of the configuration and log the verdict; passed or failed, it is an event.

    Raises `UsageError` for a missing operator or a set that cannot be read, `StoreError` before the work when the log
    cannot be written.
    """
    _require(operator, "runs the control")
    from edge import app

    # The log is opened first: a disk that cannot keep the verdict is found before the work is done.
    with app.open_store(config) as store:
        name = _set_name(config)
        event = _event(_judged(config), name, operator, config)
        store.log_control(event)
    return event


def run_when_due(config: Config, operator: str, within_hours: float) -> ControlEvent | None:
    """Run the control where it is due within so many hours; None where it is not, or must wait.

    For a schedule. One that has failed is not repeated: a person has to look why. One that was overridden, or is not
    asked for, is left alone, and so is a device on which a session runs.
    """
    found = status(config)
    due = found.code in {"never", "overdue", "model-changed", "clock-unsure"} or (
        found.code == "passed" and found.due_in_hours is not None and found.due_in_hours <= within_hours
    )
    if not due or _session_runs(config):
        return None
    return run(config, operator)


def _session_runs(config: Config) -> bool:
    from edge import app

    return any(phase in {"running", "paused", "starting"} for _, phase in app.sessions(config))


def judge_result(config: Config, record: ResultRecord, operator: str) -> ControlEvent:
    """Log a stored result, of a control slide under this microscope, as a run of the control.

    The configured set must state what its slide is expected to be. Raises as `run` does.
    """
    from edge import app
    from edge.review.relabel import recount

    _require(operator, "runs the control")
    known = _reference_set(config)
    if known is None or not known.expected:
        raise UsageError(
            "control-set",
            "It is not known what the control slide is expected to be.",
            "Set [control] folder to a folder whose control.toml has [expected]: see docs/page.md.",
        )
    with app.open_store(config) as store:
        found = judge.within(recount(record.document, {}), known.expected)
        finding = Judgement(found.passed, f"result {record.id} v{record.version}: {found.finding}")
        event = _event(finding, known.name, operator, config)
        store.log_control(event)
    return event


def override(config: Config, operator: str, reason: str, hours: int) -> ControlEvent:
    """Open the patient mode for so many hours, and log who did and why.

    Raises `UsageError`: `operator-missing`, `reason-missing`, `override-too-long`, `not-locked`.
    """
    _require(operator, "overrides the lock")
    if not reason.strip():
        raise UsageError("reason-missing", "No reason is given.", "Say why patients are counted without a control.")
    if not 1 <= hours <= LONGEST_OVERRIDE_HOURS:
        raise UsageError(
            "override-too-long",
            f"A lock is not overridden for {hours} hours.",
            f"Choose 1 to {LONGEST_OVERRIDE_HOURS}; then the control has to be run or overridden again.",
        )
    from edge import app

    if not status(config).locked:
        raise UsageError("not-locked", "The patient mode is not locked.", "Nothing has to be overridden.")
    with app.open_store(config) as store:
        event = ControlEvent(
            event="override",
            passed=False,
            set_name=_set_name(config),
            finding="",
            operator=operator.strip(),
            reason=reason.strip(),
            hours=float(hours),
            bundle=_bundle(config),
            recorded=clock.read(),
        )
        store.log_control(event)
    return event


def _judged(config: Config) -> Judgement:
    known = _reference_set(config)
    if known is None:
        return _simulated(config)
    return _fields(config, known) if known.expected else _cells(config, known)


def _simulated(config: Config) -> Judgement:
    from edge import app, session

    labels: list[str] = []
    called: list[str] = []
    with app.open_classifier(config) as classifier, app.open_camera("simulated", SIMULATED) as camera:
        pipeline = session.Pipeline(classifier)
        for frame in camera.frames():
            if isinstance(frame, Frame):
                truth = [cell for cell in cast(Any, camera).truth(frame.source) if cell.whole]
                labels += [cell.label for cell in truth]
                called += _matched(truth, session.analyse_field(frame, pipeline, with_preview=False))
    return judge.agreement(labels, called, SIMULATED_AGREEMENT)


def _matched(truth: Iterable[CellTruth], field: FieldResult) -> list[str]:
    """What each known cell was called: the call whose box holds its centre, else `other`, since it was missed."""
    called = []
    for cell in truth:
        found = next((each.call for each in field.cells if _holds(each.call.box, cell.centre)), None)
        called.append(OTHER if found is None or found.abstained else found.label)
    return called


def _holds(box: Box, point: tuple[float, float]) -> bool:
    return box.x <= point[0] < box.x + box.width and box.y <= point[1] < box.y + box.height


def _cells(config: Config, known: reference_set.ReferenceSet) -> Judgement:
    from edge import app, files, session

    called = []
    with app.open_classifier(config) as classifier:
        for _, path in known.cells:
            call = session.classify_picture(files.read_image(path), classifier)
            called.append(OTHER if call.abstained else call.label)
    return judge.agreement([label for label, _ in known.cells], called, known.minimum_agreement)


def _fields(config: Config, known: reference_set.ReferenceSet) -> Judgement:
    from edge import app, session

    pictures = sorted(path for path in known.folder.iterdir() if path.is_file() and path.name != reference_set.FILE)
    with app.open_classifier(config) as classifier:
        analysis = session.analyse(app.replay(pictures), session.Pipeline(classifier), known.name, ranges={})
    unread = sum(not isinstance(field, FieldResult) for field in analysis.fields)
    if unread:
        return Judgement(False, f"{unread} of {len(analysis.fields)} pictures of the reference set cannot be read")
    return judge.within(analysis.differential, known.expected)


def _event(found: Judgement, name: str, operator: str, config: Config) -> ControlEvent:
    return ControlEvent(
        event="run",
        passed=found.passed,
        set_name=name,
        finding=found.finding,
        operator=operator.strip(),
        reason="",
        hours=0.0,
        bundle=_bundle(config),
        recorded=clock.read(),
    )


def _reference_set(config: Config) -> reference_set.ReferenceSet | None:
    return reference_set.load(Path(config.control.folder).expanduser()) if config.control.folder else None


def _set_name(config: Config) -> str:
    known = _reference_set(config)
    return SIMULATED_SET if known is None else known.name


def _bundle(config: Config) -> str:
    from edge import app
    from edge.bundle import manifest

    return manifest.load(app.bundle_folder(config)).sha256


def _require(operator: str, does: str) -> None:
    if not operator.strip():
        raise UsageError("operator-missing", f"Nobody is named who {does}.", "Name the operator: --operator NAME.")

"""The composition root: the only place that wires parts together."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from edge.config import Config
from edge.recording import anything_read, make_folder, new_sample, with_person

if TYPE_CHECKING:
    from devices.cameras.discovery import Found
    from edge.bundle.slots import Slots
    from edge.core.device import SensorReading
    from edge.core.errors import LeukoError
    from edge.core.protocols import CameraSource
    from edge.core.types import Analysis, BundleOrigin, FieldFailure, FieldResult, Frame, ResultRecord
    from edge.health.thermal import ThermalGuard
    from edge.inference.classifier import Classifier
    from edge.live.order import SessionOrder
    from edge.live.session import LiveSession
    from edge.live.state import LiveState, Phase
    from edge.session import Pipeline
    from edge.store.journal import JournalSession
    from edge.store.results import ResultStore

CAMERAS = {
    "simulated": "devices.cameras.simulated:SimulatedCamera.from_spec",
    "replay": "devices.cameras.replay:ReplayCamera",
    "picamera2": "devices.cameras.hardware:picamera2",
    "uvc": "devices.cameras.hardware:uvc",
    "gstreamer": "devices.cameras.hardware:gstreamer",
}
"""Where each camera is implemented; a missing driver costs nothing until it is asked for."""


def bundle_folder(config: Config) -> Path:
    """The folder of the model bundle in use: the configured one, else the active slot's, else the package's."""
    return Path(config.bundle).expanduser() if config.bundle else model_slots(config).in_use().folder


def model_slots(config: Config) -> Slots:
    """The slots of this device's installed bundles."""
    from edge.bundle.slots import Slots

    return Slots(config.models_path)


def device_class(config: Config) -> str:
    """The class of this device, as releases name it: its profile; a generic one with its architecture."""
    import platform

    from edge.health import device

    name = device.chosen(config).profile.name.replace("_", "-")
    return f"{name}-{platform.machine().lower().replace('_', '-')}" if name == "generic" else name


def bundle_name(config: Config) -> str:
    """Name and version of the bundle in use; empty when it cannot be read."""
    from edge.bundle import manifest
    from edge.core.errors import BundleError

    try:
        found = manifest.load(bundle_folder(config))
    except BundleError:
        return ""
    return f"{found.name}@{found.version}"


@contextmanager
def open_classifier(config: Config) -> Iterator[Classifier]:
    """Load the bundle, choose a runtime for it and hold that open.

    Before the first call its files have the hashes that the manifest states, and its golden vectors have reproduced on
    this device, with this runtime. An installed bundle that fails there is left for the previous one, or that of the
    package. Raises BundleError or RuntimeUnavailableError.
    """
    from edge.bundle import probation

    with ExitStack() as stack:
        if config.bundle:
            folder = Path(config.bundle).expanduser()
            yield stack.enter_context(_classifier(folder, _configured_origin(folder, config), config))
            return
        watch = probation.Watch(model_slots(config))
        first: LeukoError | None = None
        for candidate in watch.candidates():
            try:
                classifier = stack.enter_context(_classifier(candidate.folder, candidate.origin, config))
            except probation.BUNDLE_FAILURES as error:
                watch.refused(candidate, error)
                first = first or error
                continue
            with watch.running(candidate):
                yield classifier
            return
        if first is not None:
            raise first


def _configured_origin(folder: Path, config: Config) -> BundleOrigin:
    """Where the trust in a configured bundle is from. Raises BundleError `bundle-unsigned` unless that is allowed."""
    from edge.bundle import find, manifest
    from edge.core.errors import BundleError

    sha256 = manifest.load(folder).sha256
    if sha256 in {manifest.load(known).sha256 for known in find.available()}:
        return "shipped"
    with suppress(BundleError):
        state = model_slots(config).load()
        if sha256 in {record.manifest_sha256 for record in (state.a, state.b) if record is not None}:
            return "signed"
    if not config.allow_unsigned_bundle:
        raise BundleError(
            "bundle-unsigned",
            f"The bundle in {folder} is neither that of the package nor installed from a signed release.",
            "Install a release (`leuko model install`); to develop a model, set allow_unsigned_bundle = true in the "
            "configuration (LEUKO_ALLOW_UNSIGNED_BUNDLE=1): every result then says so.",
        )
    return "unsigned"


@contextmanager
def worker_pipeline(config: Config) -> Iterator[Pipeline]:
    """Hold the bundle in use open in one of many workers, which must not judge for the device that it is broken.

    Raises BundleError or RuntimeUnavailableError.
    """
    from edge.session import Pipeline

    with _classifier(bundle_folder(config), "shipped", config) as classifier:
        yield Pipeline(classifier)


@contextmanager
def _classifier(folder: Path, origin: BundleOrigin, config: Config) -> Iterator[Classifier]:
    from edge.bundle import manifest, verify
    from edge.health import device
    from edge.inference.classifier import Classifier

    loaded = manifest.load(folder)
    verify.require_files(loaded, folder)
    profile = device.chosen(config).profile
    choice = device.negotiate(config, loaded, folder)
    with choice.open(folder, config.threads or profile.threads) as runtime:
        verify.require(verify.verify(folder, runtime))
        yield Classifier(loaded, runtime, profile.batch, origin)


def read_sensors(config: Config) -> SensorReading:
    """Temperature, throttling and supply of this device now."""
    from edge.health import device

    return device.sensors(device.chosen(config).profile)


def thermal_guard(config: Config) -> ThermalGuard:
    """The guard that a long loop asks before each field: its `advice()` has `action` (run, slow, stop) and `reason`."""
    from edge.health import device

    return device.guard(device.chosen(config).profile)


def open_store(config: Config, *, read_only: bool = False) -> ResultStore:
    """The store of results, to be entered by the caller."""
    from edge.store.results import ResultStore

    if not read_only:
        make_folder(config.data_path, 0o700)  # results are of patients
    return ResultStore(config.database_path, read_only=read_only)


def require_space(config: Config) -> None:
    """Refuse a new sample when the disk is so full that kept results would be in danger. Raises StoreError."""
    from edge.store import retention

    retention.require_space(config.database_path, int(config.storage.refuse_below_megabytes * 1_000_000))


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


def cameras() -> Iterator[Found]:
    """Find the cameras of this machine, with what hinders those kinds that cannot be used."""
    from devices.cameras import discovery

    return discovery.cameras()


def camera(specification: str, config: Config) -> CameraSource:
    """The camera that "kind" or "kind:settings" names; without a name, the one of the device's profile.

    A path of a folder, picture or video is a replay. Raises UsageError for a kind that does not exist or settings that
    cannot be; hardware is touched when the camera is entered.
    """
    from edge.core.errors import UsageError

    if not specification:
        from edge.health import device

        specification = device.chosen(config).profile.camera
    kind, _, rest = specification.partition(":")
    if kind not in CAMERAS and Path(specification).exists():
        kind, rest = "replay", specification
    if kind not in CAMERAS:
        raise UsageError(
            "unknown-camera", f"There is no camera {specification!r}.", f"Name one of {', '.join(CAMERAS)}."
        )
    return open_camera(kind, rest if kind == "replay" else specification)


def analyse(
    frames: Iterable[Frame | FieldFailure],
    sample: str,
    config: Config,
    on_field: Callable[[FieldResult | FieldFailure], None] | None = None,
    *,
    patient: str = "",
    training_consent: bool = False,
    camera: str = "",
) -> ResultRecord:
    """Analyse the fields of a sample and save the result; returns it after it is safely on disk.

    `camera` names the one that took them: what its commissioning record says is used as in a live session, and a field
    of another shape is a failure. Raises UsageError `no-calibration` where it has none. Of `patient`, the patient's
    identifier, only a salted reference is kept; `training_consent` says that the pictures may be used to train models.

    When not one field could be read there is nothing to keep: the record says why for each, and is not saved.
    """
    from dataclasses import replace

    from edge import session
    from edge.calibration import commissioned

    record_of = commissioned.required(camera, config) if camera else None
    before = read_sensors(config)
    # The store is opened first: a disk that cannot keep the result is found before the work is done.
    require_space(config)
    with open_store(config) as store, open_classifier(config) as classifier:
        analysis = session.analyse(
            frames if record_of is None else commissioned.fitting(frames, record_of),
            session.Pipeline(
                classifier,
                surface=None if record_of is None else record_of.surface,
                reference=None if record_of is None else record_of.reference,
            ),
            sample or new_sample(),
            ranges=config.ranges.by_label(),
            on_field=on_field,
        )
        record = with_person(to_record(analysis, config, before), patient, training_consent, config)
        used = None if record_of is None else record_of.id
        record = replace(record, calibration=used, document={**record.document, "calibration": used})
        if anything_read(record):
            store.save(record)
    return record


def start_session(order: SessionOrder, config: Config) -> LiveSession:
    """Start a live session in threads of its own. What goes wrong then is in its state, not raised here.

    Raises NothingToDoError `control-locked` when patients may not be counted now.
    """
    from edge.control import run as quality_control
    from edge.core import identifiers
    from edge.live import wiring
    from edge.live.session import LiveSession

    quality_control.require_open(config, order.camera)
    require_space(config)
    make_folder(config.data_path)
    return LiveSession(wiring.parts(order.camera, config), order, identifiers.uuid7()).start()


def resume_session(identifier: str, config: Config) -> LiveSession:
    """Go on with a session that was cut off, that failed, or that was aborted by mistake; its count goes on.

    Raises StoreError `no-session`, UsageError `session-running` or `session-finished`.
    """
    from edge.live import wiring
    from edge.live.session import LiveSession

    order = wiring.resumable(identifier, config)
    return LiveSession(wiring.parts(order.camera, config), order, identifier, resumed=True).start()


def session_state(identifier: str, config: Config) -> LiveState:
    """Read the state of a session from its journal. Raises StoreError, `no-session` among others."""
    from edge.live import wiring

    return wiring.state(identifier, config)


def abort_session(identifier: str, config: Config) -> None:
    """Mark a session that no process works on as aborted. Raises StoreError or UsageError as `resume_session` does."""
    from edge.live import wiring

    wiring.abort(identifier, config)


def sessions(config: Config) -> list[tuple[JournalSession, Phase]]:
    """All live sessions of this device with where each stands, the latest first."""
    from edge.live import wiring

    return wiring.sessions(config)


def to_record(analysis: Analysis, config: Config, before: SensorReading | None = None) -> ResultRecord:
    """Make the record of a finished analysis, with a new id and everything needed to trust it later.

    `before` are the sensors as they were when the analysis began; they are read again, and what was wrong with supply
    or temperature at either moment is stamped on the record.
    """
    from edge.core import clock, identifiers
    from edge.core.device import throttle_union
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
        throttle_bits=throttle_union(before.throttle_bits if before else None, read_sensors(config).throttle_bits),
        document=document.document(analysis),
        pictures=document.pictures(analysis),
    )

"""Is this device fit: one check for each thing that a result rests on, each with its evidence and its cure."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edge.core.device import Profile
from edge.core.errors import LeukoError, StoreError
from edge.health import device, machine, surroundings
from edge.health.check import Check
from edge.store import encryption

if TYPE_CHECKING:
    from edge.bundle.manifest import Manifest

PROBE = "devices.runtimes.probe:probe"
PROBE_IMPORT = "devices.runtimes.probe:probe_import"
SIMULATED_CAMERA = "devices.cameras.simulated:SimulatedCamera"

_MODULES: Final = (
    ("numpy", "numpy"),
    ("cv2", "opencv-python-headless"),
    ("PIL.Image", "pillow"),
    ("msgspec", "msgspec"),
)
"""Packages with native code, by the module to import and the name to install."""

_MAKE_ROOM: Final = "sudo apt-get clean && sudo journalctl --vacuum-size=50M"
_SET_THE_CLOCK: Final = "sudo timedatectl set-ntp true"
_AGAIN: Final = "pip install --force-reinstall"
_LEAST_SPACE: Final = 200_000_000
_GOOD_SPACE: Final = 1_000_000_000
_LEAST_MEMORY: Final = 250_000_000


def examine(
    bundle: Path | None,
    data_folder: Path,
    database: Path,
    *,
    profile: Profile | None = None,
    models: Path | None = None,
) -> Iterator[Check]:
    """Examine this device, one check after another. Changes nothing that stays, and never raises for what it finds.

    `bundle` is the bundle's folder, by default the shipped one; `data_folder` holds what the device writes, `database`
    is its file of results, `profile` the one in use, by default the one that fits the machine, `models` the folder of
    installed bundles.
    """
    yield operating_system(sys.maxsize > 2**32, platform.system(), platform.machine())
    yield python_version(sys.version_info[:3])
    yield from _packages()
    profile = device.detect().profile if profile is None else profile
    yield from _bundle(bundle, profile.runtimes)
    if models is not None:
        yield installed_bundles(models)
    yield _guarded("clock", _clock, "Connect the device to a network once, or fit a battery-backed clock.")
    yield disk_space(data_folder, shutil.disk_usage(_nearest(data_folder)).free)
    yield memory(machine.available_memory())
    yield data_folder_writable(data_folder)
    yield database_sound(database)
    yield surroundings.sync(database)
    yield _guarded("camera-simulated", _simulated_camera, "Install the package again.")
    yield Check("profile", "ok", f"{profile.name} ({profile.title})")
    yield from surroundings.cameras(profile)
    yield surroundings.permissions(data_folder, profile)
    yield from surroundings.heat_and_power(profile)


def operating_system(is_64_bit: bool, system: str, architecture: str) -> Check:
    """Judge the operating system: the runtimes exist for 64-bit ones only."""
    bits = "64" if is_64_bit else "32"
    evidence = f"{system} on {architecture}, {bits}-bit Python"
    if not is_64_bit:
        cure = "Install a 64-bit system, for example the 64-bit Raspberry Pi OS: the runtimes exist for no other."
        return Check("operating-system", "fail", evidence, cure)
    if system != "Linux":
        return Check(
            "operating-system", "warn", evidence, "Use Linux on a device; elsewhere this is for a first look only."
        )
    return Check("operating-system", "ok", evidence)


def python_version(version: tuple[int, ...]) -> Check:
    """Judge the Python version against those that this release was tested on, 3.10 to 3.13."""
    evidence = "Python " + ".".join(map(str, version))
    if version < (3, 10):
        cure = "Install Python 3.10 or later."
        return Check("python", "fail", evidence, cure, "sudo apt-get install -y python3 python3-venv")
    if version >= (3, 14):
        return Check("python", "warn", evidence, "Use Python 3.10 to 3.13: later ones were not tested.")
    return Check("python", "ok", evidence)


def disk_space(folder: Path, free: int) -> Check:
    """Judge the free bytes on the disk that holds the data folder."""
    evidence = f"{free / 1e9:.1f} GB free for {folder}"
    if free < _LEAST_SPACE:
        return Check("disk-space", "fail", evidence, "Free space on this disk: results could not be saved.", _MAKE_ROOM)
    if free < _GOOD_SPACE:
        return Check("disk-space", "warn", evidence, "Free space on this disk: at least 1 GB.", _MAKE_ROOM)
    return Check("disk-space", "ok", evidence)


def memory(available: int | None) -> Check:
    """Judge the available memory in bytes."""
    if available is None:
        return Check("memory", "ok", "not readable on this system")
    evidence = f"{available / 1e6:.0f} MB available"
    if available < _LEAST_MEMORY:
        return Check("memory", "warn", evidence, "Close other programs: an analysis needs about 250 MB.")
    return Check("memory", "ok", evidence)


def _packages() -> Iterator[Check]:
    from edge.inference.negotiate import resolve

    probe_import: Callable[[str], Any] = resolve(PROBE_IMPORT)
    for module, distribution in _MODULES:
        found = probe_import(module)
        identifier = f"package-{distribution.partition('-')[0]}"
        if found.ok:
            yield Check(identifier, "ok", found.evidence)
        else:
            yield Check(identifier, "fail", found.evidence, "Install it again.", f"{_AGAIN} {distribution}")


def _bundle(folder: Path | None, preferred: tuple[tuple[str, str], ...]) -> Iterator[Check]:
    from edge.bundle import find, manifest, verify

    try:
        folder = find.default() if folder is None else folder
        bundle = manifest.load(folder)
    except LeukoError as error:
        yield Check("bundle", "fail", error.message, error.cure)
        return
    yield Check("bundle", "ok", f"{bundle.identity} in {folder}")
    checks = verify.check_files(bundle, folder)
    if wrong := [f"{check.file}: {check.fault}" for check in checks if not check.ok]:
        yield Check("bundle-files", "fail", "; ".join(wrong), "Install the bundle again.", f"{_AGAIN} leukoscope")
        return
    yield Check("bundle-files", "ok", f"{len(checks)} files have the hashes that the manifest states")
    yield from _network(bundle, folder, preferred)


def _network(bundle: Manifest, folder: Path, preferred: tuple[tuple[str, str], ...]) -> Iterator[Check]:
    """Try the bundle's variants in child processes, then the golden vectors on the one that will be used."""
    from edge.bundle import verify
    from edge.inference import negotiate

    probe = negotiate.resolve(PROBE)
    evidence = ""

    def trial(factory: str, model: Path) -> str | None:
        nonlocal evidence
        found = probe(factory, model)
        evidence = str(found.evidence)
        return None if found.ok else evidence

    try:
        choice = negotiate.choose(bundle, folder, preferred=preferred, trial=trial)
        if choice.refused:
            evidence = "; refused: ".join([evidence, *map(str, choice.refused)])
        if any(not refusal.expected for refusal in choice.refused):
            yield Check("runtime", "warn", evidence, "Mend the runtime that was refused.", f"{_AGAIN} ai-edge-litert")
        else:
            yield Check("runtime", "ok", evidence)
    except LeukoError as error:
        yield Check("runtime", "fail", error.message, error.cure)
        return
    try:
        with choice.open(folder) as runtime:
            result = verify.check_golden(bundle, folder, runtime)
    except LeukoError as error:
        yield Check("golden-vectors", "fail", error.message, error.cure)
        return
    evidence = (
        f"{result.agreeing} of {result.vectors} keep their class on {result.runtime}, "
        f"largest difference {result.difference:.3g} (tolerance {result.tolerance:.3g})"
    )
    cure = "" if result.ok else "This device computes the network wrongly: take no results from it."
    yield Check("golden-vectors", "ok" if result.ok else "fail", evidence, cure)


def installed_bundles(models: Path) -> Check:
    """Judge the slots of installed bundles: damaged, on probation, or stopped after too many failures."""
    from edge.bundle.slots import Slots

    slots = Slots(models)
    try:
        state = slots.load()
    except LeukoError as error:
        return Check("bundle-slots", "warn", error.message, error.cure)
    if stop := slots.describe_stop():
        return Check("bundle-slots", "warn", stop, "See `leuko model list`; then `leuko model activate --insist`.")
    probation = f", on probation for {state.probation} more analyses" if state.probation else ""
    return Check("bundle-slots", "ok", f"active: {state.name(state.active)}{probation}")


def _guarded(identifier: str, check: Callable[[], Check], cure: str) -> Check:
    try:
        return check()
    except LeukoError as error:
        return Check(identifier, "fail", error.message, error.cure)
    except (ImportError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        return Check(identifier, "fail", f"{type(error).__name__}: {error}", cure)


def _clock() -> Check:
    from edge.core import clock

    reading = clock.read()
    evidence = f"{reading.wall}, source: {reading.tier}"
    if reading.tier == "unknown":
        cure = "Connect it to a network once, or fit a battery-backed clock: until then the time on results is unsure."
        return Check("clock", "warn", evidence, cure, _SET_THE_CLOCK)
    return Check("clock", "ok", evidence)


def _simulated_camera() -> Check:
    from edge.core.types import Frame
    from edge.inference.negotiate import resolve

    with resolve(SIMULATED_CAMERA)() as camera:
        first = next(iter(camera.frames()), None)
    if not isinstance(first, Frame):
        return Check("camera-simulated", "fail", "the simulated camera gave no frame", "Install the package again.")
    height, width = first.image.shape[:2]
    return Check("camera-simulated", "ok", f"gives fields of {width}x{height}")


def _nearest(folder: Path) -> Path:
    """Find the folder itself, or the closest one above it that exists."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())


def data_folder_writable(folder: Path) -> Check:
    """Try to write in the data folder; one that does not exist yet is not made, only judged by its parent."""
    existing = _nearest(folder)
    cure = f"Give the user that runs this the right to write in {existing}."
    command = f'sudo chown -R "$USER" {shlex.quote(str(existing))}'
    blocking = next((path for path in (folder, *folder.parents) if path.exists() and not path.is_dir()), None)
    if blocking is not None:
        return Check(
            "data-folder", "fail", f"{blocking} is not a folder", "Name another data folder, or move this file."
        )
    if existing != folder.absolute():
        if os.access(existing, os.W_OK | os.X_OK):
            return Check("data-folder", "ok", f"{folder} does not exist yet and can be made")
        return Check("data-folder", "fail", f"{folder} does not exist and cannot be made in {existing}", cure, command)
    try:
        with tempfile.TemporaryFile(dir=folder) as trial:
            trial.write(b"leukoscope")
            trial.flush()
            os.fsync(trial.fileno())
    except OSError as error:
        return Check("data-folder", "fail", f"{folder} cannot be written: {error}", cure, command)
    return Check("data-folder", "ok", f"{folder} can be written")


def database_sound(path: Path) -> Check:
    """Check the file of results without changing it."""
    if not path.exists():
        return Check("database", "ok", f"no results yet in {path}")
    cure = f"Keep a copy of {path}, and restore the last backup; take no new results into it."
    try:
        connection = encryption.open_database(path, f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10)
        try:
            faults = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
            orphans = connection.execute("PRAGMA foreign_key_check").fetchall()
        finally:
            connection.close()
    except StoreError as error:
        return Check("database", "fail", error.message, error.cure)
    except encryption.errors() as error:
        return Check("database", "fail", f"{path}: {error}", cure)
    if faults != ["ok"] or orphans:
        return Check(
            "database", "fail", f"{path}: {'; '.join(faults[:3])}; {len(orphans)} rows without their parent", cure
        )
    return Check("database", "ok", f"{path} passes its integrity check")

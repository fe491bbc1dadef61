"""Is this device fit: one check for each thing that a result rests on, each with its evidence and its cure."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from edge.core.device import SINCE_BOOT, Profile, ThermalLimits, throttle_words
from edge.core.errors import LeukoError
from edge.health import machine

if TYPE_CHECKING:
    from edge.bundle.manifest import Manifest

Verdict = Literal["ok", "warn", "fail"]

WORST_FIRST: Final[tuple[Verdict, ...]] = ("fail", "warn", "ok")

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

_LEAST_SPACE: Final = 200_000_000
_GOOD_SPACE: Final = 1_000_000_000
_LEAST_MEMORY: Final = 250_000_000


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: `id` never changes, `evidence` says what was seen, `cure` what to do when the verdict is not ok."""

    id: str
    verdict: Verdict
    evidence: str
    cure: str = ""


def worst(checks: Iterable[Check]) -> Verdict:
    """Return the worst verdict among the checks; ok when there are none."""
    found = {check.verdict for check in checks}
    return next((verdict for verdict in WORST_FIRST if verdict in found), "ok")


def examine(
    bundle: Path | None, data_folder: Path, database: Path, *, profile: Profile | None = None
) -> Iterator[Check]:
    """Examine this device, one check after another. Changes nothing that stays, and never raises for what it finds.

    `bundle` is the bundle's folder, by default the shipped one; `data_folder` holds what the device writes, `database`
    is its file of results, `profile` the one in use, by default the one that fits the machine.
    """
    yield operating_system(sys.maxsize > 2**32, platform.system(), platform.machine())
    yield python_version(sys.version_info[:3])
    yield from _packages()
    yield from _bundle(bundle)
    yield _guarded("clock", _clock, "Connect the device to a network once, or fit a battery-backed clock.")
    yield disk_space(data_folder, shutil.disk_usage(_nearest(data_folder)).free)
    yield memory(machine.available_memory())
    yield data_folder_writable(data_folder)
    yield database_sound(database)
    yield _guarded("camera-simulated", _simulated_camera, "Install the package again.")
    yield from _heat_and_power(profile)


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
        return Check("python", "fail", evidence, "Install Python 3.10 or later.")
    if version >= (3, 14):
        return Check("python", "warn", evidence, "Use Python 3.10 to 3.13: later ones were not tested.")
    return Check("python", "ok", evidence)


def disk_space(folder: Path, free: int) -> Check:
    """Judge the free bytes on the disk that holds the data folder."""
    evidence = f"{free / 1e9:.1f} GB free for {folder}"
    if free < _LEAST_SPACE:
        return Check("disk-space", "fail", evidence, "Free space on this disk: results could not be saved.")
    if free < _GOOD_SPACE:
        return Check("disk-space", "warn", evidence, "Free space on this disk: at least 1 GB.")
    return Check("disk-space", "ok", evidence)


def memory(available: int | None) -> Check:
    """Judge the available memory in bytes."""
    if available is None:
        return Check("memory", "ok", "not readable on this system")
    evidence = f"{available / 1e6:.0f} MB available"
    if available < _LEAST_MEMORY:
        return Check("memory", "warn", evidence, "Close other programs: an analysis needs about 250 MB.")
    return Check("memory", "ok", evidence)


def temperature(celsius: float | None, limits: ThermalLimits) -> Check:
    """Judge the temperature of the hottest sensor by the limits of the device's profile."""
    if celsius is None:
        return Check("temperature", "ok", "this machine shows no temperature sensor")
    evidence = f"{celsius:.0f} °C; slows at {limits.slow:g}, stops at {limits.stop:g}"
    cure = "Let the device cool down, and give it a heat sink or a fan."
    if celsius >= limits.stop:
        return Check("temperature", "fail", evidence, cure)
    if celsius >= limits.slow:
        return Check("temperature", "warn", evidence, cure)
    return Check("temperature", "ok", evidence)


def throttling(bits: int | None) -> Check:
    """Judge the throttling word of the device."""
    if bits is None:
        return Check("throttling", "ok", "this machine does not report throttling")
    now, before = throttle_words(bits), throttle_words(bits >> SINCE_BOOT)
    if now:
        return Check(
            "throttling", "warn", f"now: {', '.join(now)} ({bits:#x})", "Use the official power supply, and cool it."
        )
    if before:
        return Check(
            "throttling", "warn", f"since boot: {', '.join(before)} ({bits:#x})", "Use the official power supply."
        )
    return Check("throttling", "ok", f"no throttling since boot ({bits:#x})")


def _heat_and_power(profile: Profile | None) -> Iterator[Check]:
    from edge.health import device

    profile = device.detect().profile if profile is None else profile
    reading = device.sensors(profile)
    yield temperature(reading.celsius, profile.thermal)
    yield throttling(reading.throttle_bits)


def _packages() -> Iterator[Check]:
    from edge.inference.negotiate import resolve

    probe_import: Callable[[str], Any] = resolve(PROBE_IMPORT)
    for module, distribution in _MODULES:
        found = probe_import(module)
        cure = "" if found.ok else f"Install it again: pip install --force-reinstall {distribution}"
        yield Check(f"package-{distribution.partition('-')[0]}", "ok" if found.ok else "fail", found.evidence, cure)


def _bundle(folder: Path | None) -> Iterator[Check]:
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
        yield Check("bundle-files", "fail", "; ".join(wrong), "Install the bundle again.")
        return
    yield Check("bundle-files", "ok", f"{len(checks)} files have the hashes that the manifest states")
    yield from _network(bundle, folder)


def _network(bundle: Manifest, folder: Path) -> Iterator[Check]:
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
        choice = negotiate.choose(bundle, folder, trial=trial)
        if choice.refused:
            evidence = "; refused: ".join([evidence, *map(str, choice.refused)])
            yield Check("runtime", "warn", evidence, "Mend the runtime that was refused: pip install ai-edge-litert")
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
        return Check("clock", "warn", evidence, cure)
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
    blocking = next((path for path in (folder, *folder.parents) if path.exists() and not path.is_dir()), None)
    if blocking is not None:
        return Check(
            "data-folder", "fail", f"{blocking} is not a folder", "Name another data folder, or move this file."
        )
    if existing != folder.absolute():
        if os.access(existing, os.W_OK | os.X_OK):
            return Check("data-folder", "ok", f"{folder} does not exist yet and can be made")
        return Check("data-folder", "fail", f"{folder} does not exist and cannot be made in {existing}", cure)
    try:
        with tempfile.TemporaryFile(dir=folder) as trial:
            trial.write(b"leukoscope")
            trial.flush()
            os.fsync(trial.fileno())
    except OSError as error:
        return Check("data-folder", "fail", f"{folder} cannot be written: {error}", cure)
    return Check("data-folder", "ok", f"{folder} can be written")


def database_sound(path: Path) -> Check:
    """Check the file of results without changing it."""
    if not path.exists():
        return Check("database", "ok", f"no results yet in {path}")
    cure = f"Keep a copy of {path}, and restore the last backup; take no new results into it."
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10)
        try:
            faults = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
            orphans = connection.execute("PRAGMA foreign_key_check").fetchall()
        finally:
            connection.close()
    except sqlite3.Error as error:
        return Check("database", "fail", f"{path}: {error}", cure)
    if faults != ["ok"] or orphans:
        return Check(
            "database", "fail", f"{path}: {'; '.join(faults[:3])}; {len(orphans)} rows without their parent", cure
        )
    return Check("database", "ok", f"{path} passes its integrity check")

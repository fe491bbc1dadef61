"""The doctor's checks of what the device stands on: cameras, picamera2, sync, permissions, supply and temperature."""

from __future__ import annotations

import os
import shlex
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final

from edge.core.device import SINCE_BOOT, Profile, ThermalLimits, throttle_words
from edge.core.errors import StoreError
from edge.health.check import Check, Verdict
from edge.inference.negotiate import resolve
from edge.store import encryption

CAMERAS: Final = "devices.cameras.discovery:cameras"

WAITS_LONG: Final = timedelta(days=1)
"""A result that has waited longer than that to be sent is worth a warning: a clinic is online once a day at least."""
_WAITS_TOO_LONG: Final = timedelta(days=14)
_SYSTEM_PYTHON: Final = "/usr/bin/python3"
_APT_PICAMERA2: Final = "sudo apt-get install -y --no-install-recommends python3-picamera2"


def cameras(profile: Profile) -> Iterator[Check]:
    """Judge whether the camera that the profile names is here, and how picamera2 is reached."""
    found: Sequence[Any] = list(resolve(CAMERAS)())
    yield picamera2(profile, found, in_system=_system_has_picamera2(), in_environment=_shadowed())
    yield camera(profile, found)


def camera(profile: Profile, found: Sequence[Any]) -> Check:
    """Judge the cameras that were found; a device of a kind that has one must have it."""
    usable = [each for each in found if each.usable and each.kind not in {"simulated", "replay"}]
    usable = [each for each in usable if each.specification != "gstreamer:test"]
    mine = [each for each in usable if each.kind == profile.camera]
    if mine:
        return Check("camera", "ok", "; ".join(f"{each.specification}: {each.evidence}" for each in mine))
    missing = next((each for each in found if each.kind == profile.camera), None)
    evidence = f"no camera of the kind {profile.camera}, which {profile.title} has"
    if missing is not None and missing.evidence and not missing.usable:
        evidence = f"{evidence}: {missing.evidence}"
    if usable:
        others = ", ".join(each.specification for each in usable)
        return Check(
            "camera", "warn", f"{evidence}; there is {others}", "Name the camera to use.", f"leuko camera test {others}"
        )
    cure = missing.cure if missing is not None and missing.cure else "Connect the camera with the power off."
    return Check("camera", "warn", evidence, cure, "leuko camera list")


def picamera2(profile: Profile, found: Sequence[Any], *, in_system: bool | None, in_environment: str | None) -> Check:
    """Judge whether this Python reaches the system's picamera2.

    `in_system` says whether the system's own Python has it (None: not asked), `in_environment` where a copy from pip
    lies that hides it.
    """
    mine = next((each for each in found if each.kind == "picamera2"), None)
    reached = mine is not None and (mine.usable or "sees no camera" in mine.evidence)
    if in_environment is not None:
        return Check(
            "picamera2",
            "warn" if reached else "fail" if profile.camera == "picamera2" else "warn",
            f"a copy from pip in {in_environment} hides the system's, which alone fits its libcamera",
            "Remove the copy.",
            f"{shlex.quote(sys.executable)} -m pip uninstall -y picamera2",
        )
    if reached:
        return Check("picamera2", "ok", "picamera2 imports in a child process")
    evidence = mine.evidence if mine is not None else "not asked"
    if profile.camera != "picamera2":
        return Check("picamera2", "ok", f"not needed by {profile.title}")
    if in_system and sys.prefix != sys.base_prefix:
        return Check(
            "picamera2",
            "fail",
            f"the system has it, this virtual environment does not see it ({evidence})",
            "Let the virtual environment see the system's packages.",
            f"{_SYSTEM_PYTHON} -m venv --system-site-packages {shlex.quote(sys.prefix)}",
        )
    return Check("picamera2", "fail", evidence, "Install it from the system's packages.", _APT_PICAMERA2)


def _system_has_picamera2() -> bool | None:
    if not Path(_SYSTEM_PYTHON).exists() or os.path.realpath(sys.executable) == os.path.realpath(_SYSTEM_PYTHON):
        return None
    program = "import importlib.util, sys; sys.exit(importlib.util.find_spec('picamera2') is None)"
    # Without the settings of this environment: the question is what the system's own Python sees.
    command = [_SYSTEM_PYTHON, "-I", "-c", program]
    try:
        return (
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False).returncode
            == 0
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def _shadowed() -> str | None:
    """Where a picamera2 from pip lies that stands before the system's, or None."""
    from importlib import metadata

    if sys.prefix == sys.base_prefix:
        return None
    try:
        place = Path(str(metadata.distribution("picamera2").locate_file("picamera2")))
    except metadata.PackageNotFoundError:
        return None
    return str(place) if place.is_relative_to(sys.prefix) else None


def sync(database: Path, now: datetime | None = None) -> Check:
    """Judge what waits to be sent, and since when; reads the store without changing it."""
    now = datetime.now(timezone.utc) if now is None else now
    if not database.exists():
        return Check("sync", "ok", "no results yet")
    try:
        with closing(_opened(database)) as connection:
            count, oldest, troubles = _waiting(connection)
    except encryption.errors() as error:
        return Check("sync", "warn", f"{database}: {error}", "See the check of the database.", "leuko doctor")
    if troubles is None:
        return Check("sync", "ok", f"{count} results are kept here; no place to send them is set up")
    if not count or oldest is None:
        return Check("sync", "ok", "everything is sent")
    try:
        age = now - datetime.fromisoformat(oldest.replace("Z", "+00:00"))
    except (ValueError, TypeError):
        age = _WAITS_TOO_LONG
    evidence = f"{count} results wait, the oldest for {_duration(age)}{': ' + troubles if troubles else ''}"
    if age <= WAITS_LONG:
        return Check("sync", "ok", evidence)
    verdict: Verdict = "fail" if age > _WAITS_TOO_LONG else "warn"
    return Check("sync", verdict, evidence, "Connect the device to its network, then send.", "leuko sync run")


def _opened(database: Path) -> sqlite3.Connection:
    try:
        return encryption.open_database(database, f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=10)
    except StoreError as error:
        raise sqlite3.OperationalError(error.message) from None


def _waiting(connection: sqlite3.Connection) -> tuple[int, str | None, str | None]:
    """How many results wait and since when, and the last trouble; the trouble is None when nothing is set up."""
    tables = {str(row[0]) for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "outbox" not in tables:
        return 0, None, None
    if not {"deliveries", "destinations"} <= tables:
        row = connection.execute("SELECT count(*), min(queued) FROM outbox WHERE delivered IS NULL").fetchone()
        return int(row[0]), row[1], None
    places = connection.execute("SELECT destination, failures, message FROM destinations").fetchall()
    row = connection.execute(
        "SELECT count(*), min(queued) FROM deliveries JOIN outbox USING (id, version)"
        " WHERE state IN ('pending', 'accepted')"
    ).fetchone()
    if not places and not row[0]:
        total = connection.execute("SELECT count(*) FROM outbox").fetchone()
        return int(total[0]), None, None
    return int(row[0]), row[1], "; ".join(f"{place}: {message}" for place, failures, message in places if failures)


def _duration(age: timedelta) -> str:
    hours = age.total_seconds() / 3600
    return f"{hours:.0f} hours" if hours < 48 else f"{hours / 24:.0f} days"


def permissions(data_folder: Path, profile: Profile) -> Check:
    """Judge who may read results, and whether this user may use what the camera needs."""
    if data_folder.is_dir():
        mode = stat.S_IMODE(data_folder.stat().st_mode)
        if mode & 0o007:
            return Check(
                "permissions",
                "warn",
                f"every user of this machine may enter {data_folder} (mode {mode:o})",
                "Results are of patients: close the folder to others.",
                f"chmod o-rwx {shlex.quote(str(data_folder))}",
            )
    closed = [str(path) for path in _camera_nodes(profile) if not os.access(path, os.R_OK | os.W_OK)]
    if closed:
        return Check(
            "permissions",
            "fail",
            f"this user may not use {', '.join(closed[:3])}",
            "Join the group video, then log in again.",
            'sudo usermod -aG video "$USER"',
        )
    return Check("permissions", "ok", "results are closed to other users, the camera is open to this one")


def _camera_nodes(profile: Profile) -> list[Path]:
    patterns = ["video[0-9]*"] + (["media[0-9]*", "dma_heap/*"] if profile.camera == "picamera2" else [])
    return [path for pattern in patterns for path in sorted(Path("/dev").glob(pattern))]


def heat_and_power(profile: Profile) -> Iterator[Check]:
    """Judge temperature and supply by the profile's limits."""
    from edge.health import device

    reading = device.sensors(profile)
    yield temperature(reading.celsius, profile.thermal)
    yield throttling(reading.throttle_bits)


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
        cure = "Use the official power supply, and cool it."
        return Check("throttling", "warn", f"now: {', '.join(now)} ({bits:#x})", cure)
    if before:
        cure = "Use the official power supply; what is latched since boot goes with the next start."
        return Check(
            "throttling", "warn", f"since boot: {', '.join(before)} ({bits:#x})", cure, "sudo systemctl reboot"
        )
    return Check("throttling", "ok", f"no throttling since boot ({bits:#x})")

"""What this device is: its profile, its sensors, its guard. Where none is chosen, the machine itself is asked."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from edge.config import Config
from edge.core import durable
from edge.core.device import Profile, SensorReading
from edge.core.errors import StoreError, UsageError
from edge.health.thermal import ThermalGuard
from edge.inference.negotiate import resolve

if TYPE_CHECKING:
    from edge.bundle.manifest import Manifest
    from edge.inference.negotiate import Choice

PROFILES: Final = "devices.profiles.reading"
SENSORS: Final = "devices.sensors:read"

SELECTION: Final = "device.toml"
"""The file in the data folder that keeps what `leuko device select` chose."""


if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_log = logging.getLogger(__name__)


class _Selection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    profile: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """The profile in use and why it is: the configuration, a selection, or what the machine says of itself."""

    profile: Profile
    reason: str


def profiles() -> tuple[str, ...]:
    """The names of all profiles."""
    names: tuple[str, ...] = resolve(f"{PROFILES}:available")()
    return names


def load(name: str) -> Profile:
    """Read a profile. Raises UsageError when there is none of that name."""
    profile: Profile = resolve(f"{PROFILES}:load")(name)
    return profile


def detect(root: Path = Path("/")) -> Chosen:
    """Ask the machine which profile fits; `root` holds the /proc and /sys to look in."""
    found: Any = resolve(f"{PROFILES}:detect")(root)
    return Chosen(found.profile, f"detected: {found.evidence}")


def chosen(settings: Config) -> Chosen:
    """Give the profile in use: the configuration's, else the one selected, else the one detected.

    Raises UsageError when the one that is named does not exist, or the selection cannot be read.
    """
    if settings.profile:
        return Chosen(load(settings.profile), "named in the configuration (profile, or LEUKO_PROFILE)")
    path = settings.data_path / SELECTION
    if (name := _selected(path)) is not None:
        return Chosen(load(name), f"selected: {path}")
    return detect()


def _selected(path: Path) -> str | None:
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise _bad_selection(path, error) from None
    try:
        return msgspec.convert(tomllib.loads(text), _Selection).profile
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise _bad_selection(path, error) from None


def _bad_selection(path: Path, error: Exception) -> UsageError:
    return UsageError(
        "selection-unreadable", f"{path} cannot be read: {error}.", "Choose again: leuko device select NAME"
    )


def select(settings: Config, name: str) -> Path:
    """Keep the choice of a profile in the data folder; returns the file.

    Raises UsageError when there is no such profile, StoreError when it cannot be kept.
    """
    profile = load(name)
    path = settings.data_path / SELECTION
    try:
        path.parent.mkdir(0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            "folder-not-writable", f"{path.parent} cannot be made: {error.strerror}.", "Name another data_folder."
        ) from None
    durable.write_text(path, f'profile = "{profile.name}"\n')
    return path


def reference(profile: Profile) -> Path:
    """The file of what a device of this profile must reach in `leuko bench`."""
    folder: Path = resolve(f"{PROFILES}:FOLDER")
    return folder / "reference" / f"{profile.name}.json"


def sensors(profile: Profile) -> SensorReading:
    """Read the sensors of a machine of this profile now."""
    reading: SensorReading = resolve(SENSORS)(profile.sensors)
    return reading


def guard(profile: Profile, read: Callable[[], SensorReading] | None = None) -> ThermalGuard:
    """The guard that a long loop asks before each field; `read` reads the sensors."""
    return ThermalGuard(profile.thermal, read if read is not None else lambda: sensors(profile))


def negotiate(settings: Config, bundle: Manifest, folder: Path, *, warn: bool = True) -> Choice:
    """Choose the variant and runtime in the order of the profile, each candidate tried in a child process.

    What was preferred but is not used is logged with its reason, unless the caller shows it (`warn`). Raises
    RuntimeUnavailableError with the reason for each when none runs here.
    """
    from edge.inference import trials
    from edge.inference.negotiate import choose

    choice = choose(bundle, folder, preferred=chosen(settings).profile.runtimes, trial=trials.remembered())
    for refusal in choice.refused if warn else ():
        # A runtime for another kind of device is nothing to warn of.
        _log.log(logging.INFO if refusal.expected else logging.WARNING, "not used: %s", refusal)
    return choice


def threads(settings: Config) -> int:
    """How many threads the network gets: as configured, else what the profile says."""
    return settings.threads or chosen(settings).profile.threads

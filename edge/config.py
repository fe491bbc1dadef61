"""The one configuration: `default.toml`, then a site's TOML file, then the environment. Unknown keys are refused."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from edge.core.errors import UsageError
from edge.sync.settings import Destination, Storage, Sync

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]


class Ranges(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Reference ranges in percent of leukocytes, (lowest, highest), with the name of the profile they belong to."""

    profile: str
    neutrophil: tuple[Percent, Percent]
    lymphocyte: tuple[Percent, Percent]
    monocyte: tuple[Percent, Percent]
    eosinophil: tuple[Percent, Percent]
    basophil: tuple[Percent, Percent]

    def by_label(self) -> Mapping[str, tuple[float, float]]:
        """The five ranges keyed by class."""
        ranges = msgspec.structs.asdict(self)
        del ranges["profile"]
        return ranges


class Control(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Quality control: how often, in hours (0: never asked for), and the folder of the reference set."""

    interval_hours: Annotated[float, msgspec.Meta(ge=0, le=24 * 366)]
    folder: str


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings of a device. Empty strings mean "find out yourself"; see `default.toml` for each."""

    operator: str
    device: str
    data_folder: str
    models_folder: str
    bundle: str
    allow_unsigned_bundle: bool
    profile: str
    threads: Annotated[int, msgspec.Meta(ge=0, le=64)]
    ranges: Ranges
    control: Control
    sync: Sync
    storage: Storage
    destinations: tuple[Destination, ...] = ()

    @property
    def device_name(self) -> str:
        """The configured name of this device, or its host name."""
        return self.device or socket.gethostname()

    @property
    def data_path(self) -> Path:
        """The folder that results are kept in."""
        if self.data_folder:
            return Path(self.data_folder).expanduser()
        import platformdirs

        return platformdirs.user_data_path("leukoscope", appauthor=False)

    @property
    def models_path(self) -> Path:
        """The folder of installed model bundles."""
        return Path(self.models_folder).expanduser() if self.models_folder else self.data_path / "models"

    @property
    def database_path(self) -> Path:
        """The database of results."""
        return self.data_path / "results.sqlite3"


_ENVIRONMENT = {
    "LEUKO_OPERATOR": "operator",
    "LEUKO_DEVICE": "device",
    "LEUKO_DATA_FOLDER": "data_folder",
    "LEUKO_BUNDLE": "bundle",
    "LEUKO_ALLOW_UNSIGNED_BUNDLE": "allow_unsigned_bundle",
    "LEUKO_PROFILE": "profile",
}
_SWITCHES = {"1": True, "true": True, "0": False, "false": False, "": False}


def load(path: Path | None = None, environment: Mapping[str, str] | None = None) -> Config:
    """Read the configuration: defaults, over them the file at `path` (or LEUKO_CONFIG), over that the environment.

    Raises UsageError with the line number for a file that is missing, is not TOML, or has a key or value that is wrong.
    """
    environment = os.environ if environment is None else environment
    if path is None and environment.get("LEUKO_CONFIG"):
        path = Path(environment["LEUKO_CONFIG"])
    settings = tomllib.loads((Path(__file__).parent / "default.toml").read_text(encoding="utf-8"))
    text = ""
    if path is not None:
        text = _read(path)
        _merge(settings, _parse(text, path))
    for variable, key in _ENVIRONMENT.items():
        if variable in environment:
            value = environment[variable]
            settings[key] = _SWITCHES.get(value.lower(), value) if isinstance(settings[key], bool) else value
    try:
        config = msgspec.convert(settings, Config)
    except msgspec.ValidationError as error:
        raise _refused(error, text, path) from None
    for label, (low, high) in config.ranges.by_label().items():
        if low > high:
            raise UsageError(
                "configuration-invalid",
                f"The reference range of {label} runs from {low} to {high}.",
                "Write the lower value first.",
            )
    names = [destination.name for destination in config.destinations]
    if len(set(names)) < len(names):
        raise UsageError(
            "configuration-invalid", "Two destinations have the same name.", "Give each destination a name of its own."
        )
    return config


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(
            "configuration-missing", f"There is no configuration file {path}.", "Check --config or LEUKO_CONFIG."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "configuration-unreadable",
            f"{path} cannot be read: {error}.",
            "Check its permissions and encoding (UTF-8).",
        ) from None


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        settings: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(
            "configuration-invalid", f"{path} is not valid TOML: {error}.", "Correct the line that is named."
        ) from None
    return settings


def _merge(settings: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(settings.get(key), dict):
            _merge(settings[key], value)
        else:
            settings[key] = value


def _refused(error: msgspec.ValidationError, text: str, path: Path | None) -> UsageError:
    """Say in which line of the file the refused key stands."""
    message = str(error)
    unknown = re.search(r"unknown field `([^`]+)`", message)
    named = unknown or re.search(r"`\$\.(?:\w+\.)*(\w+)", message)
    where = str(path) if path is not None else "the environment"
    if named:
        for number, line in enumerate(text.splitlines(), start=1):
            if re.match(rf"\s*\[?\s*[\"']?{re.escape(named.group(1))}[\"']?\s*[\]=.]", line):
                where = f"{where}, line {number}"
                break
    return UsageError(
        "configuration-invalid",
        f"{where}: {message}.",
        "See default.toml of the package for the keys and their meaning.",
    )

"""What a health worker chooses on the device's page, kept beside the results; the configuration file stays as it is.

The configuration is the laboratory's and may lie on a read-only disk. What is chosen here can make it stricter and more
convenient, never laxer: the control can be asked for more often than configured, not less.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from edge.core import durable
from edge.core.errors import StoreError, UsageError

if TYPE_CHECKING:
    from edge.config import Config

FILE: Final = "choices.json"
SHORTEST_CONTROL_HOURS: Final = 1.0
LONGEST_CONTROL_HOURS: Final = 720.0


class Choices(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`camera`, `target` and `language` are proposed where something is begun; empty and 0 mean none was chosen.

    `control_hours` is how often the control has to pass, 0 for as configured. `pin` is the PIN that was set on the page
    as salt and scrypt hash in hexadecimal, `replaced_pin` the hash of the one it took the place of.
    """

    schema: int = 1
    camera: str = ""
    target: int = 0
    language: str = ""
    control_hours: float = 0.0
    pin: str = ""
    replaced_pin: str = ""
    changed_by: str = ""


def load(config: Config) -> Choices:
    """What was chosen; nothing before the first time. Raises `StoreError` `choices-damaged`."""
    path = _path(config)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Choices)
    except FileNotFoundError:
        return Choices()
    except (OSError, msgspec.MsgspecError) as error:
        raise StoreError(
            "choices-damaged",
            f"What was chosen on the page cannot be read: {path}: {error}.",
            "Move that file away; the configuration applies until something is chosen again.",
        ) from None


def change(config: Config, **changes: Any) -> Choices:
    """Keep changes durably. Raises `UsageError` for what cannot be, `StoreError` when the disk does not take it."""
    chosen = msgspec.structs.replace(load(config), **changes)
    if "control_hours" in changes and chosen.control_hours:
        _require_control_hours(chosen.control_hours, config)
    durable.write_bytes(_path(config), msgspec.json.format(msgspec.json.encode(chosen)))
    return chosen


def control_hours(config: Config) -> float:
    """How often the control has to pass, in hours; 0 for never. What was chosen counts where it is stricter."""
    configured, chosen = config.control.interval_hours, load(config).control_hours
    if not chosen:
        return configured
    return min(configured, chosen) if configured else chosen


def _require_control_hours(hours: float, config: Config) -> None:
    longest = config.control.interval_hours or LONGEST_CONTROL_HOURS
    if not SHORTEST_CONTROL_HOURS <= hours <= longest:
        raise UsageError(
            "control-interval",
            f"The control cannot be asked for every {hours:g} hours.",
            f"Choose {SHORTEST_CONTROL_HOURS:g} to {longest:g}: what the laboratory has configured can be made"
            " stricter here, not laxer.",
        )


def _path(config: Config) -> Path:
    return config.data_path / FILE

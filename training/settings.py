"""From what a user gives to the configuration of a run: the network's own settings, a file, then single options."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, get_args, get_type_hints

from edge.core.errors import InputError, UsageError
from training.config import RunConfig
from training.models import registry

_ALLOWED: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "size": (lambda value: value >= 32, "at least 32"),
    "view_size": (lambda value: value >= 0, "at least 0"),
    "margin": (lambda value: value > 1, "above 1"),
    "alpha": (lambda value: value > 0, "above 0"),
    "last": (lambda value: value >= 8, "at least 8"),
    "dropout": (lambda value: 0 <= value < 1, "from 0 to below 1"),
    "epochs": (lambda value: value >= 1, "at least 1"),
    "steps": (lambda value: value >= 1, "at least 1"),
    "batch": (lambda value: value >= 2, "at least 2"),
    "learning_rate": (lambda value: value > 0, "above 0"),
    "fine_tuning_rate": (lambda value: value >= 0, "at least 0"),
    "warmup_epochs": (lambda value: value >= 0, "at least 0"),
    "weight_decay": (lambda value: value >= 0, "at least 0"),
    "averaging": (lambda value: 0 <= value < 1, "from 0 to below 1"),
    "label_smoothing": (lambda value: 0 <= value < 1, "from 0 to below 1"),
    "other_share": (lambda value: 0 <= value < 1, "from 0 to below 1"),
    "rendered_share": (lambda value: 0 <= value < 1, "from 0 to below 1"),
    "generated_share": (lambda value: 0 <= value < 1, "from 0 to below 1"),
    "patience": (lambda value: value >= 0, "at least 0"),
    "frozen_epochs": (lambda value: value >= 0, "at least 0"),
    "distillation_share": (lambda value: 0 <= value <= 1, "from 0 to 1"),
    "distillation_temperature": (lambda value: value > 0, "above 0"),
    "augmentation": (lambda value: 0 <= value <= 1, "from 0 to 1"),
    "split_seed": (lambda value: value >= 0, "at least 0"),
    "seed": (lambda value: value >= 0, "at least 0"),
}


def read(path: Path) -> dict[str, Any]:
    """Read start values from JSON such as a run's `config.json`. Raises InputError `settings-unreadable`."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise InputError(
            "settings-unreadable", f"{path} cannot be read as JSON: {problem}.", "Give a config.json of a run."
        ) from problem
    if not isinstance(values, dict):
        raise InputError("settings-unreadable", f"{path} holds no JSON object.", "Give a config.json of a run.")
    return values


def resolve(given: Mapping[str, Any], start: Path | None = None) -> RunConfig:
    """Make a configuration: RunConfig's own values, then those that suit the network, the file `start`, then `given`.

    Values that are None in `given` were not given. Raises UsageError `unknown-setting` or `setting-out-of-range`,
    `unknown-model`, and what `read` raises.
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    stored = read(start) if start is not None else {}
    model = str(chosen.get("model", stored.get("model", RunConfig().model)))
    values = {**registry.defaults(model), **stored, **chosen, "model": model}
    _check(values)
    return RunConfig(**{**values, "leave_out": tuple(values.get("leave_out", ()))})


def _check(values: Mapping[str, Any]) -> None:
    known = {field.name: field.default for field in fields(RunConfig)}
    hints = get_type_hints(RunConfig)
    for name, value in values.items():
        if name not in known:
            raise UsageError(
                "unknown-setting", f"There is no setting {name!r}.", f"The settings are: {', '.join(sorted(known))}."
            )
        choices = get_args(hints[name]) if isinstance(known[name], str) else ()
        if choices and value not in choices:
            raise _out_of_range(name, value, f"one of {', '.join(choices)}")
        if not _fits(value, known[name]):
            raise _out_of_range(name, value, f"like {known[name]!r}")
        if name in _ALLOWED and not _ALLOWED[name][0](value):
            raise _out_of_range(name, value, _ALLOWED[name][1])


def _fits(value: Any, default: Any) -> bool:
    """Whether a value has the type of a setting's own value; a whole number is also a fraction."""
    if isinstance(default, tuple):
        return isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, float):
        return isinstance(value, (int, float)) and math.isfinite(value)
    return isinstance(value, type(default))


def _out_of_range(name: str, value: Any, allowed: str) -> UsageError:
    return UsageError("setting-out-of-range", f"{name} is {value!r}.", f"It has to be {allowed}.")

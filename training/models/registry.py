"""Every network by name: `build(config, weights)` makes the one that a configuration asks for."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge.core.errors import UsageError

if TYPE_CHECKING:
    import keras

    from training.config import RunConfig

Builder = Callable[["RunConfig", "Path | None"], "keras.Model"]
"""Takes the configuration and a file of pretrained weights, without which Keras downloads its own. The network takes
float[N, S, S, 3] and gives `logits` float[N, 6] and `class_activation` float[N, h, w, 6]."""

_MODELS: Final = {
    "student": "training.models.student",
}
"""Name and module; the module has `build(config, weights)` and `build_untrained(config)`."""

NAMES: Final = tuple(_MODELS)


def _module(name: str) -> object:
    if name not in _MODELS:
        raise UsageError("unknown-model", f"There is no model {name!r}.", f"Choose one of: {', '.join(NAMES)}.")
    return import_module(_MODELS[name])


def build(config: RunConfig, weights: Path | None) -> keras.Model:
    """Build the network that `config.model` names, on pretrained weights. Raises UsageError `unknown-model`."""
    builder: Builder = _module(config.model).build  # type: ignore[attr-defined]
    return builder(config, weights)


def build_untrained(config: RunConfig) -> keras.Model:
    """Build the same network with random weights, for weights that are loaded afterwards."""
    model: keras.Model = _module(config.model).build_untrained(config)  # type: ignore[attr-defined]
    return model

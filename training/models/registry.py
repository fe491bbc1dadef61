"""Every network by name: `build(config, weights)` makes the one that a configuration asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edge.core.errors import UsageError

if TYPE_CHECKING:
    import keras

    from training.config import RunConfig

Builder = Callable[["RunConfig", "Path | None"], "keras.Model"]
"""Takes the configuration and a file of pretrained weights, without which Keras downloads its own. The network takes
float[N, S, S, 3] and gives `logits` float[N, 6] and `class_activation` float[N, h, w, 6]."""

Settings = Mapping[str, Any]
"""Values of fields of RunConfig."""

_FINE_TUNED: Final[Settings] = {"size": 224, "batch": 32, "epochs": 20, "frozen_epochs": 2, "dropout": 0.3}

_MODELS: Final[Mapping[str, tuple[str, Settings]]] = {
    "student": ("training.models.student", {}),
    "full": ("training.models.full", {**_FINE_TUNED, "backbone": "efficientnet_lite0"}),
    "baseline": ("training.models.baseline", {"batch": 32}),
    "transfer": (
        "training.models.transfer",
        {"size": 224, "batch": 32, "epochs": 20, "backbone": "mobilenet_v2_1.0"},
    ),
    "plain_cnn": ("training.models.plain_cnn", {"batch": 32}),
    "resnet_transfer": ("training.models.resnet_transfer", {**_FINE_TUNED, "backbone": "resnet50"}),
    "lightweight": (
        "training.models.lightweight",
        {"batch": 32, "backbone": "mobilenet_v2_0.35"},
    ),
}
"""Name, module, and the settings that differ from RunConfig's own. The module has `build(config, weights)`,
`build_untrained(config)` and `base_layers(model)`."""

NAMES: Final = tuple(_MODELS)


def _entry(name: str) -> tuple[str, Settings]:
    if name not in _MODELS:
        raise UsageError("unknown-model", f"There is no model {name!r}.", f"Choose one of: {', '.join(NAMES)}.")
    return _MODELS[name]


def _module(name: str) -> Any:
    return import_module(_entry(name)[0])


def defaults(name: str) -> dict[str, Any]:
    """Give the settings of RunConfig that suit a network, its name among them. Raises UsageError `unknown-model`."""
    return {"model": name, **_entry(name)[1]}


def build(config: RunConfig, weights: Path | None) -> keras.Model:
    """Build the network that `config.model` names, on pretrained weights unless it says `pretrained=False`.

    Raises UsageError `unknown-model` or `unknown-backbone`, InputError when the weights cannot be had or do not fit.
    """
    if not config.pretrained:
        return build_untrained(config)
    builder: Builder = _module(config.model).build
    return builder(config, weights)


def build_untrained(config: RunConfig) -> keras.Model:
    """Build the same network with random weights, for weights that are loaded afterwards."""
    model: keras.Model = _module(config.model).build_untrained(config)
    return model


def base_layers(name: str, model: keras.Model) -> list[keras.layers.Layer]:
    """Give the layers of a network that are frozen at first and released later.

    None where nothing is pretrained, and none where the base is frozen for good: its layers are then not trainable
    from the start, and nothing releases them.
    """
    layers: list[keras.layers.Layer] = _module(name).base_layers(model)
    return layers

"""What every network on a pretrained base shares: one recipe says how they differ."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import keras
from keras import layers

from training.config import RunConfig
from training.models import backbones
from training.models.cbam import cbam
from training.models.head import with_head

_END: Final = "features"
"""Name of the layer at which the base ends: an identity, so that it is found again in a loaded network."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A base, and what stands on it. `backbone` is used where the configuration names none.

    `attention` puts CBAM after the base, unless the configuration switches it off. `hidden` is the width of a dense
    layer with ReLU6 before the head, 0 for none. It is a 1x1 convolution: applied at each position before the average,
    it leaves the class activation with a meaning. With `frozen` the base never learns.
    """

    name: str
    backbone: str
    attention: bool = False
    hidden: int = 0
    frozen: bool = False

    def build(self, config: RunConfig, weights: Path | None) -> keras.Model:
        """Build the network on a pretrained base: float[N, S, S, 3] in [-1, 1] to `logits` and `class_activation`.

        Raises what `training.models.backbones.pretrained` raises.
        """
        return self._assemble(backbones.pretrained(config.backbone or self.backbone, config.size, weights), config)

    def build_untrained(self, config: RunConfig) -> keras.Model:
        """Build the same network with random weights, for weights that are loaded afterwards."""
        return self._assemble(backbones.untrained(config.backbone or self.backbone, config.size), config)

    def base_layers(self, model: keras.Model) -> list[keras.layers.Layer]:
        """Give the layers to freeze at first and to release later: none where the base is frozen for good."""
        return [] if self.frozen else layers_of_base(model)

    def _assemble(self, base: keras.Model, config: RunConfig) -> keras.Model:
        features = layers.Identity(name=_END)(base.output)
        if self.attention and config.attention:
            features = cbam(features, reduction=16, kernel_size=7)
        if self.hidden:
            features = layers.Conv2D(self.hidden, 1, name="hidden")(features)
            features = layers.ReLU(6.0, name="hidden_relu")(features)
        model = with_head(base.input, features, config.dropout, self.name)
        if self.frozen:
            for layer in layers_of_base(model):
                layer.trainable = False
        return model


def layers_of_base(model: keras.Model) -> list[keras.layers.Layer]:
    """Give the layers of the base of a network that a recipe has built, frozen or not."""
    names = [layer.name for layer in model.layers]
    return list(model.layers[: names.index(_END)])

"""Transfer learning as it is usually done: an ImageNet base that never learns, and a new head on it."""

from __future__ import annotations

from typing import Final

from training.models.pretrained import Recipe

RECIPE: Final = Recipe("transfer", backbone="mobilenet_v2_1.0", frozen=True)

build = RECIPE.build
build_untrained = RECIPE.build_untrained
base_layers = RECIPE.base_layers

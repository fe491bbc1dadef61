"""The full model: an ImageNet base, CBAM (channel, then spatial), a dense layer, and the head.

The base is EfficientNet-Lite0 unless the configuration names another, `resnet50` for example. `attention=False` makes
the same network without CBAM (Woo et al., ECCV 2018): the row of the table that shows what attention is worth.
"""

from __future__ import annotations

from typing import Final

from training.models.pretrained import Recipe

RECIPE: Final = Recipe("full", backbone="efficientnet_lite0", attention=True, hidden=256)

build = RECIPE.build
build_untrained = RECIPE.build_untrained
base_layers = RECIPE.base_layers

"""The lightweight network: MobileNetV2 of width 0.35 (Sandler et al., CVPR 2018) with a new head, all of it learning.

Neither the finer last stage of the student nor its attention.
"""

from __future__ import annotations

from typing import Final

from training.models.pretrained import Recipe

RECIPE: Final = Recipe("lightweight", backbone="mobilenet_v2_0.35")

build = RECIPE.build
build_untrained = RECIPE.build_untrained
base_layers = RECIPE.base_layers

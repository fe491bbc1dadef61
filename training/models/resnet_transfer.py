"""Transfer from a residual network (the row `Wang`): ResNet-50 (He et al., CVPR 2016), a new head, all of it tuned.

Without a file, Keras downloads the ImageNet weights. Where neither can be had, a configuration with `pretrained=False`
trains the same network from random weights; the run's configuration then says so, and it is no transfer any more.
"""

from __future__ import annotations

from typing import Final

from training.models.pretrained import Recipe

RECIPE: Final = Recipe("resnet_transfer", backbone="resnet50")

build = RECIPE.build
build_untrained = RECIPE.build_untrained
base_layers = RECIPE.base_layers

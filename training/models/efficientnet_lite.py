"""EfficientNet-Lite0, which keras.applications does not have."""

from __future__ import annotations

from typing import Any, Final

import keras
from keras import layers

_STAGES: Final = (
    # kernel, stride of the first block, expansion, channels, blocks
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
_EPSILON: Final = 1e-3


def _normalised(features: Any, name: str) -> Any:
    return layers.BatchNormalization(epsilon=_EPSILON, name=name)(features)


def _block(  # noqa: PLR0917  # the columns of the table above
    features: Any, index: int, kernel: int, stride: int, expansion: int, channels: int
) -> Any:
    """Inverted residual: expand, filter each channel, project; added to its input where the shapes agree."""
    name = f"block{index}"
    current = features
    if expansion > 1:
        current = layers.Conv2D(features.shape[-1] * expansion, 1, use_bias=False, name=f"{name}_expand_conv")(current)
        current = layers.ReLU(6.0, name=f"{name}_expand_relu")(_normalised(current, f"{name}_expand_bn"))
    current = layers.DepthwiseConv2D(kernel, stride, padding="same", use_bias=False, name=f"{name}_dwconv")(current)
    current = layers.ReLU(6.0, name=f"{name}_relu")(_normalised(current, f"{name}_bn"))
    current = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_project_conv")(current)
    current = _normalised(current, f"{name}_project_bn")
    if stride == 1 and features.shape[-1] == channels:
        current = layers.Add(name=f"{name}_add")([features, current])
    return current


def efficientnet_lite0(inputs: Any) -> keras.Model:
    """EfficientNet-Lite0 without its top: float[N, S, S, 3] in [-1, 1] to float[N, S/32, S/32, 1280].

    EfficientNet-B0 (Tan and Le, EfficientNet, ICML 2019) without squeeze-excite, with ReLU6 for swish, its stem and
    last convolution never scaled: Google's mobile variant, made to be quantized. Layers are named as in the weight
    files: `stem_conv`, `block3_dwconv`, `block3_bn`, `head_bn`.
    """
    current = layers.Conv2D(32, 3, 2, padding="same", use_bias=False, name="stem_conv")(inputs)
    current = layers.ReLU(6.0, name="stem_relu")(_normalised(current, "stem_bn"))
    index = 0
    for kernel, stride, expansion, channels, blocks in _STAGES:
        for repeat in range(blocks):
            current = _block(current, index, kernel, stride if repeat == 0 else 1, expansion, channels)
            index += 1
    current = layers.Conv2D(1280, 1, use_bias=False, name="head_conv")(current)
    current = layers.ReLU(6.0, name="head_relu")(_normalised(current, "head_bn"))
    return keras.Model(inputs, current, name="efficientnet_lite0")

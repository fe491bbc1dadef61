"""Methods that follow gradients: Grad-CAM, plain gradients, SmoothGrad."""

from __future__ import annotations

import numpy as np

from edge.core.types import FloatArray
from training.data.augment import generator_for
from training.explain.network import Network

_BATCH = 25


def grad_cam(network: Network, inputs: FloatArray, target: int, layer: str | None = None) -> FloatArray:
    """Grad-CAM of one input float32[S, S, 3], signed: float32[h, w] of the layer's size.

    The channels of a layer, by default the last one before the average, weighted by the mean gradient of the class's
    score over the positions (Selvaraju et al., ICCV 2017, equations 1 and 2, before the ReLU). Where the head is one
    linear layer on the averages, this is the class-activation map divided by the number of positions.
    """
    features, gradients = network.features(inputs[None], target, layer)
    weights = gradients[0].mean(axis=(0, 1))
    return np.asarray((features[0] * weights).sum(axis=2), dtype=np.float32)


def plain(network: Network, inputs: FloatArray, target: int) -> FloatArray:
    """Saliency of one input float32[S, S, 3], float32[S, S], never negative.

    The largest absolute gradient over the colours (Simonyan et al., 2013, section 3.1).
    """
    return np.asarray(np.abs(network.gradients(inputs[None], target)[0]).max(axis=2))


def smooth(  # noqa: PLR0917  # each is another thing
    network: Network, inputs: FloatArray, target: int, sigma: float = 0.15, samples: int = 25, seed: int = 0
) -> FloatArray:
    """SmoothGrad of one input float32[S, S, 3], float32[S, S], never negative.

    The mean gradient over `samples` copies with Gaussian noise, whose standard deviation is `sigma` times the range of
    the input, then the largest absolute value over the colours (Smilkov et al., 2017; 10-20 % noise is their advice).
    """
    generator = generator_for(seed, 2017)
    spread = sigma * float(inputs.max() - inputs.min())
    total = np.zeros(inputs.shape, np.float64)
    for start in range(0, samples, _BATCH):
        count = min(_BATCH, samples - start)
        noise = generator.normal(0.0, 1.0, (count, *inputs.shape)) * spread
        total += network.gradients((inputs + noise).astype(np.float32), target).sum(axis=0, dtype=np.float64)
    return np.asarray(np.abs(total / samples).max(axis=2), dtype=np.float32)

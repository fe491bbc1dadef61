"""Methods that change the picture and ask again: occlusion, LIME, and the deletion and insertion curves.

What is taken away becomes `blank`, the network's input for blank slide: a thing that every crop shows, unlike black.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from edge.core.types import FloatArray, Image
from training.data.augment import generator_for

Scores = npt.NDArray[np.float64]
Score = Callable[[FloatArray], Scores]
"""Takes inputs float32[N, S, S, 3] and gives one number for each, float64[N]."""

_PATCH_SHARE: Final = 1 / 6
"""Side of the occluding square, in sides of the crop: a third of a nucleus that the crop is two of wide."""

_STEPS: Final = 16


def occlusion(
    score: Score, inputs: FloatArray, blank: float, patch: int | None = None, stride: int | None = None
) -> FloatArray:
    """How much the score falls when a square is covered, float32[S, S], signed, of one input float32[S, S, 3].

    Each pixel gets the mean fall over the squares that cover it (Zeiler and Fergus, ECCV 2014). The square has `patch`
    pixels a side, by default a sixth of the crop, and moves by `stride`, by default half of that; the last one of a
    row ends at the border.
    """
    size = inputs.shape[0]
    side = patch or max(1, round(size * _PATCH_SHARE))
    step = stride or max(1, side // 2)
    starts = sorted({*range(0, size - side + 1, step), size - side})
    covered = np.repeat(inputs[None], len(starts) ** 2, axis=0)
    corners = [(top, left) for top in starts for left in starts]
    for picture, (top, left) in zip(covered, corners, strict=True):
        picture[top : top + side, left : left + side] = blank
    falls = float(score(inputs[None])[0]) - score(covered)
    total, count = np.zeros((size, size)), np.zeros((size, size))
    for fall, (top, left) in zip(falls, corners, strict=True):
        total[top : top + side, left : left + side] += fall
        count[top : top + side, left : left + side] += 1
    return np.asarray(total / count, dtype=np.float32)


_LIME_WIDTH = 0.25


def superpixels(crop: Image, count: int = 40) -> npt.NDArray[np.int64]:
    """Divide a crop uint8[S, S, 3] BGR into about `count` regions of like colour: int64[S, S], numbered from 0.

    SLIC (Achanta et al., IEEE TPAMI 2012) of scikit-image.
    """
    from skimage.segmentation import slic

    regions = slic(crop[..., ::-1], n_segments=count, compactness=10.0, sigma=1.0, start_label=0)
    return np.asarray(regions, dtype=np.int64)


def lime(  # noqa: PLR0917  # each is another thing
    score: Score, inputs: FloatArray, regions: npt.NDArray[np.int64], blank: float, samples: int = 200, seed: int = 0
) -> FloatArray:
    """LIME of one input float32[S, S, 3]: the weight of each pixel's region, float32[S, S], signed.

    A ridge regression of the score on which of the `regions`, int64[S, S], are shown, over `samples` random choices of
    which the first shows all, weighted by how much is shown (Ribeiro et al., KDD 2016). Kernel, its width and the
    penalty are those of the authors' library for images, which has had no release since 2020 and no wheel.
    """
    from sklearn.linear_model import Ridge

    count = int(regions.max()) + 1
    shown = np.random.default_rng(seed).integers(0, 2, (samples, count)).astype(bool)
    shown[0] = True
    pictures = np.where(shown[:, regions][..., None], inputs, np.float32(blank)).astype(np.float32)
    # Cosine distance of 0/1 vectors to the vector of ones; a choice that shows nothing is as far as can be.
    distance = 1 - np.sqrt(shown.mean(axis=1))
    weight = np.sqrt(np.exp(-((distance / _LIME_WIDTH) ** 2)))
    surrogate = Ridge(alpha=1.0).fit(shown, score(pictures), sample_weight=weight)
    return np.asarray(surrogate.coef_, dtype=np.float32)[regions]


def curves(  # noqa: PLR0917  # each is another thing
    probability: Score, inputs: FloatArray, activation: FloatArray, blank: float, steps: int = _STEPS, seed: int = 0
) -> tuple[float, float]:
    """Areas under the deletion and insertion curves of a map float32[S, S], each 0..1 (Petsiuk et al., BMVC 2018).

    Deletion: the class's probability while the highest pixels become blank slide, in `steps` equal parts; a map that
    names what the network uses makes it fall early, so low is good. Insertion: the same pixels put upon blank slide;
    high is good. Pixels of equal height go in random order.
    """
    from scipy.integrate import trapezoid

    ties = generator_for(seed, 2018).permutation(activation.size)
    order = ties[np.argsort(-activation.ravel()[ties], kind="stable")]
    flat = inputs.reshape(-1, inputs.shape[2])
    removed = np.repeat(flat[None], steps + 1, axis=0)
    shown = np.full_like(removed, blank)
    for index, cut in enumerate(np.linspace(0, activation.size, steps + 1).round().astype(int)):
        removed[index, order[:cut]] = blank
        shown[index, order[:cut]] = flat[order[:cut]]
    heights = probability(np.concatenate([removed, shown]).reshape(-1, *inputs.shape))
    deletion, insertion = heights[: steps + 1], heights[steps + 1 :]
    return float(trapezoid(deletion) / steps), float(trapezoid(insertion) / steps)

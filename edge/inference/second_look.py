"""A second look: a cell of which the network is unsure is seen again, turned and mirrored, before it is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge.core.types import FloatArray, Outputs

VIEWS: Final = 8
"""The symmetries of a square: four quarter turns, each plain and mirrored. None resamples a pixel."""


def turn(picture: npt.NDArray[Any], view: int) -> npt.NDArray[Any]:
    """Turn a square [S, S, ...] into one of its `VIEWS`; view 0 is the picture itself."""
    plain = picture[:, ::-1] if view >= VIEWS // 2 else picture
    return np.rot90(plain, view % (VIEWS // 2))


def turn_back(picture: npt.NDArray[Any], view: int) -> npt.NDArray[Any]:
    """Undo `turn`."""
    plain = np.rot90(picture, -(view % (VIEWS // 2)))
    return plain[:, ::-1] if view >= VIEWS // 2 else plain


def look_again(inputs: FloatArray, outputs: Outputs, run: Callable[[FloatArray], Outputs], below: float) -> Outputs:
    """Look again at every cell whose best class, of six, is less probable than `below`.

    `inputs` float32[N, S, S, 3] are what `outputs` were computed from by `run`. A smear has no upper side, so all
    views of a cell have the same right answer; the mean of their logits errs less than the first alone, which is all
    that test-time augmentation is (Krizhevsky et al., NIPS 2012). The class-activation maps are turned back and
    averaged alike, so that their mean over space is still the logits. `below` 0 never looks again, 1 always does.
    """
    shifted = np.exp(outputs.logits - outputs.logits.max(axis=1, keepdims=True))
    doubtful = np.flatnonzero(1 / shifted.sum(axis=1) < below)
    if not doubtful.size:
        return outputs
    logits = outputs.logits.copy()
    maps = None if outputs.features is None else outputs.features.copy()
    for cell in doubtful:
        turned = run(np.stack([turn(inputs[cell], view) for view in range(1, VIEWS)]))
        logits[cell] = (logits[cell] + turned.logits.sum(axis=0)) / VIEWS
        if maps is not None and turned.features is not None:
            for view in range(1, VIEWS):
                maps[cell] += turn_back(turned.features[view - 1], view)
            maps[cell] /= VIEWS
    return Outputs(logits=logits, features=maps)

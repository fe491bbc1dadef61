"""A second look: a cell of which the network is unsure is seen again, turned and wider, before it is called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge.core.types import FloatArray, Outputs

VIEWS: Final = 8
"""The symmetries of a square: four quarter turns, each plain and mirrored. None resamples a pixel."""

DIAGONAL: Final = 7
"""The view that is mirrored at a diagonal: turned and of the other hand at once."""

Wider = Callable[[int, float], FloatArray]
"""Gives the network's input float32[S, S, 3] for a cell, by its row, cut so many times as wide."""


def turn(picture: npt.NDArray[Any], view: int) -> npt.NDArray[Any]:
    """Turn a square [S, S, ...] into one of its `VIEWS`; view 0 is the picture itself."""
    plain = picture[:, ::-1] if view >= VIEWS // 2 else picture
    return np.rot90(plain, view % (VIEWS // 2))


def turn_back(picture: npt.NDArray[Any], view: int) -> npt.NDArray[Any]:
    """Undo `turn`."""
    plain = np.rot90(picture, -(view % (VIEWS // 2)))
    return plain[:, ::-1] if view >= VIEWS // 2 else plain


def looks(widths: Sequence[float] = ()) -> tuple[tuple[int, float], ...]:
    """View and width of each look at a doubtful cell; the first is the one that was taken of every cell.

    Without further widths all sides are seen, with them the crop and its mirror image at the diagonal at each width.
    """
    if not widths:
        return tuple((view, 1.0) for view in range(VIEWS))
    return tuple((view, width) for width in (1.0, *widths) for view in (0, DIAGONAL))


def look_again(  # noqa: PLR0917  # the last two belong together
    inputs: FloatArray,
    outputs: Outputs,
    run: Callable[[FloatArray], Outputs],
    below: float,
    widths: Sequence[float] = (),
    wider: Wider | None = None,
) -> Outputs:
    """Look again at every cell whose best class, of six, is less probable than `below`.

    `inputs` float32[N, S, S, 3] are what `outputs` were computed from by `run`. A smear has no upper side, so all
    views of a cell have the same right answer; the mean of their logits errs less than the first alone, which is all
    that test-time augmentation is (Krizhevsky et al., NIPS 2012). The same holds for `widths`, since the diameter that
    a crop is cut by is an estimate, and at a new site often too small; where `wider` cannot be given only the sides
    are seen. The class-activation maps are those of the crop's own width, turned back and averaged, and moved so that
    their mean over space is still the logits. `below` 0 never looks again, 1 always does.
    """
    shifted = np.exp(outputs.logits - outputs.logits.max(axis=1, keepdims=True))
    doubtful = np.flatnonzero(1 / shifted.sum(axis=1) < below)
    if not doubtful.size:
        return outputs
    chosen = looks(widths if wider is not None else ())
    logits = outputs.logits.copy()
    maps = None if outputs.features is None else outputs.features.copy()
    further: list[FloatArray] = []
    for cell in doubtful.tolist():
        seen = {1.0: inputs[cell]}
        if wider is not None:
            seen |= {width: wider(cell, width) for width in widths}
        further += [turn(seen[width], view) for view, width in chosen[1:]]
    # No more at once than the caller had, or than one cell needs: memory was made for that.
    most = max(len(inputs), len(chosen) - 1)
    answers = [run(np.stack(further[at : at + most])) for at in range(0, len(further), most)]
    again = np.concatenate([answer.logits for answer in answers])
    again = np.concatenate([outputs.logits[doubtful, None], again.reshape(len(doubtful), len(chosen) - 1, -1)], axis=1)
    logits[doubtful] = again.mean(axis=1)
    features = [answer.features for answer in answers if answer.features is not None]
    if maps is not None and len(features) == len(answers):
        own = [row for row, (_, width) in enumerate(chosen) if width == 1]
        turned = np.concatenate(features).reshape(len(doubtful), len(chosen) - 1, *maps.shape[1:])
        for number, cell in enumerate(doubtful.tolist()):
            back = [turn_back(turned[number, row - 1], chosen[row][0]) for row in own[1:]]
            moved = logits[cell] - again[number, own].mean(axis=0)
            maps[cell] = np.mean([maps[cell], *back], axis=0) + moved
    return Outputs(logits=logits, features=maps)

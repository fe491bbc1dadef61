"""Several networks that vote (the row `Choi`).

Soft: the mean of the probabilities. Hard: each network has one vote, and the mean of the probabilities decides between
classes with as many. The row is named by its author; what we know of Choi et al. (White blood cell differential count
of maturation stages in bone marrow smear using dual-stage convolutional neural networks, PLOS ONE 12, 2017, e0189259)
is two networks one after the other, not a vote. Voting is what the method's text calls for, so voting it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from edge.core.errors import InputError, UsageError
from edge.core.types import FloatArray
from edge.inference.classifier import softmax
from training.predictions import Predictions

Vote = Literal["soft", "hard"]

_TIE = 1e-3
"""Weight of the mean probability beside the votes: enough to break a tie, too little to turn a vote."""

_LEAST = 1e-9


def vote(logits: Sequence[FloatArray], how: Vote) -> FloatArray:
    """Let M networks vote, each float32[N, 6]; the logarithm of their common probability, float32[N, 6]."""
    shares = np.stack([softmax(each) for each in logits])
    mean = shares.mean(axis=0)
    if how == "hard":
        votes = np.eye(shares.shape[-1])[shares.argmax(axis=-1)].mean(axis=0)
        mean = (1 - _TIE) * votes + _TIE * mean
    return np.asarray(np.log(np.maximum(mean, _LEAST)), dtype=np.float32)


def read(runs: Sequence[Path], data: Path | None, cache: Path | None = None) -> list[Predictions]:
    """Give what runs said of each cell, which must be the same cells in the same splits.

    Runs, peers and bundles may vote. A run that has not been asked yet is asked now, for which it needs `data`. Raises
    UsageError `too-few-runs`, InputError `runs-do-not-match`, and what `training.evaluation.systems` raises.
    """
    from training.evaluation import systems

    if len(runs) < 2:
        raise UsageError("too-few-runs", "A vote needs two runs at least.", "Name each with --run.")
    found = [systems.predictions(systems.find(run), data, cache) for run in runs]
    first = found[0]
    for run, other in zip(runs[1:], found[1:], strict=True):
        same = len(first) == len(other) and all(
            np.array_equal(getattr(first, name), getattr(other, name))
            for name in ("labels", "split", "kind", "picture")
        )
        if not same:
            raise InputError(
                "runs-do-not-match",
                f"{run} judged other cells, or in other splits, than {runs[0]}.",
                "Let runs vote that were made with the same --data.",
            )
    return found


def left_out(runs: Sequence[Path]) -> tuple[str, ...]:
    """Name the sources that none of the runs was trained on, though they could have been."""
    from training.evaluation import systems

    each = [set(systems.find(run).leave_out) for run in runs]
    return tuple(sorted(set.intersection(*each)))

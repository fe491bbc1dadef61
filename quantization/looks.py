"""What a device calls a cell: the network's first look, and the second that it takes at a doubtful one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edge.core.types import FloatArray, Outputs
from edge.inference.second_look import Wider, look_again
from training.predictions import SecondLook

Run = Callable[[FloatArray], Outputs]


@dataclass(frozen=True, slots=True)
class Looks:
    """Logits float32[N, C]: `first` of one look at each cell, `called` what a device calls the cells by."""

    first: FloatArray
    called: FloatArray


def looks(run: Run, inputs: FloatArray, again: SecondLook, wider: Wider | None = None) -> Looks:
    """Look at inputs float32[N, S, S, 3] as a device does: again where the best class is not probable enough.

    `wider` gives a cell's input cut so many times as wide; without it only its sides are seen again. All further views
    go to `run` at once, since each call of it may be a process. Which cells are looked at again, at what, and how the
    views become one answer is `edge.inference.second_look`'s to say.
    """
    first = run(inputs).logits
    views: list[FloatArray] = []

    def note(batch: FloatArray) -> Outputs:
        views.append(batch)
        return Outputs(np.zeros((len(batch), first.shape[1]), np.float32))

    look_again(inputs, Outputs(first), note, again.below, again.widths, wider)
    if not views:
        return Looks(first, first)
    answers = iter(np.split(run(np.concatenate(views)).logits, np.cumsum([len(batch) for batch in views])[:-1]))

    def answered(_: FloatArray) -> Outputs:
        return Outputs(next(answers))

    return Looks(first, look_again(inputs, Outputs(first), answered, again.below, again.widths, wider).logits)

"""What a device calls a cell: the network's first look, and the second that it takes at a doubtful one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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

    `wider` gives a cell's input cut so many times as wide; without it only its sides are seen again.
    """
    first = run(inputs)
    return Looks(first.logits, look_again(inputs, first, run, again.below, again.widths, wider).logits)

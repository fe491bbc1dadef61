"""What happens when in a run: stages, learning rate, averaging and the early end. Pure functions of the history."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from training.config import RunConfig

STEPS_PER_AVERAGE: Final = 5
"""The average of the weights is updated this often: copying them at each step would cost a tenth of the time."""

Weights = list[npt.NDArray[Any]]


def frozen(config: RunConfig, epoch: int) -> bool:
    """Whether the pretrained base is frozen in this epoch: only what is new learns then."""
    return epoch < config.frozen_epochs


def learning_rate(config: RunConfig, step: int) -> float:
    """Linear warm-up, then a cosine down to a hundredth of the peak.

    While the base is frozen the rate stays at its peak after the warm-up; the fine-tuning that follows has a warm-up
    and a cosine of its own, up to `fine_tuning_rate` where there is one.
    """
    warmup = max(1, round(config.warmup_epochs * config.steps))
    first = config.frozen_epochs * config.steps
    if step < first:
        return config.learning_rate * min(1.0, (step + 1) / warmup)
    peak = config.learning_rate
    if config.frozen_epochs and config.fine_tuning_rate:
        peak = config.fine_tuning_rate
    step -= first
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, config.epochs * config.steps - first - warmup))
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def average(previous: Weights, current: Weights, updates: int, decay: float) -> Weights:
    """Move the average of the weights towards the current ones; `decay` is per step, `updates` counts from 0."""
    # Short memory at first, or the average would keep the untrained head for an epoch.
    decay = min(decay**STEPS_PER_AVERAGE, (1 + updates) / (10 + updates))
    return [old * np.float32(decay) + new * np.float32(1 - decay) for old, new in zip(previous, current, strict=True)]


def ended(epochs: Sequence[Mapping[str, Any]], config: RunConfig) -> bool:
    """Whether a run with this history is over: all epochs done, or `patience` of them without a better score.

    The frozen stage is never cut short, and its epochs do not count as waiting: fine-tuning starts afresh.
    """
    if len(epochs) >= config.epochs:
        return True
    if not config.patience or len(epochs) <= config.frozen_epochs:
        return False
    scores = [float(epoch["score"]) for epoch in epochs]
    best = max(range(len(scores)), key=lambda index: (scores[index], index))
    return len(scores) - 1 - max(best, config.frozen_epochs - 1) >= config.patience

"""The last blocks of the student, trained alone on features of the blocks before them, which stay as they are.

Few labelled cells cannot teach early layers anything, and their features can be kept: a fit then takes seconds, so that
several ways can be tried on every fold within the minutes a commissioning has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import keras
import numpy as np
import numpy.typing as npt

from edge.core.errors import UsageError
from edge.core.types import FloatArray
from training.config import CLASSES

CUT: Final = "block_12_add"
"""The layer whose output is kept: four blocks and the last convolution come after it."""

_LAST: Final = ("block_16", "last", "cbam")

Layers = Literal["head", "normalisation", "last", "tail"]
"""What learns: the head; it and gain and offset of the normalisations; it and the last block; everything after CUT."""

_NEVER: Final = -30.0
"""Added to a logit, it leaves the class no share of the softmax."""

Features = npt.NDArray[np.float16] | npt.NDArray[np.float32]
Weights = list[npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Pool:
    """`features` float16[V, N, h, w, C]: V random views of each of N cells with `labels` int64[N] into CLASSES.

    A cell's chance to be drawn is that of its class, classes alike, but a class of fewer than `fewest` cells counts as
    if it had that many. `share` is the pool's share of a batch.
    """

    features: Features
    labels: npt.NDArray[np.int64]
    share: float
    fewest: int = 4

    @property
    def chances(self) -> npt.NDArray[np.float64]:
        """Chance of each cell to be drawn: float64[N], sum 1."""
        counts = np.bincount(self.labels, minlength=len(CLASSES))
        chance = 1.0 / np.maximum(counts[self.labels], self.fewest)
        return np.asarray(chance / chance.sum())

    def select(self, index: npt.NDArray[Any]) -> Pool:
        """Give the pool of some of its cells."""
        return Pool(self.features[:, index], self.labels[index], self.share, self.fewest)


def split(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Cut a student in two that share its weights: crops to features, features to logits float32[N, 6].

    Raises UsageError `model-not-adaptable` for a network that is no student.
    """
    if CUT not in {layer.name for layer in model.layers}:
        raise UsageError(
            "model-not-adaptable",
            f"The network {model.name!r} has no layer {CUT}: only a student can be adapted.",
            "Name the run of a student.",
        )
    middle = model.get_layer(CUT).output
    return keras.Model(model.input, middle), keras.Model(middle, model.output["logits"])


def learning(tail: keras.Model, layers: Layers) -> list[keras.Variable]:
    """Find the variables that learn. Statistics of a normalisation never do."""
    found = []
    for layer in tail.layers:
        normalisation = isinstance(layer, keras.layers.BatchNormalization)
        wanted = (
            layer.name == "head"
            or layers == "tail"
            or (layers == "normalisation" and normalisation)
            or (layers == "last" and layer.name.startswith(_LAST))
        )
        if wanted:
            found += layer.trainable_variables
    return found


@dataclass(frozen=True, slots=True)
class Batch:
    """`features` float32[n, h, w, C], `targets` float32[n, 6], `offsets` float32[n, 6] that are added to the logits.

    An offset takes a class that the cell's pool has not out of the softmax: that few cells of a site hold no basophil
    is no evidence against basophils, and must not teach the network to call none.
    """

    features: FloatArray
    targets: FloatArray
    offsets: FloatArray


def soften(
    pool: Pool, labels: npt.NDArray[np.int64], smoothing: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Targets and offsets float64[n, 6] of cells of a pool, `labels` int64[n], smoothed over the classes it has."""
    present = np.bincount(pool.labels, minlength=len(CLASSES)) > 0
    targets = (1 - smoothing) * np.eye(len(CLASSES))[labels] + smoothing * present / present.sum()
    return targets, np.tile(np.where(present, 0.0, _NEVER), (len(labels), 1))


def batch(pools: Sequence[Pool], size: int, smoothing: float, generator: np.random.Generator) -> Batch:
    """Draw a batch, every pool with its share of `size`; labels are smoothed over the classes of their pool."""
    features, targets, offsets = [], [], []
    for pool in pools:
        count = round(size * pool.share)
        cells = generator.choice(len(pool.labels), count, p=pool.chances)
        views = generator.integers(pool.features.shape[0], size=count)
        features.append(pool.features[views, cells])
        soft, offset = soften(pool, pool.labels[cells], smoothing)
        targets.append(soft)
        offsets.append(offset)
    joined = (np.concatenate(parts).astype(np.float32) for parts in (features, targets, offsets))
    return Batch(*joined)


@dataclass(frozen=True, slots=True)
class Course:
    """How a tail is trained: batches of `size` features, peak learning rate, steps, smoothing of the labels.

    The rate rises over `warmup` steps and falls with a cosine to nothing.
    """

    layers: Layers
    learning_rate: float
    steps: int = 150
    size: int = 48
    smoothing: float = 0.05
    warmup: int = 10

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        fall = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.learning_rate * min(1.0, (step + 1) / self.warmup) * fall


def train(
    tail: keras.Model,
    pools: Sequence[Pool],
    course: Course,
    seed: int,
    watch: Callable[[int], bool] | None = None,
) -> None:
    """Train the tail in place; normalisations use their statistics and do not change them.

    `watch` is called after every fifth part of the steps with the number of steps done, and ends the training when it
    returns True. The same seed and pools give the same weights on one machine.
    """
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    variables = learning(tail, course.layers)
    optimizer = keras.optimizers.AdamW(course.learning_rate, weight_decay=0.0, clipnorm=1.0)
    optimizer.build(variables)
    loss_of = keras.losses.CategoricalCrossentropy(from_logits=True)

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def step(features: Any, targets: Any, offsets: Any) -> None:
        with tf.GradientTape() as tape:
            loss = loss_of(targets, tail(features, training=False) + offsets)
        optimizer.apply(tape.gradient(loss, variables), variables)

    generator = np.random.default_rng(seed)
    for number in range(course.steps):
        optimizer.learning_rate.assign(course.rate(number))
        drawn = batch(pools, course.size, course.smoothing, generator)
        step(*(tf.constant(part) for part in (drawn.features, drawn.targets, drawn.offsets)))
        done = number + 1
        if watch is not None and done % max(1, course.steps // 5) == 0 and watch(done):
            return


def logits(tail: keras.Model, features: Features) -> FloatArray:
    """Logits float32[N, 6] of features float16[N, h, w, C]."""
    return np.asarray(tail.predict(features.astype(np.float32), batch_size=128, verbose=0), dtype=np.float32)

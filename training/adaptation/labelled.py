"""Ways to adapt with few labelled cells, tried on folds of whole groups; the best on cells it did not see is taken."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt

from edge.core.types import FloatArray, Image
from edge.inference.classifier import softmax
from training.adaptation import head, tail
from training.adaptation.head import Ridge
from training.adaptation.tail import Course, Features, Pool
from training.config import RunConfig
from training.data.augment import augment, centre, generator_for
from training.data.cells import Cells
from training.fit import network_inputs

_LOG = logging.getLogger(__name__)

NORMALISATION_ONLY: Final = "normalisation"
"""The way that learns nothing from labels."""

SITE_VIEWS: Final = 12
REPLAY_VIEWS: Final = 2
_STRENGTH: Final = 0.6
"""The site's cells already have its stain and optics: they are changed less than those of the source."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to learn: a regression of the head or a course of training, and the shares of the cells it learns from.

    `site` is the share of the site's cells, the rest are cells of the source, rehearsed through random microscopes.
    """

    name: str
    learner: Ridge | Course
    site: float


@dataclass(frozen=True, slots=True)
class Material:
    """What a fit draws on: features of the site's labelled cells, plain and as random views, and of replay cells.

    `clean` float16[N, h, w, C]; `views` float16[V, N, h, w, C]; `replay` float16[V, M, h, w, C].
    """

    labels: npt.NDArray[np.int64]
    clean: Features
    views: Features
    replay_labels: npt.NDArray[np.int64]
    replay: Features


def _features(trunk: Any, crops: Sequence[Image], config: RunConfig) -> Features:
    inputs = network_inputs(crops, config)
    return np.asarray(trunk.predict(inputs, batch_size=128, verbose=0), dtype=np.float16)


def random_views(  # noqa: PLR0917  # each is another thing
    trunk: Any, crops: Image | Sequence[Image], config: RunConfig, number: int, strength: float, key: tuple[int, ...]
) -> Features:
    """Features float16[`number`, N, h, w, C] of as many random views of each crop, by a random key."""
    views = []
    for view in range(number):
        seen = [
            augment(crop, config.size, generator_for(*key, view, index), strength) for index, crop in enumerate(crops)
        ]
        views.append(_features(trunk, seen, config))
    return np.stack(views).astype(np.float16, copy=False)


def material(trunk: Any, site: Cells, replay: Cells, config: RunConfig, seed: int) -> Material:
    """Compute the features of all views: `site` labelled cells, `replay` cells of the source's training split."""
    return Material(
        labels=site.labels,
        clean=_features(trunk, [centre(crop, config.size) for crop in site.crops], config),
        views=random_views(trunk, site.crops, config, SITE_VIEWS, _STRENGTH, (seed, 31)),
        replay_labels=replay.labels,
        replay=random_views(trunk, replay.crops, config, REPLAY_VIEWS, 1.0, (seed, 32)),
    )


def pools(given: Material, chosen: npt.NDArray[np.int64], way: Way) -> list[Pool]:
    """Give what a way draws from, with the site's cells `chosen` alone."""
    made = [
        Pool(given.views[:, chosen], given.labels[chosen], way.site),
        Pool(given.replay, given.replay_labels, 1.0 - way.site),
    ]
    return [pool for pool in made if pool.share > 0]


class Learner:
    """The tail of one network and the material of one site: learns from any of its cells, and answers for any."""

    def __init__(self, model: keras.Model, given: Material, seed: int) -> None:
        self._tail = tail.split(model)[1]
        self._head = model.get_layer("head")
        self._given = given
        self._seed = seed
        part = head.pooling(model)
        # What the head weighs does not change while the head alone learns.
        self._pooled = Material(
            given.labels,
            given.clean,
            head.pooled(part, given.views),
            given.replay_labels,
            head.pooled(part, given.replay),
        )

    def learn(self, chosen: npt.NDArray[np.int64], way: Way) -> None:
        """Learn a way from the site's cells `chosen`, int64[n], in place."""
        if isinstance(way.learner, Ridge):
            found = head.solve(pools(self._pooled, chosen, way), head.weights_of(self._head), way.learner)
            head.assign(self._head, found)
        else:
            tail.train(self._tail, pools(self._given, chosen, way), way.learner, self._seed)

    def answer(self, chosen: npt.NDArray[np.int64]) -> FloatArray:
        """Logits float32[n, 6] of the site's cells `chosen`."""
        return tail.logits(self._tail, self._given.clean[chosen])

    def cross_validate(self, ways: Sequence[Way], fold_of: npt.NDArray[np.int64]) -> dict[str, FloatArray]:
        """Logits float32[N, 6] of each labelled cell by every way, from networks that saw no cell of its fold.

        `fold_of` int64[N] must keep groups whole. The network is left as it was. The first entry, NORMALISATION_ONLY,
        learns nothing.
        """
        before = self._tail.get_weights()
        found = {NORMALISATION_ONLY: self.answer(np.arange(len(fold_of)))}
        for way in ways:
            answers = np.zeros_like(found[NORMALISATION_ONLY])
            for fold in np.unique(fold_of):
                held = np.flatnonzero(fold_of == fold)
                self.learn(np.flatnonzero(fold_of != fold), way)
                answers[held] = self.answer(held)
                self._tail.set_weights(before)
            found[way.name] = answers
            _LOG.info("%s: balanced log-loss %.3f", way.name, balanced_loss(answers, self._given.labels))
        return found


def balanced_loss(logits: FloatArray, labels: npt.NDArray[np.int64]) -> float:
    """Mean over classes of the mean negative log-likelihood of their cells, over all six outputs.

    It ranks ways by few cells with less chance than the balanced accuracy, which jumps by whole cells.
    """
    chance = softmax(logits)[np.arange(len(labels)), labels]
    loss = -np.log(np.maximum(chance, 1e-6))
    return float(np.mean([loss[labels == label].mean() for label in np.unique(labels)]))


def best(found: dict[str, FloatArray], labels: npt.NDArray[np.int64]) -> str:
    """Name the way with the smallest balanced loss; of equals the first."""
    return min(found, key=lambda name: balanced_loss(found[name], labels))

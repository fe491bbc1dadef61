"""Both networks, their losses, and one step of training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops, random

from edge.core.labels import LABELS
from edge.core.types import FloatArray
from training.gan import augmentation, discriminator, generator
from training.gan.config import GanConfig

_MOMENTA = {"beta_1": 0.0, "beta_2": 0.99}
"""Without momentum, as spectrally normalised networks of two are trained (Zhang et al., ICML 2019)."""


def discriminator_loss(real: Any, fake: Any) -> Any:
    """Hinge loss (Lim and Ye, Geometric GAN, 2017) of scores float[N, 1]: 0 when real >= 1 and fake <= -1."""
    return ops.mean(ops.relu(1.0 - real)) + ops.mean(ops.relu(1.0 + fake))


def generator_loss(fake: Any) -> Any:
    """Minus the mean score of generated pictures."""
    return -ops.mean(fake)


class ConditionalGan(keras.Model):  # type: ignore[misc]  # Keras has no types
    """Trains a generator against a discriminator; `average` is the generator with averaged weights, which draws.

    `train_on_batch(images float[N, R, R, 3], labels int[N])` makes one step of each. Gradients come from
    TensorFlow's tape; everything else is Keras' own operations.
    """

    def __init__(self, config: GanConfig) -> None:
        super().__init__(name="conditional_gan")
        keras.utils.set_random_seed(config.seed)
        self.config = config
        self.generator = generator.build(config)
        self.discriminator = discriminator.build(config)
        self.average = generator.build(config)
        self.average.set_weights(self.generator.get_weights())
        self.seed = random.SeedGenerator(config.seed)
        self.generator_optimizer = keras.optimizers.Adam(config.generator_rate, **_MOMENTA)
        self.discriminator_optimizer = keras.optimizers.Adam(config.discriminator_rate, **_MOMENTA)
        self.generator_optimizer.build(self.generator.trainable_variables)
        self.discriminator_optimizer.build(self.discriminator.trainable_variables)
        self.built = True

    def _score(self, images: Any, labels: Any) -> Any:
        seen = augmentation.augment(images, self.config.augmentation, self.seed)
        return self.discriminator([seen, labels], training=True)

    def _draw(self, labels: Any) -> Any:
        noise = random.normal((ops.shape(labels)[0], self.config.latent), seed=self.seed)
        return self.generator([noise, labels], training=True)

    def train_step(self, data: tuple[Any, ...]) -> dict[str, Any]:
        """One step of the discriminator, then one of the generator, then of the generator's average."""
        images, labels = (ops.convert_to_tensor(each) for each in data[:2])

        def judged() -> Any:
            # Real and generated in one pass, so that both are seen by the same normalised weights.
            fake = ops.stop_gradient(self._draw(labels))
            scores = self._score(ops.concatenate([images, fake]), ops.concatenate([labels, labels]))
            real, false = ops.split(scores, 2)
            return discriminator_loss(real, false)

        def fooled() -> Any:
            return generator_loss(self._score(self._draw(labels), labels))

        losses = {
            "discriminator": _descend(judged, self.discriminator, self.discriminator_optimizer),
            "generator": _descend(fooled, self.generator, self.generator_optimizer),
        }
        done = ops.cast(self.generator_optimizer.iterations, "float32")
        # Short memory at first, or the average would keep the untrained weights for hundreds of steps.
        decay = ops.minimum(self.config.averaging, (1.0 + done) / (10.0 + done))
        for old, new in zip(self.average.weights, self.generator.weights, strict=True):
            old.assign(decay * old + (1.0 - decay) * new)
        return losses

    def state(self) -> list[Any]:
        """Every variable that the next step depends on, in a fixed order."""
        return [
            *self.generator.weights,
            *self.discriminator.weights,
            *self.average.weights,
            *self.generator_optimizer.variables,
            *self.discriminator_optimizer.variables,
            self.seed.state,
        ]


def _descend(loss: Callable[[], Any], network: keras.Model, optimizer: keras.optimizers.Optimizer) -> Any:
    import tensorflow as tf

    with tf.GradientTape() as tape:
        value = loss()
    optimizer.apply(tape.gradient(value, network.trainable_variables), network.trainable_variables)
    return value


def draw(network: keras.Model, label: int, count: int, config: GanConfig, seed: int) -> FloatArray:
    """Draw `count` pictures of a class with a generator: float32[count, R, R, 3] RGB in [-1, 1].

    The same seed gives the same pictures. Raises IndexError when `label` is not one of the five.
    """
    LABELS[label]
    noise = np.random.default_rng(np.random.SeedSequence((seed, label))).standard_normal((count, config.latent))
    labels: npt.NDArray[np.int32] = np.full(count, label, dtype=np.int32)
    return np.asarray(network.predict([noise.astype(np.float32), labels], batch_size=64, verbose=0), dtype=np.float32)

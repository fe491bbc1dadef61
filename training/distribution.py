"""One batch over several devices: the GPUs of a machine, or the machines that TF_CONFIG names.

Synchronous data parallelism by `tf.distribute`: each device has a copy of the network and a part of the batch, and all
take the same step by the sum of their gradients. It needs the TensorFlow backend of Keras.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import keras
import numpy as np

from edge.core.errors import UsageError
from edge.core.types import FloatArray


def gpu_present() -> bool:
    """Whether there is a GPU that the backend of Keras can use."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # Not the logical devices: listing those starts TensorFlow, after which machines can no longer be joined.
        return bool(tf.config.list_physical_devices("GPU"))
    return any("gpu" in name.lower() or "cuda" in name.lower() for name in keras.distribution.list_devices())


def default_mixed_precision() -> bool:
    """Half precision where there is a GPU: it has units for it. On a processor it is slower than single precision."""
    return gpu_present()


def _cluster() -> dict[str, Any]:
    """Read TF_CONFIG; empty where it is not set or names one machine."""
    text = os.environ.get("TF_CONFIG", "")
    if not text:
        return {}
    try:
        config: dict[str, Any] = json.loads(text)
        machines = sum(len(names) for kind, names in config["cluster"].items() if kind in {"chief", "worker"})
        _ = config["task"]["type"], int(config["task"]["index"])
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise UsageError(
            "tf-config-invalid",
            f"TF_CONFIG cannot be read: {problem}.",
            "Give it as described in docs/fitting.md, or unset it.",
        ) from problem
    return config if machines > 1 else {}


@lru_cache(maxsize=1)
def _strategy() -> Any:
    """Give the strategy of this process, None for a single device. TensorFlow allows one collective group a process."""
    if keras.backend.backend() != "tensorflow":
        return None
    cluster = _cluster()
    import tensorflow as tf

    if cluster:
        return tf.distribute.MultiWorkerMirroredStrategy()
    return tf.distribute.MirroredStrategy() if len(tf.config.list_physical_devices("GPU")) > 1 else None


Step = Callable[[FloatArray, FloatArray, FloatArray], float]


@dataclass(frozen=True, slots=True)
class Devices:
    """The devices of a run. `positions` is the part of each batch that this process makes for its `local` devices.

    `first` is whether this process writes into the run's folder; `machines` how many processes take part.
    """

    strategy: Any
    positions: range
    local: int = 1
    first: bool = True
    machines: int = 1

    @classmethod
    def find(cls, batch: int) -> Devices:
        """Find the devices of this run. Raises UsageError `tf-config-invalid` or `batch-not-divisible`."""
        return cls.of(_strategy(), batch)

    @classmethod
    def of(cls, strategy: Any, batch: int) -> Devices:
        """Share batches among the devices of a strategy of `tf.distribute`; None is a single device."""
        if strategy is None:
            return cls(None, range(batch))
        cluster = _cluster()
        kinds = [kind for kind in ("chief", "worker") for _ in cluster.get("cluster", {}).get(kind, ())]
        machines = max(1, len(kinds))
        rank = 0
        if cluster:
            rank = int(cluster["task"]["index"])
            rank += kinds.count("chief") if cluster["task"]["type"] == "worker" else 0
        devices = int(strategy.num_replicas_in_sync)
        if batch % devices:
            raise UsageError(
                "batch-not-divisible", f"A batch of {batch} cannot be shared by {devices} devices.", "Change --batch."
            )
        part = batch // machines
        return cls(strategy, range(rank * part, (rank + 1) * part), devices // machines, rank == 0, machines)

    def scope(self) -> AbstractContextManager[Any]:
        """Give the block in which a network and its optimizer are made."""
        scope: AbstractContextManager[Any] = nullcontext() if self.strategy is None else self.strategy.scope()
        return scope

    def stepper(self, model: keras.Model) -> Step:
        """Give the function that takes one training step of a compiled model.

        It takes this process's part of a batch, inputs, targets and sample weights, and gives the loss, the mean over
        all devices.
        """
        if self.strategy is None:
            return lambda inputs, targets, weights: float(model.train_on_batch(inputs, targets, sample_weight=weights))
        import tensorflow as tf

        # Keras' own loop ends in an error with several machines: it averages the loss along an axis it does not have.
        def whole_step(data: Any) -> Any:
            logs = self.strategy.run(model.train_step, args=(data,))
            return self.strategy.reduce("MEAN", logs["loss"], axis=None)

        step = tf.function(whole_step)

        def part(whole: FloatArray) -> Any:
            parts = [tf.constant(piece) for piece in np.split(whole, self.local)]
            return self.strategy.experimental_distribute_values_from_function(
                lambda context: parts[context.replica_id_in_sync_group % self.local]
            )

        def take(inputs: FloatArray, targets: FloatArray, weights: FloatArray) -> float:
            model.reset_metrics()
            return float(step((part(inputs), part(targets), part(weights))))

        return take

    def agree(self, value: float) -> float:
        """Give all processes the value of the first: a score that differs in its last bit must not part them."""
        if self.machines == 1:
            return value
        import tensorflow as tf

        mine = value / self.local if self.first else 0.0
        shared = self.strategy.run(lambda: tf.constant(mine, tf.float64))
        return float(self.strategy.reduce("SUM", shared, axis=None))

    def copy(self, model: keras.Model, build: Callable[[], keras.Model]) -> keras.Model:
        """Give the network that is judged: the trained one, or a plain copy where that is spread over devices."""
        if self.strategy is None:
            return model
        full = build()
        return keras.Model(full.input, full.output["logits"])

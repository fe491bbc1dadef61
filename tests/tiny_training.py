"""A network and cells so small that whole runs take seconds; as a program, a child for tests of several processes.

tiny_training.py fit FOLDER EPOCHS [PAUSE] | search FOLDER
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from training import fit
from training.config import RunConfig
from training.data.cells import Cells
from training.models import registry
from training.models.head import with_head
from training.search import Grid, search

TINY = RunConfig(model="tiny", size=32, batch=8, steps=3, epochs=4, rendered_share=0.0, dropout=0.3)


GRID = Grid(batch=(4, 8), learning_rate=(1e-3, 1e-2), dropout=(0.0,))


def _build(config: RunConfig, weights: Path | None = None) -> keras.Model:
    inputs = keras.Input((config.size, config.size, 3))
    base = layers.Conv2D(4, 3, strides=4, name="base", kernel_initializer="he_normal")(inputs)
    base = layers.BatchNormalization(momentum=0.8, name="base_bn")(base)
    own = layers.ReLU()(layers.Conv2D(8, 3, name="own")(layers.ReLU()(base)))
    return with_head(inputs, own, config.dropout, "tiny")


def child(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start this file as a program."""
    paths = os.pathsep.join([str(Path(__file__).resolve().parents[1]), *sys.path])
    return subprocess.Popen(
        [sys.executable, __file__, *arguments],
        env={**os.environ, "PYTHONPATH": paths, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def register() -> None:
    """Make the network known by the name `tiny`, as a module of the registry."""
    module = types.ModuleType("tiny_network_of_tests")
    module.build = _build
    module.build_untrained = _build
    module.base_layers = lambda model: [model.get_layer("base"), model.get_layer("base_bn")]
    sys.modules[module.__name__] = module
    registry._MODELS["tiny"] = (module.__name__, {"batch": 8})


@contextmanager
def registered() -> Iterator[None]:
    """Let the network be known inside the block alone."""
    before = dict(registry._MODELS)
    register()
    try:
        yield
    finally:
        registry._MODELS.clear()
        registry._MODELS.update(before)


def tiny_cells(size: int = 32, n: int = 72, seed: int = 0) -> Cells:
    """Cells of which each class has a colour of its own, in two sources."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 6
    colours = np.random.default_rng(5).integers(40, 220, (6, 3))
    crops = colours[labels][:, None, None] + rng.integers(-20, 20, (n, size * 3 // 2, size * 3 // 2, 3))
    return Cells(
        crops=crops.astype(np.uint8),
        labels=labels,
        source=np.where(rng.random(n) < 0.7, "pbc", "bccd"),
        split=np.array((["train"] * 4 + ["validation", "test"]) * (n // 6))[rng.permutation(n)],
        kind=np.full(n, "cell"),
        group=np.array([f"g{index // 2}" for index in range(n)]),
        picture=np.arange(n).astype(str),
        subtype=np.full(n, ""),
    )


def _fit(folder: Path, epochs: str, pause: str = "0") -> None:
    """A run with a frozen stage, and a pause after each epoch in which it can be killed."""
    own = replace(TINY, epochs=int(epochs), frozen_epochs=2)
    fit.fit(tiny_cells(), own, None, folder, watch=lambda epoch: time.sleep(float(pause)))


def _distributed(folder: Path, epochs: str) -> None:
    """This worker's part of a run; the epochs that it saw go into a file of its own."""
    rank = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    seen: list[object] = []
    # Without dropout, whose masks differ by device, the run can be compared with that of one process. The machines of
    # a cluster share the run's folder.
    own = replace(TINY, epochs=3, dropout=0.0)

    class Enough(Exception):
        pass

    def watch(epoch: Mapping[str, Any]) -> None:
        seen.append(epoch)
        if epoch["epoch"] + 1 == int(epochs):
            raise Enough

    with suppress(Enough):
        fit.fit(tiny_cells(), own, None, folder, watch=watch)
    folder.with_name(f"{folder.name}.{rank}.json").write_text(json.dumps(seen), encoding="utf-8")


def _search(folder: Path) -> None:
    """This process's share of a small grid."""
    search(tiny_cells(), replace(TINY, epochs=2), None, folder, GRID, prune=False)


if __name__ == "__main__":
    register()
    {"fit": _fit, "distributed": _distributed, "search": _search}[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])

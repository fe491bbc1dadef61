"""What a run shows while it goes on: a bar on a terminal, and curves for TensorBoard in its folder."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import keras

_LOG = logging.getLogger(__name__)

FOLDER: Final = "tensorboard"
"""Where the curves are in a run folder: `tensorboard --logdir RUN` shows them."""


class Curves:
    """Writes one point per epoch and curve. Does nothing, and says why once, where TensorFlow is not the backend."""

    def __init__(self, run: Path) -> None:
        self._writer: Any = None
        if keras.backend.backend() != "tensorflow":
            _LOG.info("no curves for TensorBoard: the backend is %s, not tensorflow", keras.backend.backend())
            return
        import tensorflow as tf

        self._write = tf.summary.write
        # What TensorBoard calls a scalar: with this the core's own writer serves, and TensorBoard need not be here.
        self._kind = tf.compat.v1.SummaryMetadata(
            plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars"), data_class=1
        )
        self._writer = tf.summary.create_file_writer(str(run / FOLDER))

    def add(self, epoch: Mapping[str, Any], learning_rate: float) -> None:
        """Write the curves of one epoch of the history."""
        if self._writer is None:
            return
        values = {"loss": epoch["loss"], "score": epoch["score"], "learning rate": learning_rate}
        for name, figures in epoch["sources"].items():
            values |= {f"{figure}/{name}": figures[figure] for figure in ("balanced_accuracy", "macro_f1")}
        with self._writer.as_default():
            for name, value in values.items():
                self._write(name.replace(" ", "_").replace(",", ""), value, step=epoch["epoch"], metadata=self._kind)
        self._writer.flush()


def describe(epoch: Mapping[str, Any]) -> str:
    """Give one epoch of the history as a line."""
    sites = "  ".join(
        f"{name} {values['balanced_accuracy']:.3f}/{values['macro_f1']:.3f}"
        for name, values in epoch["sources"].items()
    )
    return f"epoch {epoch['epoch']:3d}  loss {epoch['loss']:.3f}  score {epoch['score']:.4f}  {sites}"

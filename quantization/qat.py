"""Quantization-aware training of a run's network: what to learn is made here, the learning is done by a child."""

from __future__ import annotations

import importlib.util
import json
import logging
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt

from edge.core.errors import MissingExtraError
from edge.core.types import FloatArray
from edge.inference.classifier import softmax
from quantization import aware, elsewhere, tflite
from quantization.description import describe
from quantization.errors import QuantizationError
from training.config import CLASSES, RunConfig
from training.data.cells import Cells
from training.data.sampling import BatchMaker
from training.fit import training_cells

_LOG = logging.getLogger(__name__)

_PACKAGES = ("tensorflow", "tf_keras", "tensorflow_model_optimization")


def train(
    model: keras.Model,
    cells: Cells,
    config: RunConfig,
    plan: aware.Schedule | None = None,
    python: Path | None = None,
) -> bytes:
    """Train the network a little longer with its rounding in it; returns a full-integer .tflite file.

    It learns the answers of the network itself on fresh views of the training cells, not the labels: what is wanted is
    the same network on a device. `python` is the interpreter that has `tf_keras` and tensorflow-model-optimization, by
    default this one. Raises MissingExtraError when it lacks them, QuantizationError `qat-failed` with the last line it
    wrote, `layer-not-supported`, or `not-all-int8`.
    """
    plan = plan or aware.Schedule()
    interpreter = _interpreter(python)
    described = describe(model)
    with tempfile.TemporaryDirectory(prefix="leuko-qat-") as name:
        folder = Path(name)
        job = {
            "side": described.side,
            "nodes": [node.as_json() for node in described.nodes],
            "schedule": asdict(plan),
        }
        (folder / aware.JOB_FILE).write_text(json.dumps(job), encoding="utf-8")
        np.savez(folder / aware.WEIGHTS_FILE, **described.weights)  # type: ignore[arg-type]
        _write_lessons(model, cells, config, plan, folder)
        ranges = tflite.representative_set(cells, config)
        order = np.random.default_rng(config.seed).permutation(len(ranges))
        np.save(folder / aware.RANGES_FILE, ranges[order].astype(np.float16))
        _run(interpreter, folder)
        content = (folder / aware.NETWORK_FILE).read_bytes()
    tflite.require_int8(content)
    return content


def _write_lessons(model: keras.Model, cells: Cells, config: RunConfig, plan: aware.Schedule, folder: Path) -> None:
    """Write the views of all steps, half floats to save space, and what the network says of each."""
    shape = (plan.steps * plan.batch, config.size, config.size, 3)
    inputs = np.lib.format.open_memmap(folder / aware.INPUTS_FILE, "w+", np.float16, shape)
    targets = np.empty((shape[0], len(CLASSES)), np.float32)
    maker = BatchMaker(training_cells(cells, config), replace(config, batch=plan.batch, steps=plan.steps))
    # An epoch that no training reached: views that the network has not seen.
    for number, batch in enumerate(maker.epoch(config.epochs + 1)):
        part = slice(number * plan.batch, (number + 1) * plan.batch)
        inputs[part] = batch.inputs
        targets[part] = probabilities(model, batch.inputs)
    inputs.flush()
    np.save(folder / aware.TARGETS_FILE, targets)


def probabilities(model: keras.Model, inputs: FloatArray) -> npt.NDArray[np.float64]:
    """What the network says of inputs float32[N, S, S, 3]: float64[N, 6], sum 1."""
    return softmax(np.asarray(model.predict_on_batch(inputs)["logits"], np.float64))


def _interpreter(python: Path | None) -> str:
    if python is not None:
        return str(python)
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            "extra-missing",
            f"{', '.join(missing)} is not installed: quantization-aware training needs it.",
            "Run: pip install 'leukoscope[quantize]', or name an interpreter that has it with --python.",
        )
    return sys.executable


def _run(interpreter: str, folder: Path) -> None:
    last = "it wrote nothing"
    with elsewhere.environment() as variables:
        try:
            child = subprocess.Popen(
                [interpreter, "-m", aware.__name__, str(folder)],
                env={**variables, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )
        except OSError as error:
            raise _failed(str(error)) from error
        with child:
            for line in child.stderr or ():
                if line.startswith("step "):
                    _LOG.info("%s", line.strip())
                last = line.strip() or last
    if child.returncode != 0 or not (folder / aware.NETWORK_FILE).is_file():
        raise _failed(last)


def _failed(reason: str) -> QuantizationError:
    return QuantizationError(
        "qat-failed",
        f"The quantization-aware training ended without a network: {reason}.",
        "It needs tf-keras and tensorflow-model-optimization (pip install 'leukoscope[quantize]').",
    )

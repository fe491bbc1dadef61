"""The ways to quantize a run's network, by name: each gives one .tflite file."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from edge.core.durable import write_bytes
from quantization.aware import Schedule
from training import fit
from training.config import RunConfig
from training.data.cells import Cells

if TYPE_CHECKING:
    import keras

_LOG = logging.getLogger(__name__)

Method = Literal["ptq", "rounded", "qat", "mixed", "ai-edge", "float"]

QUANTIZED_FILE: Final = "student-int8.tflite"
FLOAT_FILE: Final = "student-float32.tflite"
FILES: Final[dict[Method, str]] = {
    "ptq": QUANTIZED_FILE,
    "rounded": "student-int8-rounded.tflite",
    "qat": "student-int8-qat.tflite",
    "mixed": "student-int16x8.tflite",
    "ai-edge": "student-int8-ai-edge.tflite",
    "float": FLOAT_FILE,
}
"""What each method writes into the run's folder when it is told no other file."""


@dataclass(frozen=True, slots=True)
class Options:
    """`per_stratum` training cells of each class of each source set the ranges, `pictures` of them the rounding.

    `equalise` 0..1 is how far channels are brought to one width first (`quantization.equalise`). The rest is for
    quantization-aware training: `python` is the interpreter that trains, by default this one.
    """

    per_stratum: int = 12
    pictures: int = 256
    equalise: float = 0.0
    schedule: Schedule = field(default_factory=Schedule)
    python: Path | None = None


def quantize(
    cells: Cells, run: Path, method: Method = "ptq", out: Path | None = None, options: Options | None = None
) -> Path:
    """Quantize a run's chosen network on its training cells; returns the file.

    `ptq` after the training, full integers; `rounded` the same with its weights rounded anew, see
    `quantization.rounding`; `qat` trains a little longer with the rounding in the network; `mixed` is
    int16 activations beside int8 weights; `ai-edge` is ai-edge-quantizer's; `float` quantizes nothing and is what the
    others are compared with. Raises QuantizationError, and MissingExtraError where a method's package is missing.
    """
    options = options or Options()
    model, config = fit.load(run)
    path = out or run / FILES[method]
    content = _content(model, cells, config, method, options)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content)
    _LOG.info("%s: %d bytes", path, len(content))
    return path


def _content(model: keras.Model, cells: Cells, config: RunConfig, method: Method, options: Options) -> bytes:
    from quantization import qat, tflite
    from quantization.equalise import equalise
    from quantization.rounding import improve

    if method == "float":
        return tflite.convert_float(model)
    representative = tflite.representative_set(cells, config, options.per_stratum)
    if options.equalise:
        model = equalise(model, representative, options.equalise)
    if method == "qat":
        return qat.train(model, cells, config, options.schedule, options.python)
    if method == "ai-edge":
        return tflite.convert_ai_edge(tflite.convert_float(model), representative)
    quantized = tflite.convert(model, representative, wide=method == "mixed")
    if method != "rounded":
        return quantized
    order = np.random.default_rng(config.seed).permutation(len(representative))[: options.pictures]
    return improve(tflite.convert_float(model), quantized, representative[order])


def float_file(run: Path) -> Path:
    """Give the run's float32 .tflite file, made when it is missing."""
    path = run / FLOAT_FILE
    if not path.is_file():
        from quantization import tflite

        write_bytes(path, tflite.convert_float(fit.load(run)[0]))
    return path

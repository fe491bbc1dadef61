"""All maps of a cell, measured against the one that the device shows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from devices.runtimes.litert import LiteRTRuntime
from edge.core.errors import UsageError
from edge.core.protocols import Runtime
from edge.core.types import FloatArray
from edge.imaging.flatfield import BLANK
from edge.inference.classifier import evidence, softmax
from edge.inference.saliency import enlarged
from training import fit
from training.config import CLASSES, RunConfig
from training.explain import agreement, gradients, perturbation
from training.explain.network import Network
from training.explain.subjects import Subject

METHODS: Final = ("grad-cam", "gradients", "smoothgrad", "occlusion", "lime")

DEVICE: Final = "device"
"""The map that the others are compared with: class activation of the float network, as the device computes it."""

INT8: Final = "int8"
"""The same map of the run's quantized network, on the device's runtime."""

CENTRE: Final = "centre"
"""A hill in the middle of the crop, as wide as a nucleus, that no network was asked for. Crops are centred on their
nucleus, so whatever is no better than this has shown nothing."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is computed: `methods` of METHODS, for the class `target` of CLASSES or, with None, for the called one.

    `layer` is that of Grad-CAM (None: the last before the average). SmoothGrad takes `noise` (share of the input's
    range) and `copies`, LIME `lime_samples`. `seed` decides everything random.
    """

    methods: tuple[str, ...] = METHODS
    target: str | None = None
    layer: str | None = None
    noise: float = 0.15
    copies: int = 25
    lime_samples: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise UsageError `unknown-method` or `unknown-class`."""
        for method in self.methods:
            if method not in METHODS:
                raise UsageError(
                    "unknown-method", f"There is no method {method!r}.", f"Choose among: {', '.join(METHODS)}."
                )
        if self.target is not None and self.target not in CLASSES:
            raise UsageError(
                "unknown-class", f"There is no class {self.target!r}.", f"Choose one of: {', '.join(CLASSES)}."
            )


@dataclass(frozen=True, slots=True)
class Measures:
    """What was measured of one map. None where it has no value, for example since the map is empty.

    `rank_correlation` (-1..1) and `overlap` (0..1) are with the device's map, `pointing` (0..1) is the peak in the
    nucleus, `deletion` and `insertion` (0..1) are the areas under the curves of the class's probability.
    """

    rank_correlation: float | None
    overlap: float | None
    pointing: float | None
    deletion: float
    insertion: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """One cell: the class `called`, the class `target` that is explained, and the softmax of each output, 0..1.

    `maps` holds each map by name, float32[S, S] in 0..1, and `measures` what was measured of it.
    """

    subject: Subject
    called: str
    target: str
    probabilities: tuple[float, ...]
    maps: dict[str, FloatArray]
    measures: dict[str, Measures]


@dataclass(frozen=True, slots=True)
class Run:
    """A trained network, how it was trained, and its quantized form where the run has one."""

    network: Network
    config: RunConfig
    quantized: Runtime | None = None


@contextmanager
def open_run(folder: Path) -> Iterator[Run]:
    """Open a run folder of `leuko train fit`. Raises UsageError `not-a-run` when it holds no trained network."""
    from quantization.methods import QUANTIZED_FILE

    for name in ("config.json", "model.weights.h5"):
        if not (folder / name).is_file():
            raise UsageError("not-a-run", f"{folder} holds no {name}.", "Give the folder of a `leuko train fit`.")
    model, config = fit.load(folder)
    network = Network(model)
    if (folder / QUANTIZED_FILE).is_file():
        with LiteRTRuntime(folder / QUANTIZED_FILE) as runtime:
            yield Run(network, config, runtime)
    else:
        yield Run(network, config)


def unit(signed: FloatArray, size: int) -> FloatArray:
    """What speaks for the class, as the device draws it: the positive part, its peak 1, float32[size, size]."""
    positive = np.maximum(signed, 0)
    peak = float(positive.max())
    shares: FloatArray = np.asarray(positive / peak if peak > 0 else positive, dtype=np.float32)
    return enlarged(shares, size, size)


def explain(run: Run, subject: Subject, settings: Settings) -> Explanation:
    """Compute and measure the maps of one cell.

    Raises UsageError `unknown-layer`, `gradients-need-tensorflow`, MissingExtraError where LIME is not installed.
    """
    network, config = run.network, run.config
    inputs = fit.network_inputs([subject.crop], config)[0]
    probabilities = softmax(network.logits(inputs[None]))[0]
    called = int(probabilities.argmax())
    target = called if settings.target is None else CLASSES.index(settings.target)
    blank = np.float32(BLANK * config.preprocessing.scale + config.preprocessing.offset)
    size = network.size
    maps = {DEVICE: unit(network.device_map(inputs, target), size)}
    if run.quantized is not None:
        features = run.quantized.run(inputs[None]).features
        if features is not None:
            maps[INT8] = unit(evidence(features, np.array([target]))[0], size)
    for method in settings.methods:
        maps[method] = unit(_signed(network, method, inputs, target, subject, float(blank), settings), size)
    maps[CENTRE] = _centre(size, config.margin)
    highest = agreement.top(maps[DEVICE])
    probability = network.probability(target)
    measures = {}
    for name, activation in maps.items():
        deletion, insertion = perturbation.curves(probability, inputs, activation, float(blank), seed=settings.seed)
        measures[name] = Measures(
            rank_correlation=agreement.rank_correlation(maps[DEVICE], activation),
            overlap=agreement.overlap(highest, agreement.top(activation)),
            pointing=agreement.points_inside(activation, subject.nucleus),
            deletion=deletion,
            insertion=insertion,
        )
    return Explanation(
        subject=subject,
        called=CLASSES[called],
        target=CLASSES[target],
        probabilities=tuple(probabilities.tolist()),
        maps=maps,
        measures=measures,
    )


def _signed(  # noqa: PLR0917  # each is another thing
    network: Network, method: str, inputs: FloatArray, target: int, subject: Subject, blank: float, settings: Settings
) -> FloatArray:
    if method == "grad-cam":
        return gradients.grad_cam(network, inputs, target, settings.layer)
    if method == "gradients":
        return gradients.plain(network, inputs, target)
    if method == "smoothgrad":
        return gradients.smooth(network, inputs, target, settings.noise, settings.copies, settings.seed)
    score = network.score(target)
    if method == "occlusion":
        return perturbation.occlusion(score, inputs, blank)
    regions = perturbation.superpixels(subject.crop)
    return perturbation.lime(score, inputs, regions, blank, settings.lime_samples, settings.seed)


def _centre(size: int, margin: float) -> FloatArray:
    offset = np.arange(size) - (size - 1) / 2
    squared = offset[:, None] ** 2 + offset[None, :] ** 2
    return np.exp(-squared / (2 * (size / margin / 2) ** 2)).astype(np.float32)

"""From crops to calls: a bundle's network on a runtime, its calibration, and when it must not answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from edge.bundle.manifest import NETWORK_LABELS, Calibration, Manifest, PreprocessingSpec
from edge.core.errors import BundleError, RuntimeUnavailableError
from edge.core.labels import LABELS, OTHER
from edge.core.protocols import Runtime
from edge.core.types import Box, BundleOrigin, CellCall, FloatArray, Image, LocatedCell, Outputs
from edge.imaging.crop import cut
from edge.imaging.preprocess import to_input
from edge.inference.second_look import look_again

LOW_CONFIDENCE = "low-confidence"
"""Reason of an abstention: the best of the five classes is too improbable to be counted."""

BATCH = 16
"""Pictures in one run of the network, where the device's profile says nothing else."""


class Classifier:
    """Calls cells with the network that `runtime` holds, as the bundle's manifest says.

    The runtime belongs to the caller, who has entered it; the same classifier may be used for many fields, by one
    thread at a time. `batch` is the largest number of pictures in one run of the network.
    """

    def __init__(
        self, manifest: Manifest, runtime: Runtime, batch: int = BATCH, origin: BundleOrigin = "shipped"
    ) -> None:
        self._manifest = manifest
        self._origin = origin
        self._runtime = runtime
        self._preprocessing = manifest.preprocessing.to_preprocessing()
        # Kept, because memory of this size is handed back and fetched again page by page with every field.
        size = manifest.preprocessing.size
        self._batch = np.empty((batch, size, size, 3), np.float32)

    @property
    def manifest(self) -> Manifest:
        """The manifest of the bundle in use."""
        return self._manifest

    @property
    def origin(self) -> BundleOrigin:
        """Where the trust in the bundle is from: the package, a signed release, or nobody."""
        return self._origin

    @property
    def runtime(self) -> Runtime:
        """The runtime in use."""
        return self._runtime

    def classify(
        self,
        crops: Sequence[Image],
        boxes: Sequence[Box] | None = None,
        with_activation: bool = False,
        wider: Callable[[int, float], Image] | None = None,
    ) -> list[CellCall]:
        """Call each crop, uint8[size, size, 3] BGR as `edge.imaging.crop.cut` gives it.

        `boxes` are the cells' places in their field; without them each call's box is the whole crop. `with_activation`
        adds the class-activation map of the called class. `wider` gives the crop of a cell, by its place, cut so many
        times as wide, for the second look; without it that sees the sides of the crop alone. Raises ValueError when a
        crop has another size or there are not as many boxes as crops, RuntimeUnavailableError when the runtime returns
        numbers that cannot be.
        """
        if boxes is None:
            boxes = [Box(0, 0, crop.shape[1], crop.shape[0]) for crop in crops]
        if len(boxes) != len(crops):
            raise ValueError(f"{len(crops)} crops, {len(boxes)} boxes")
        calls: list[CellCall] = []
        for outputs in self._outputs(crops, wider):
            maps = self._maps(outputs) if with_activation else None
            first = len(calls)
            calls += decide(
                outputs.logits, boxes[first : first + len(outputs.logits)], self._manifest.calibration, maps
            )
        return calls

    def _outputs(self, crops: Sequence[Image], wider: Callable[[int, float], Image] | None) -> Iterator[Outputs]:
        calibration = self._manifest.calibration
        for start in range(0, len(crops), len(self._batch)):
            batch = self._batch[: len(crops) - start]
            for row, crop in enumerate(crops[start : start + len(self._batch)]):
                batch[row] = to_input(crop, self._preprocessing)
            again = None if wider is None else partial(self._wider_input, wider, start)
            yield look_again(
                batch,
                self._run(batch),
                self._run,
                calibration.second_look,
                calibration.second_look_widths,
                again,
            )

    def _wider_input(self, wider: Callable[[int, float], Image], start: int, row: int, width: float) -> FloatArray:
        return to_input(wider(start + row, width), self._preprocessing)

    def _run(self, batch: FloatArray) -> Outputs:
        outputs = self._runtime.run(batch)
        if outputs.logits.shape != (len(batch), len(NETWORK_LABELS)):
            raise BundleError(
                "model-mismatch",
                f"The network of {self._manifest.identity} gives logits {outputs.logits.shape[1:]}, "
                f"its manifest names {len(NETWORK_LABELS)} classes.",
                "Install the bundle again.",
            )
        if not np.isfinite(outputs.logits).all():
            raise RuntimeUnavailableError(
                "runtime-not-finite",
                f"{self._runtime.info} returned values that are not numbers.",
                "Run `leuko doctor`; this device must not be used for results until it passes.",
            )
        return outputs

    def _maps(self, outputs: Outputs) -> FloatArray:
        maps = outputs.features
        if maps is None or maps.ndim != 4 or maps.shape[3] != len(NETWORK_LABELS):
            raise BundleError(
                "model-without-activation",
                f"The network of {self._manifest.identity} has no class-activation maps.",
                "Use a bundle whose network has them.",
            )
        return maps


def cut_wider(
    corrected: Image, cells: Sequence[LocatedCell], preprocessing: PreprocessingSpec
) -> Callable[[int, float], Image]:
    """Give the function that cuts a cell of a field, by its place, so many times as wide as the network's crop."""

    def wider(index: int, width: float) -> Image:
        return cut(corrected, cells[index], preprocessing.size, width * preprocessing.margin)

    return wider


def softmax(logits: FloatArray) -> npt.NDArray[np.float64]:
    """Softmax over the last axis, computed in float64 after subtracting the maximum."""
    shifted = np.asarray(logits, dtype=np.float64)
    exponentials = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def decide(
    logits: FloatArray, boxes: Sequence[Box], calibration: Calibration, maps: FloatArray | None = None
) -> list[CellCall]:
    """Decide the calls for N cells from their logits, float32[N, 6], and maps, float32[N, h, w, 6].

    The probabilities are of the five classes alone, softmax(logits / temperature), and sum to 1. The label is `other`
    when its logit is the largest of the six: it is then not one of the five, however the five compare.
    """
    best = logits.argmax(axis=1)
    probabilities = softmax(logits[:, : len(LABELS)] / calibration.temperature)
    activations = evidence(maps, best) if maps is not None else [None] * len(best)
    calls = []
    for row, (index, shares) in enumerate(zip(best.tolist(), probabilities.tolist(), strict=True)):
        label = NETWORK_LABELS[index]
        abstained = label != OTHER and shares[index] < calibration.abstention_threshold
        calls.append(
            CellCall(
                label=label,
                probabilities=tuple(shares),
                abstained=abstained,
                reason=LOW_CONFIDENCE if abstained else None,
                box=boxes[row],
                activation=activations[row],
            )
        )
    return calls


def evidence(maps: FloatArray, classes: npt.NDArray[np.intp]) -> FloatArray:
    """Where each cell speaks for its class: float32[N, h, w] in 0..1.

    `maps` are the class-activation maps, float32[N, h, w, 6], `classes` the place of each cell's label among the six.
    Class activation mapping (Zhou et al., CVPR 2016) for a head that pools the maps into the logits. Softmax ignores
    what is added to all classes alike, so the mean of the six maps is taken off first; what speaks against the class
    is 0, as in Grad-CAM (Selvaraju et al., ICCV 2017); the largest value is 1, or all are 0 when nothing speaks for it.
    """
    chosen = np.take_along_axis(maps, classes[:, None, None, None], axis=3)[..., 0]
    positive = np.maximum(chosen - maps.mean(axis=3), 0)
    peak = positive.max(axis=(1, 2), keepdims=True)
    shares: FloatArray = np.divide(positive, peak, out=np.zeros_like(positive), where=peak > 0)
    return shares

"""An engine beside the same network on the CPU: do they agree, how fast is it, and what memory does it take."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edge.core.labels import LABELS
from edge.core.types import FloatArray, Outputs
from edge.health import engines
from edge.health.machine import resident_memory

if TYPE_CHECKING:
    from edge.bundle.manifest import Manifest

BATCHES: Final = (1, 8, 16)
ROUNDS: Final = 50
CELLS_PER_CLASS: Final = 20

RENDER: Final = "devices.cameras.slide:render_cell"


@dataclass(frozen=True, slots=True)
class BatchTimes:
    """Milliseconds of one batch: median and 95th percentile on TensorRT, median of float32 on ONNX Runtime, one thread.

    Both from the CPU's memory to the CPU's memory: copies are counted. The CPU's are None where onnxruntime is not
    installed or the bundle has no float32 network.
    """

    batch: int
    median: float
    slowest_twentieth: float
    cpu_median: float | None


@dataclass(frozen=True, slots=True)
class Measured:
    """What was found. Differences are of logits, against float32 on the CPU; None where that cannot run.

    `gpu_bytes` is what the GPU had less free with the engine open, CUDA's own context not counted; on a Jetson, whose
    memory is one, it is in `resident_bytes` too, in part.
    """

    precision: str
    cells: int
    agreeing: int | None
    mean_difference: float | None
    largest_difference: float | None
    recall_change: dict[str, float] | None
    times: tuple[BatchTimes, ...]
    gpu_bytes: int
    resident_bytes: int | None


def measure(
    folder: Path,
    precision: str,
    cache: Path | None = None,
    *,
    rounds: int = ROUNDS,
    cells_per_class: int = CELLS_PER_CLASS,
) -> Measured:
    """Measure the kept engine of a bundle's network, building it where none is kept, on drawn cells.

    The cells are those of the simulated slide, through the device's own preprocessing, the same on every device. Raises
    what `engines.build` raises.
    """
    from edge.bundle import manifest
    from edge.inference.negotiate import resolve

    bundle = manifest.load(folder)
    _, network = engines.find(folder, precision)
    inputs, labels = drawn_inputs(bundle, cells_per_class)
    cuda = resolve(engines.CUDA).load()
    free, _ = cuda.memory()
    with resolve(engines.RUNTIME)(network, 1, cache) as runtime:
        outputs = runtime.run(inputs)
        taken = {batch: _times(runtime.run, inputs[:batch], rounds) for batch in BATCHES}
        used = free - cuda.memory()[0]
        resident = resident_memory()[0]
        stated = str(runtime.info.precision)
    reference, cpu = _on_the_cpu(bundle, folder, inputs, max(1, rounds // 5))
    difference = None if reference is None else np.abs(reference.astype(np.float64) - outputs.logits)
    same = None if reference is None else reference.argmax(axis=1) == outputs.logits.argmax(axis=1)
    return Measured(
        precision=stated,
        cells=len(inputs),
        agreeing=None if same is None else int(same.sum()),
        mean_difference=None if difference is None else float(difference.mean()),
        largest_difference=None if difference is None else float(difference.max()),
        recall_change=None if reference is None else _recall_change(labels, reference, outputs.logits),
        times=tuple(
            BatchTimes(
                batch, statistics.median(values), float(np.percentile(values, 95)), None if cpu is None else cpu[batch]
            )
            for batch, values in taken.items()
        ),
        gpu_bytes=max(0, used),
        resident_bytes=resident,
    )


def drawn_inputs(bundle: Manifest, per_class: int) -> tuple[FloatArray, Any]:
    """Draw cells and prepare them as the bundle says: float32[N, S, S, 3], and their classes int64[N]."""
    from edge.imaging import crop, flatfield, locate
    from edge.imaging.preprocess import to_input
    from edge.inference.negotiate import resolve

    render: Callable[..., Any] = resolve(RENDER)
    used = bundle.preprocessing
    preprocessing = used.to_preprocessing()
    inputs, labels = [], []
    for index, label in enumerate(LABELS):
        for number in range(per_class):
            field = flatfield.white_balance(render(label, np.random.default_rng((index, number)), 300))
            cut = crop.cut(field, locate.single_cell(field), used.size, used.margin)
            inputs.append(to_input(cut, preprocessing))
            labels.append(index)
    return np.stack(inputs), np.array(labels)


def _times(run: Callable[[FloatArray], Outputs], batch: FloatArray, rounds: int) -> list[float]:
    """Milliseconds of each of `rounds` runs; the first few, which record graphs and fill caches, are not counted."""
    for _ in range(3):
        run(batch)
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        run(batch)
        taken.append(1000 * (time.perf_counter() - started))
    return taken


def _on_the_cpu(
    bundle: Manifest, folder: Path, inputs: FloatArray, rounds: int
) -> tuple[FloatArray | None, dict[int, float] | None]:
    """Logits and median milliseconds by batch of the float32 network on ONNX Runtime, where it can run."""
    from edge.core.errors import MissingExtraError
    from edge.inference.negotiate import FACTORIES, resolve

    plain = [item for item in bundle.variants if (item.runtime, item.precision) == ("onnxruntime", "float32")]
    if not plain:
        return None, None
    try:
        with resolve(FACTORIES["onnxruntime"])(folder / plain[0].file) as runtime:
            times = {batch: statistics.median(_times(runtime.run, inputs[:batch], rounds)) for batch in BATCHES}
            return runtime.run(inputs).logits, times
    except MissingExtraError:
        return None, None


def _recall_change(labels: Any, reference: FloatArray, logits: FloatArray) -> dict[str, float]:
    """By how much the recall of each class on the drawn cells is higher than the reference's."""
    changes = {}
    for index, label in enumerate(LABELS):
        own = labels == index
        before, after = (float((values[own].argmax(axis=1) == index).mean()) for values in (reference, logits))
        changes[label] = after - before
    return changes

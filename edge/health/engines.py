"""Builds the TensorRT engine of a bundle or of an ONNX file on this device, and proves it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edge.core.errors import BundleError, UsageError

if TYPE_CHECKING:
    from edge.bundle.manifest import Manifest, Variant
    from edge.bundle.verify import GoldenCheck

RUNTIME: Final = "devices.runtimes.tensorrt:TensorRTRuntime"
ENGINES: Final = "devices.runtimes.tensorrt_engine"
CUDA: Final = "devices.runtimes.cuda:Cuda"

DEFAULT_PRECISION: Final = "float16"
"""Half floats cost no accuracy that shows, and every GPU that TensorRT 10 supports is fast in them."""


@dataclass(frozen=True, slots=True)
class Built:
    """An engine that is ready: what it was made of and for, where it is kept, and how it answered.

    `seconds` is what building took, 0 when it was kept already. `golden` is None for a bare ONNX file, which has none.
    """

    network: Path
    engine: Path | None
    key: dict[str, Any]
    device: str
    bytes: int
    seconds: float
    golden: GoldenCheck | None


def build(source: Path, precision: str | None = None, folder: Path | None = None, *, fresh: bool = False) -> Built:
    """Build the engine of a bundle's folder or of an ONNX file, or find it kept, and run it once.

    `precision` is int8, float16 or float32; by default float16 for a bundle, and for a file what it is in: nothing is
    converted here, since TensorRT computes in the types that the file states. `folder` keeps the engine, by default the
    user's cache, where the runtime looks for it. With `fresh` a kept engine is built again.

    Raises UsageError for a precision that the file is not in, BundleError for a bundle without such a variant or whose
    golden vectors do not reproduce, and what `TensorRTRuntime` raises.
    """
    from edge.inference.negotiate import resolve

    bundle, network = find(source, precision)
    engines = resolve(f"{ENGINES}:obtain"), resolve(f"{ENGINES}:load_tensorrt"), resolve(CUDA)
    obtain, load_tensorrt, cuda = engines
    engine = obtain(network, load_tensorrt(), cuda.load(), folder, fresh=fresh)
    golden = None
    with resolve(RUNTIME)(network, 1, folder) as runtime:
        if bundle is not None:
            from edge.bundle import verify

            golden = verify.check_golden(bundle, source, runtime)
        else:
            import numpy as np

            runtime.run(np.zeros((1, *runtime.input_shape), np.float32))
        device = runtime.info.device
    import dataclasses

    return Built(network, engine.file, dataclasses.asdict(engine.key), device, len(engine.plan), engine.seconds, golden)


def find(source: Path, precision: str | None) -> tuple[Manifest | None, Path]:
    """Give the bundle, if it is one, and the ONNX file to build from. Raises what `build` raises for the source."""
    if source.is_dir():
        from edge.bundle import manifest, verify

        bundle = manifest.load(source)
        verify.require_files(bundle, source)
        return bundle, source / _variant(bundle, precision or DEFAULT_PRECISION).file
    if not source.is_file():
        raise UsageError("file-missing", f"There is no {source}.", "Name a bundle's folder or an ONNX file.")
    from edge.inference.negotiate import resolve

    stated = str(resolve("devices.runtimes.onnx_file:precision")(source.read_bytes()))
    if precision not in {None, stated}:
        raise UsageError(
            "another-precision",
            f"{source.name} is in {stated}, and TensorRT computes in what the file states.",
            f"Make one: leuko quantize onnx RUN --precision {SHORT[precision or stated]}",
        )
    return None, source


def _variant(bundle: Manifest, precision: str) -> Variant:
    of_onnx = {variant.precision: variant for variant in bundle.variants if variant.runtime == "onnxruntime"}
    if precision not in of_onnx:
        there = ", ".join(sorted(of_onnx)) or "none at all"
        raise BundleError(
            "no-such-variant",
            f"{bundle.identity} has no ONNX network in {precision} to build an engine from; it has {there}.",
            "Choose another --precision, or pack the bundle with `leuko quantize onnx`.",
        )
    return of_onnx[precision]


SHORT: Final = {"float32": "fp32", "float16": "fp16", "int8": "int8"}
"""Names of the precisions on the command line."""

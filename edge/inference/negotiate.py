"""Which variant of a bundle runs here, on which runtime, and why each other one does not."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from edge.bundle.manifest import Manifest, Variant
from edge.core.errors import RuntimeUnavailableError
from edge.core.protocols import Runtime

FACTORIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "litert": "devices.runtimes.litert:LiteRTRuntime",
        "onnxruntime": "devices.runtimes.onnxruntime:OnnxRuntime",
        "tensorrt": "devices.runtimes.tensorrt:TensorRTRuntime",
    }
)
"""Where each runtime is implemented, as "module:class". TensorRT builds its engine from the file of ONNX Runtime."""

PACKAGES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "litert": ("ai_edge_litert", "tflite_runtime"),
        "onnxruntime": ("onnxruntime",),
        "tensorrt": ("tensorrt",),
    }
)
"""The packages that a runtime needs: one of them."""

PREFERRED: Final = (
    ("litert", "int8"),
    ("tensorrt", "float16"),
    ("tensorrt", "float32"),
    ("onnxruntime", "int8"),
    ("litert", "float32"),
    ("onnxruntime", "float32"),
    ("onnxruntime", "float16"),
)
"""Order of preference: the small integer network first, which is the one that the bundle's figures are of.

A large network has no such variant; on a GPU it runs in half floats, which cost no accuracy, and elsewhere in integers.
The GPU's own integers are for whoever asks for them: they gain little on a network of this size.
"""

GPU_FILES: Final = ("/dev/nvidia0", "/dev/nvhost-gpu", "/dev/nvgpu")
"""Device files of the NVIDIA driver on a workstation, and on a Jetson of JetPack 5 and 6."""

_OLDEST_TENSORRT: Final = 10

Trial = Callable[[str, Path], "str | None"]
"""Tries a runtime ("module:class") on a network's file; returns None when it works, else why it does not."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A variant that is not used, and why; `runtime` is what it would have run on.

    `expected` when this device is none that the runtime is made for: there is nothing to mend.
    """

    variant: Variant
    reason: str
    runtime: str = ""
    expected: bool = False

    def __str__(self) -> str:
        return f"{self.runtime or self.variant.runtime}-{self.variant.precision}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Choice:
    """The variant to use, with the variants that were preferred to it but refused, in the order they were tried."""

    variant: Variant
    factory: str
    refused: tuple[Refusal, ...]

    def open(self, folder: Path, threads: int = 1) -> Runtime:
        """Make the runtime for this variant of the bundle in `folder`; it is loaded when entered."""
        runtime: Runtime = resolve(self.factory)(Path(folder) / self.variant.file, threads)
        return runtime


def every(manifest: Manifest) -> tuple[Choice, ...]:
    """Give every variant of the bundle as a choice, whether it runs here or not; on TensorRT too, where that is."""
    choices = [Choice(variant, FACTORIES[variant.runtime], ()) for variant in manifest.variants]
    if not any(tensorrt_obstacle()):
        of_onnx = (variant for variant in manifest.variants if variant.runtime == "onnxruntime")
        choices += [Choice(variant, FACTORIES["tensorrt"], ()) for variant in of_onnx]
    return tuple(choices)


def resolve(reference: str) -> Any:
    """Import what "module:name" names. Raises ImportError or AttributeError when there is no such thing."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def choose(
    manifest: Manifest,
    folder: Path,
    *,
    preferred: Sequence[tuple[str, str]] = PREFERRED,
    trial: Trial | None = None,
) -> Choice:
    """Choose the first of the `preferred` (runtime, precision) pairs that the bundle has and this device can run.

    Without a `trial` a variant passes when its file is there and its runtime's package is installed. Raises
    RuntimeUnavailableError with the reason for every variant when none is left.
    """
    refused: list[Refusal] = []
    by_kind: dict[tuple[str, str], Variant] = {
        (variant.runtime, variant.precision): variant for variant in manifest.variants
    }
    on_gpu = {
        ("tensorrt", precision): variant
        for (runtime, precision), variant in by_kind.items()
        if runtime == "onnxruntime"
    }
    left = dict(by_kind)
    for kind in preferred:
        left.pop(kind, None)
        variant = by_kind.get(kind) or on_gpu.get(kind)
        if variant is None:
            continue
        runtime, factory = kind[0], FACTORIES[kind[0]]
        reason, expected = _obstacle(runtime, variant, Path(folder))
        if not reason and trial is not None:
            reason = trial(factory, Path(folder) / variant.file) or ""
        if not reason:
            return Choice(variant, factory, tuple(refused))
        refused.append(Refusal(variant, reason, runtime, expected))
    refused += [Refusal(variant, "not among the runtimes that are allowed") for variant in left.values()]
    raise RuntimeUnavailableError(
        "no-runtime",
        f"No variant of {manifest.identity} runs here: {'; '.join(map(str, refused))}.",
        "Install a runtime: pip install ai-edge-litert",
    )


def _obstacle(runtime: str, variant: Variant, folder: Path) -> tuple[str, bool]:
    """Why this runtime cannot run the variant, empty when nothing is in the way, and whether that is to be expected."""
    if not (folder / variant.file).is_file():
        return f"{variant.file} is missing", False
    if runtime == "tensorrt":
        return tensorrt_obstacle()
    packages = PACKAGES[runtime]
    if not any(_installed(package) for package in packages):
        return f"{packages[0].replace('_', '-')} is not installed", False
    return "", False


def tensorrt_obstacle() -> tuple[str, bool]:
    """Why TensorRT cannot run anything here, empty when it may, and whether that is to be expected of this device.

    Nothing is loaded: the driver's device files tell of a GPU, the packages' metadata of their version.
    """
    if not any(Path(path).exists() for path in GPU_FILES):
        return "this device has no NVIDIA GPU", True
    if not _installed("tensorrt"):
        return "tensorrt is not installed", False
    if not _installed("cuda.bindings"):
        return "cuda-python is not installed", False
    try:
        version = importlib.metadata.version("tensorrt")
    except importlib.metadata.PackageNotFoundError:
        return "", False  # installed without metadata: loading it will tell
    if (major := version.partition(".")[0]).isdigit() and int(major) < _OLDEST_TENSORRT:
        return f"tensorrt {version} is older than {_OLDEST_TENSORRT}", False
    return "", False


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ModuleNotFoundError, ValueError):
        # A missing parent package, or one that was put aside.
        return False

"""Which variant of a bundle runs here, on which runtime, and why each other one does not."""

from __future__ import annotations

import importlib
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
    }
)
"""Where each runtime of a manifest is implemented, as "module:class"."""

PACKAGES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"litert": ("ai_edge_litert", "tflite_runtime"), "onnxruntime": ("onnxruntime",)}
)
"""The packages that a runtime needs: one of them."""

PREFERRED: Final = (("litert", "int8"), ("onnxruntime", "int8"), ("litert", "float32"), ("onnxruntime", "float32"))
"""Order of preference: the small integer network first, which is the one that the bundle's figures are of."""

Trial = Callable[[str, Path], "str | None"]
"""Tries a runtime ("module:class") on a network's file; returns None when it works, else why it does not."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A variant that is not used, and why."""

    variant: Variant
    reason: str

    def __str__(self) -> str:
        return f"{self.variant.runtime}-{self.variant.precision}: {self.reason}"


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
    """Give every variant of the bundle as a choice, whether it runs here or not."""
    return tuple(Choice(variant, FACTORIES[variant.runtime], ()) for variant in manifest.variants)


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
    for kind in preferred:
        variant = by_kind.pop(kind, None)
        if variant is None:
            continue
        factory = FACTORIES[variant.runtime]
        reason = _obstacle(variant, Path(folder)) or (trial(factory, Path(folder) / variant.file) if trial else None)
        if reason is None:
            return Choice(variant, factory, tuple(refused))
        refused.append(Refusal(variant, reason))
    refused += [Refusal(variant, "not among the runtimes that are allowed") for variant in by_kind.values()]
    raise RuntimeUnavailableError(
        "no-runtime",
        f"No variant of {manifest.identity} runs here: {'; '.join(map(str, refused))}.",
        "Install a runtime: pip install ai-edge-litert",
    )


def _obstacle(variant: Variant, folder: Path) -> str | None:
    if not (folder / variant.file).is_file():
        return f"{variant.file} is missing"
    packages = PACKAGES[variant.runtime]
    if not any(importlib.util.find_spec(package) for package in packages):
        return f"{packages[0].replace('_', '-')} is not installed"
    return None

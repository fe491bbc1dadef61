"""Runs TFLite networks with LiteRT, or with its predecessor `tflite-runtime` where only that is installed."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.core.errors import BundleError, MissingExtraError
from edge.core.types import FloatArray, Outputs, RuntimeInfo

_PACKAGES = (
    ("ai_edge_litert.interpreter", "litert", "ai-edge-litert"),
    ("tflite_runtime.interpreter", "tflite-runtime", "tflite-runtime"),
)
"""Module of the interpreter, name of the runtime, name of the distribution; the first that imports is used."""


@dataclass(frozen=True, slots=True)
class _Tensor:
    """One input or output of the network: real value = (stored value - zero_point) * scale, unless stored as float."""

    index: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    scale: float
    zero_point: int

    @classmethod
    def of(cls, details: dict[str, Any]) -> _Tensor:
        scale, zero_point = details["quantization"]
        shape = tuple(int(side) for side in details["shape"])
        return cls(int(details["index"]), np.dtype(details["dtype"]), shape, float(scale), int(zero_point))

    def store(self, values: FloatArray) -> npt.NDArray[Any]:
        """Turn float32 into what the tensor stores, saturating at the ends of its range."""
        if self.dtype == np.float32:
            return values
        limits = np.iinfo(self.dtype)
        whole = np.divide(values, np.float32(self.scale), order="C")
        np.rint(whole, out=whole)
        whole += np.float32(self.zero_point)
        np.clip(whole, limits.min, limits.max, out=whole)
        stored: npt.NDArray[Any] = whole.astype(self.dtype)
        return stored

    def real(self, stored: npt.NDArray[Any]) -> FloatArray:
        """Turn what the tensor stores into float32."""
        if self.dtype == np.float32:
            return np.asarray(stored, dtype=np.float32)
        return np.asarray((stored.astype(np.float32) - self.zero_point) * self.scale, dtype=np.float32)


def _find_interpreter() -> tuple[Any, str, str]:
    """Find the interpreter class, the runtime's name and its version. Raises MissingExtraError when there is none."""
    causes = []
    for module, name, distribution in _PACKAGES:
        try:
            interpreter = importlib.import_module(module).Interpreter
        except (ImportError, AttributeError) as error:
            # AttributeError: tflite-runtime on NumPy 2 fails with `_ARRAY_API not found`.
            causes.append(f"{distribution}: {error}")
            continue
        return interpreter, name, importlib.metadata.version(distribution)
    raise MissingExtraError(
        "litert-missing",
        f"No TFLite runtime can be imported ({'; '.join(causes)}).",
        "Install one: pip install ai-edge-litert",
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what the native library writes to standard error while it loads: it has no switch for it."""
    saved = os.dup(2)
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(sink)


class LiteRTRuntime:
    """A TFLite network on the CPU. Callers see float32 only; an int8 network is fed and read by its own scales.

    `path` names the .tflite file, `threads` how many cores one inference may use. Not for use from two threads at once.
    `__enter__` raises MissingExtraError when no TFLite runtime is installed, and BundleError when the file is not a
    network with one image input, logits [1, C] and, optionally, class-activation maps [1, h, w, C].
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        self._path = Path(path)
        self._threads = threads
        self._interpreter: Any = None
        self._info: RuntimeInfo | None = None
        self._input: _Tensor | None = None
        self._logits: _Tensor | None = None
        self._maps: _Tensor | None = None

    @property
    def info(self) -> RuntimeInfo:
        """What runs the network; known once the runtime is entered."""
        if self._info is None:
            raise RuntimeError("the runtime is used outside its `with` block")
        return self._info

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Height, width and channels of one input; known once the runtime is entered."""
        if self._input is None:
            raise RuntimeError("the runtime is used outside its `with` block")
        return self._input.shape[1:]

    def __enter__(self) -> LiteRTRuntime:
        interpreter_class, name, version = _find_interpreter()
        try:
            with _quiet():
                interpreter = interpreter_class(model_path=str(self._path), num_threads=self._threads)
                interpreter.allocate_tensors()
        except (ValueError, RuntimeError, OSError) as error:
            raise self._refused(str(error).strip()) from error
        inputs = [_Tensor.of(details) for details in interpreter.get_input_details()]
        outputs = [_Tensor.of(details) for details in interpreter.get_output_details()]
        logits = [tensor for tensor in outputs if len(tensor.shape) == 2]
        maps = [tensor for tensor in outputs if len(tensor.shape) == 4]
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].shape[0] != 1 or inputs[0].shape[3] != 3:
            raise self._refused(f"its inputs are {[tensor.shape for tensor in inputs]}")
        if len(logits) != 1 or len(maps) > 1 or len(outputs) != len(logits) + len(maps):
            raise self._refused(f"its outputs are {[tensor.shape for tensor in outputs]}")
        for tensor in (*inputs, *outputs):
            if tensor.dtype not in (np.float32, np.int8, np.uint8, np.int16) or (
                tensor.dtype != np.float32 and tensor.scale <= 0
            ):
                raise self._refused(f"it stores {tensor.dtype} with scale {tensor.scale}")
        self._interpreter, self._input, self._logits = interpreter, inputs[0], logits[0]
        self._maps = maps[0] if maps else None
        precision = "float32" if inputs[0].dtype == np.float32 else str(inputs[0].dtype)
        self._info = RuntimeInfo(name=name, version=version, precision=precision, device="cpu", threads=self._threads)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._interpreter = None

    def run(self, batch: npt.NDArray[np.float32]) -> Outputs:
        """Run float32[N, H, W, 3], N >= 0. Raises ValueError when the batch has another shape.

        The network runs once a picture. Resizing its input to N was measured to save nothing below four pictures and
        7 % at thirty-two, and holds N times the memory.
        """
        if self._interpreter is None or self._input is None or self._logits is None:
            raise RuntimeError("the runtime is used outside its `with` block")
        if batch.ndim != 4 or batch.shape[1:] != self._input.shape[1:]:
            raise ValueError(f"the batch is {batch.shape}, the network takes {self._input.shape}")
        logits = np.empty((len(batch), *self._logits.shape[1:]), self._logits.dtype)
        maps = np.empty((len(batch), *self._maps.shape[1:]), self._maps.dtype) if self._maps else None
        for number in range(len(batch)):
            picture = np.asarray(batch[number : number + 1], dtype=np.float32)
            self._interpreter.set_tensor(self._input.index, self._input.store(picture))
            self._interpreter.invoke()
            logits[number] = self._interpreter.get_tensor(self._logits.index)[0]
            if maps is not None and self._maps is not None:
                maps[number] = self._interpreter.get_tensor(self._maps.index)[0]
        features = self._maps.real(maps) if self._maps is not None and maps is not None else None
        return Outputs(logits=self._logits.real(logits), features=features)

    def _refused(self, reason: str) -> BundleError:
        return BundleError(
            "model-unreadable",
            f"{self._path.name} is not a network that LiteRT can run here: {reason}.",
            "Run `leuko model verify`, or install the bundle again.",
        )

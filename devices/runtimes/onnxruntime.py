"""Runs ONNX networks with ONNX Runtime."""

from __future__ import annotations

import platform
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from devices.runtimes import onnx_file
from edge.core.errors import BundleError, MissingExtraError
from edge.core.types import Outputs, RuntimeInfo

_ERRORS_ONLY = 3
_MAX_BATCH = 32

_FLAGS_OF_EXACT_INTEGERS = frozenset({"avx_vnni", "avx512_vnni"})


def open_session(content: bytes, threads: int = 1) -> Any:
    """Open a network in ONNX Runtime on the CPU, so that its integers are computed as the file says.

    Where the processor cannot do that exactly, Q/DQ nodes are computed one by one, in floats: slowly, and rightly.
    Raises what onnxruntime raises.
    """
    import onnxruntime

    onnxruntime.set_default_logger_severity(_ERRORS_ONLY)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    if onnx_file.precision(content) == "int8" and not _integers_are_exact():
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


@lru_cache
def _integers_are_exact() -> bool:
    """Whether ONNX Runtime's integer kernels are exact on this processor.

    x86-64 before VNNI adds pairs of 8-bit products in 16 bits that saturate. With weights of full range, as TensorRT
    wants them, the sums overflow unseen: of 300 cells a full model then called 111 otherwise.
    """
    if platform.machine().lower() not in {"x86_64", "amd64"}:
        return True
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return any(not _FLAGS_OF_EXACT_INTEGERS.isdisjoint(line.split()) for line in text.splitlines() if "flags" in line)


class OnnxRuntime:
    """An ONNX network on the CPU, fed and read in float32; quantized networks carry their own Q/DQ nodes.

    `path` names the .onnx file, `threads` how many cores one inference may use. `__enter__` raises MissingExtraError
    when onnxruntime is not installed, and BundleError when the file is not a network with one float32 image input
    [N, H, W, 3], logits [N, C] and, optionally, class-activation maps [N, h, w, C].
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        self._path = Path(path)
        self._threads = threads
        self._session: Any = None
        self._info: RuntimeInfo | None = None
        self._input = ""
        self._shape: tuple[Any, ...] = ()
        self._logits = 0
        self._maps: int | None = None

    @property
    def info(self) -> RuntimeInfo:
        """What runs the network; known once the runtime is entered."""
        if self._info is None:
            raise RuntimeError("the runtime is used outside its `with` block")
        return self._info

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Height, width and channels of one input; known once the runtime is entered."""
        if self._session is None:
            raise RuntimeError("the runtime is used outside its `with` block")
        return tuple(self._shape[1:])

    def __enter__(self) -> OnnxRuntime:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtraError(
                "onnxruntime-missing",
                f"ONNX Runtime cannot be imported ({error}).",
                "Install it: pip install 'leukoscope[jetson]'",
            ) from error
        # onnxruntime derives each of its exceptions from Exception alone, so they are listed by name.
        from onnxruntime.capi import onnxruntime_pybind11_state as native

        kinds = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented")
        failures = tuple(getattr(native, kind) for kind in (*kinds, "RuntimeException"))
        try:
            content = self._path.read_bytes()
        except OSError as error:
            raise self._refused(error.strerror or str(error)) from error
        try:
            session = open_session(content, self._threads)
        except (*failures, ValueError, RuntimeError) as error:
            raise self._refused(str(error).strip()) from error
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 4:
            raise self._refused(f"its inputs are {[(value.type, value.shape) for value in inputs]}")
        sides = tuple(inputs[0].shape[1:])
        if not all(isinstance(side, int) for side in sides) or sides[2] != 3:
            raise self._refused(f"its input is {inputs[0].shape}")
        ranks = [len(value.shape) for value in outputs]
        if ranks.count(2) != 1 or ranks.count(4) > 1 or len(ranks) != ranks.count(2) + ranks.count(4):
            raise self._refused(f"its outputs are {[value.shape for value in outputs]}")
        self._session, self._input, self._shape = session, inputs[0].name, tuple(inputs[0].shape)
        self._logits, self._maps = ranks.index(2), ranks.index(4) if 4 in ranks else None
        precision = onnx_file.precision(content)
        self._info = RuntimeInfo("onnxruntime", onnxruntime.__version__, precision, "cpu", self._threads)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session = None

    def run(self, batch: npt.NDArray[np.float32]) -> Outputs:
        """Run float32[N, H, W, 3], N >= 0, in parts that bound the memory. Raises ValueError for another shape."""
        if self._session is None:
            raise RuntimeError("the runtime is used outside its `with` block")
        if batch.ndim != 4 or batch.shape[1:] != self._shape[1:]:
            raise ValueError(f"the batch is {batch.shape}, the network takes {self._shape}")
        step = 1 if self._shape[0] == 1 else _MAX_BATCH
        values = np.ascontiguousarray(batch, dtype=np.float32)
        # An empty batch still runs once, on a blank picture, so that the outputs have their shapes.
        blank = values if len(values) else np.zeros((1, *values.shape[1:]), np.float32)
        parts = [
            self._session.run(None, {self._input: blank[start : start + step]}) for start in range(0, len(blank), step)
        ]
        logits = np.concatenate([part[self._logits] for part in parts])[: len(values)]
        features = None if self._maps is None else np.concatenate([part[self._maps] for part in parts])[: len(values)]
        return Outputs(logits=logits, features=features)

    def _refused(self, reason: str) -> BundleError:
        return BundleError(
            "model-unreadable",
            f"{self._path.name} is not a network that ONNX Runtime can run here: {reason}.",
            "Run `leuko model verify`, or install the bundle again.",
        )

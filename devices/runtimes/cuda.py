"""The few calls of the CUDA runtime that inference needs, through NVIDIA's own `cuda-python`."""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge.core.errors import MissingExtraError, RuntimeUnavailableError
from edge.core.types import FloatArray

_DEVICE = 0


@dataclass(frozen=True, slots=True)
class Gpu:
    """The graphics processor: its name, compute capability, and memory in bytes (on a Jetson shared with the CPU)."""

    name: str
    capability: tuple[int, int]
    memory: int

    @property
    def has_int8(self) -> bool:
        """Whether it multiplies 8-bit integers: from compute capability 6.1, but neither 6.2 (TX2) nor 5.3 (Nano)."""
        return self.capability >= (6, 1) and self.capability != (6, 2)

    @property
    def compute_capability(self) -> str:
        """As NVIDIA writes it, for example 8.7."""
        return f"{self.capability[0]}.{self.capability[1]}"


class Cuda:
    """The CUDA runtime on the first GPU. Every failure is a RuntimeUnavailableError with the vendor's words."""

    def __init__(self, api: Any) -> None:
        self._api = api

    @classmethod
    def load(cls) -> Cuda:
        """Import the bindings and choose the GPU.

        Raises MissingExtraError when `cuda-python` is not installed, RuntimeUnavailableError without driver or GPU.
        """
        try:
            api = importlib.import_module("cuda.bindings.runtime")
        except ImportError as error:
            raise MissingExtraError(
                "cuda-python-missing",
                f"The CUDA bindings cannot be imported ({error}).",
                "Install them: pip install 'leukoscope[tensorrt]'",
            ) from error
        cuda = cls(api)
        if cuda._call(api.cudaGetDeviceCount) < 1:
            raise RuntimeUnavailableError("no-gpu", "CUDA finds no GPU.", _NO_GPU)
        cuda._call(api.cudaSetDevice, _DEVICE)
        return cuda

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call the vendor's function; returns its one result, or all, without the status."""
        try:
            status, *results = function(*arguments)
        except RuntimeError as error:
            # So the bindings say that there is no driver: `Failed to dlopen libcuda.so.1`.
            raise RuntimeUnavailableError("no-gpu", f"CUDA cannot be used here: {error}.", _NO_GPU) from error
        if int(status) != 0:
            name = getattr(function, "__name__", "a call")
            raise RuntimeUnavailableError("cuda-failed", f"{name} failed: {self._words(status)}.", _NO_GPU)
        return results[0] if len(results) == 1 else tuple(results)

    def _words(self, status: Any) -> str:
        _, text = self._api.cudaGetErrorString(status)
        return text.decode() if isinstance(text, bytes) else str(text)

    @property
    def version(self) -> str:
        """Version of the CUDA runtime, for example 12.6."""
        number = int(self._call(self._api.cudaRuntimeGetVersion))
        return f"{number // 1000}.{number % 1000 // 10}"

    def gpu(self) -> Gpu:
        """Describe the GPU in use."""
        attribute = self._api.cudaDeviceAttr
        major, minor = (
            int(self._call(self._api.cudaDeviceGetAttribute, which, _DEVICE))
            for which in (attribute.cudaDevAttrComputeCapabilityMajor, attribute.cudaDevAttrComputeCapabilityMinor)
        )
        name = self._call(self._api.cudaGetDeviceProperties, _DEVICE).name
        text = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
        return Gpu(text.rstrip("\0 ") or "NVIDIA GPU", (major, minor), self.memory()[1])

    def memory(self) -> tuple[int, int]:
        """Bytes of the GPU's memory: free, and in all."""
        free, total = self._call(self._api.cudaMemGetInfo)
        return int(free), int(total)

    def stream(self) -> Stream:
        """Make a stream of its own, which the default stream does not hold up."""
        return Stream(self, self._call(self._api.cudaStreamCreateWithFlags, self._api.cudaStreamNonBlocking))

    def buffer(self, shape: tuple[int, ...]) -> Buffer:
        """Make a float32 buffer of this shape on the GPU, with its pinned counterpart on the host."""
        size = int(np.prod(shape)) * np.dtype(np.float32).itemsize
        host = int(self._call(self._api.cudaHostAlloc, size, self._api.cudaHostAllocDefault))
        try:
            device = int(self._call(self._api.cudaMalloc, size))
        except RuntimeUnavailableError:
            self._call(self._api.cudaFreeHost, host)
            raise
        # Page-locked memory: only from there a copy runs beside the CPU.
        view = np.frombuffer(memoryview((ctypes.c_char * size).from_address(host)), np.float32).reshape(shape)
        return Buffer(self, view, host, device)


@dataclass(slots=True)
class Buffer:
    """`array` float32 in pinned host memory, and as many bytes on the GPU at the address `device`."""

    _cuda: Cuda
    array: FloatArray
    _host: int
    device: int

    def upload(self, rows: int, stream: Stream) -> None:
        """Queue the copy of the first rows to the GPU."""
        self._copy(rows, stream, to_device=True)

    def download(self, rows: int, stream: Stream) -> None:
        """Queue the copy of the first rows to the host."""
        self._copy(rows, stream, to_device=False)

    def _copy(self, rows: int, stream: Stream, *, to_device: bool) -> None:
        api = self._cuda._api
        kinds = api.cudaMemcpyKind
        kind = kinds.cudaMemcpyHostToDevice if to_device else kinds.cudaMemcpyDeviceToHost
        target, source = (self.device, self._host) if to_device else (self._host, self.device)
        self._cuda._call(api.cudaMemcpyAsync, target, source, self.array[:rows].nbytes, kind, stream.handle)

    def free(self) -> None:
        """Give both memories back; the array must not be used afterwards."""
        self._cuda._call(self._cuda._api.cudaFree, self.device)
        self._cuda._call(self._cuda._api.cudaFreeHost, self._host)


class Stream:
    """A queue of work on the GPU."""

    def __init__(self, cuda: Cuda, handle: Any) -> None:
        self._cuda = cuda
        self.handle = handle

    def wait(self) -> None:
        """Wait until all that was queued is done."""
        self._cuda._call(self._cuda._api.cudaStreamSynchronize, self.handle)

    @contextmanager
    def capture(self) -> Iterator[list[Graph]]:
        """Record what is queued inside the block instead of running it; the list then holds the graph.

        When something in it cannot be recorded the list stays empty, and the stream is as before.
        """
        api, found = self._cuda._api, list[Graph]()
        self._cuda._call(
            api.cudaStreamBeginCapture, self.handle, api.cudaStreamCaptureMode.cudaStreamCaptureModeRelaxed
        )
        try:
            yield found
        finally:
            status, recorded = api.cudaStreamEndCapture(self.handle)
            if int(status) == 0:
                status, runnable = api.cudaGraphInstantiate(recorded, 0)
                api.cudaGraphDestroy(recorded)
                if int(status) == 0:
                    found.append(Graph(self._cuda, runnable))

    def free(self) -> None:
        """Give the stream back."""
        self._cuda._call(self._cuda._api.cudaStreamDestroy, self.handle)


class Graph:
    """Recorded work, launched as a whole."""

    def __init__(self, cuda: Cuda, runnable: Any) -> None:
        self._cuda = cuda
        self._runnable = runnable

    def launch(self, stream: Stream) -> None:
        """Queue all of it."""
        self._cuda._call(self._cuda._api.cudaGraphLaunch, self._runnable, stream.handle)

    def free(self) -> None:
        """Give the graph back."""
        self._cuda._call(self._cuda._api.cudaGraphExecDestroy, self._runnable)


_NO_GPU = "Check the driver with nvidia-smi (on a Jetson: tegrastats), or use another runtime of the bundle."

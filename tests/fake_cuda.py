"""The memory, streams and graphs of a made-up GPU: the part of NVIDIA's cuda-python that the product calls.

Its memory is another one than the host's, and copies take known addresses of the right kind only. What is queued on a
stream is done when someone waits for it, not before: a result that is read too early is old.
"""

from __future__ import annotations

import ctypes
import enum
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


class Status(enum.IntEnum):
    SUCCESS = 0
    INVALID = 1
    NO_MEMORY = 2
    NOT_RECORDED = 901


@dataclass
class Gpu:
    """What a test may set, and what it may look at afterwards."""

    capability: tuple[int, int] = (8, 7)
    cuda: int = 12060
    tensorrt: str = "10.3.0"
    count: int = 1
    driver: bool = True
    records: bool = True
    memory: int = 1 << 30
    builds: int = 0
    graph_launches: int = 0
    unloadable: set[bytes] = field(default_factory=set)
    timings_taken: list[bytes] = field(default_factory=list)
    host: dict[int, Any] = field(default_factory=dict)
    device: dict[int, Any] = field(default_factory=dict)
    streams: dict[int, list[Callable[[], None]]] = field(default_factory=dict)
    recording: dict[int, list[Callable[[], None]]] = field(default_factory=dict)
    graphs: dict[int, list[Callable[[], None]]] = field(default_factory=dict)
    engines: int = 0

    @property
    def nothing_held(self) -> bool:
        return not (self.host or self.device or self.streams or self.graphs)

    def allocate(self, where: dict[int, Any], size: int) -> tuple[Status, int]:
        if size > self.memory:
            return Status.NO_MEMORY, 0
        # Filled with a pattern: what is read before it was written shows.
        buffer = (ctypes.c_char * size).from_buffer(bytearray(b"\x7f" * size))
        where[ctypes.addressof(buffer)] = buffer
        return Status.SUCCESS, ctypes.addressof(buffer)

    def free(self, where: dict[int, Any], address: int) -> tuple[Status]:
        return (Status.SUCCESS if where.pop(address, None) is not None else Status.INVALID,)

    def queue(self, stream: int, work: Callable[[], None]) -> None:
        self.recording.get(stream, self.streams[stream]).append(work)


def module(gpu: Gpu) -> types.ModuleType:
    made = types.ModuleType("cuda.bindings.runtime")
    numbers = iter(range(1000, 100_000))

    class cudaMemcpyKind(enum.IntEnum):
        cudaMemcpyHostToDevice = 1
        cudaMemcpyDeviceToHost = 2

    class cudaDeviceAttr(enum.IntEnum):
        cudaDevAttrComputeCapabilityMajor = 75
        cudaDevAttrComputeCapabilityMinor = 76

    class cudaStreamCaptureMode(enum.IntEnum):
        cudaStreamCaptureModeRelaxed = 2

    def cudaGetDeviceCount() -> Any:
        if not gpu.driver:
            raise RuntimeError("Failed to dlopen libcuda.so.1")
        return Status.SUCCESS, gpu.count

    def cudaStreamCreateWithFlags(flags: int) -> Any:
        number = next(numbers)
        gpu.streams[number] = []
        return Status.SUCCESS, number

    def cudaStreamDestroy(stream: int) -> Any:
        return (Status.SUCCESS if gpu.streams.pop(stream, None) is not None else Status.INVALID,)

    def cudaStreamSynchronize(stream: int) -> Any:
        waiting, gpu.streams[stream] = gpu.streams[stream], []
        for work in waiting:
            work()
        return (Status.SUCCESS,)

    def cudaMemcpyAsync(target: int, source: int, count: int, kind: int, stream: int) -> Any:
        to_device = kind == cudaMemcpyKind.cudaMemcpyHostToDevice
        into, out_of = (gpu.device, gpu.host) if to_device else (gpu.host, gpu.device)
        if target not in into or source not in out_of or count > min(len(into[target]), len(out_of[source])):
            return (Status.INVALID,)
        gpu.queue(stream, lambda: ctypes.memmove(target, source, count))
        return (Status.SUCCESS,)

    def cudaStreamBeginCapture(stream: int, mode: int) -> Any:
        if gpu.streams[stream]:
            return (Status.INVALID,)
        gpu.recording[stream] = []
        return (Status.SUCCESS,)

    def cudaStreamEndCapture(stream: int) -> Any:
        recorded = gpu.recording.pop(stream)
        return (Status.SUCCESS, recorded) if gpu.records else (Status.NOT_RECORDED, None)

    def cudaGraphInstantiate(recorded: Any, flags: int) -> Any:
        number = next(numbers)
        gpu.graphs[number] = recorded
        return Status.SUCCESS, number

    def cudaGraphLaunch(graph: int, stream: int) -> Any:
        gpu.graph_launches += 1
        gpu.streams[stream].extend(gpu.graphs[graph])
        return (Status.SUCCESS,)

    def cudaDeviceGetAttribute(which: int, device: int) -> Any:
        return Status.SUCCESS, gpu.capability[which - 75]

    contents = {
        "cudaMemcpyKind": cudaMemcpyKind,
        "cudaDeviceAttr": cudaDeviceAttr,
        "cudaStreamCaptureMode": cudaStreamCaptureMode,
        "cudaHostAllocDefault": 0,
        "cudaStreamNonBlocking": 1,
        "cudaGetErrorString": lambda status: (Status.SUCCESS, f"error {int(status)}".encode()),
        "cudaSetDevice": lambda device: (Status.SUCCESS,),
        "cudaRuntimeGetVersion": lambda: (Status.SUCCESS, gpu.cuda),
        "cudaMemGetInfo": lambda: (Status.SUCCESS, gpu.memory // 2, gpu.memory),
        "cudaGetDeviceProperties": lambda device: (Status.SUCCESS, types.SimpleNamespace(name=b"Orin (made up)")),
        "cudaHostAlloc": lambda size, flags: gpu.allocate(gpu.host, size),
        "cudaFreeHost": lambda address: gpu.free(gpu.host, address),
        "cudaMalloc": lambda size: gpu.allocate(gpu.device, size),
        "cudaFree": lambda address: gpu.free(gpu.device, address),
        "cudaGraphDestroy": lambda recorded: (Status.SUCCESS,),
        "cudaGraphExecDestroy": lambda graph: (
            Status.SUCCESS if gpu.graphs.pop(graph, None) is not None else Status.INVALID,
        ),
    }
    for function in (
        *(cudaGetDeviceCount, cudaStreamCreateWithFlags, cudaStreamDestroy, cudaStreamSynchronize, cudaMemcpyAsync),
        *(cudaStreamBeginCapture, cudaStreamEndCapture, cudaGraphInstantiate, cudaGraphLaunch, cudaDeviceGetAttribute),
    ):
        contents[function.__name__] = function
    made.__dict__.update(contents)
    return made

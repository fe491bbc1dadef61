"""NVIDIA's two modules as far as the product calls them, computing with ONNX Runtime: there is no GPU in a test.

Names and arguments are those of TensorRT 10 and 11 and of cuda-python 12 and 13; `fake_cuda` is the GPU itself.
"""

from __future__ import annotations

import ctypes
import enum
import json
import sys
import types
from typing import Any

import fake_cuda
import numpy as np
import pytest
from fake_cuda import Gpu

__all__ = ["Gpu", "install"]


class _Severity(enum.IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class _ILogger:
    Severity = _Severity

    def __init__(self) -> None:
        self.ready = True

    def log(self, severity: _Severity, message: str) -> None:
        raise NotImplementedError


class _DataType(enum.IntEnum):
    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3


class _LayerType(enum.IntEnum):
    OTHER = 0
    QUANTIZE = 40


class _Mode(enum.IntEnum):
    INPUT = 1
    OUTPUT = 2


_BY_ONNX = {1: _DataType.FLOAT, 10: _DataType.HALF, 3: _DataType.INT8, 6: _DataType.INT32, 7: _DataType.INT32}


class _Network:
    """What the parser has read."""

    def __init__(self) -> None:
        self.content = b""
        self.inputs: list[Any] = []
        self.layers: list[Any] = []

    num_inputs = property(lambda self: len(self.inputs))
    num_layers = property(lambda self: len(self.layers))

    def get_input(self, number: int) -> Any:
        return self.inputs[number]

    def get_layer(self, number: int) -> Any:
        return self.layers[number]

    def read(self, content: bytes) -> None:
        import onnx

        model = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(content))
        if not model.graph.node:
            raise ValueError("the graph is empty")
        kinds = {item.name: item.type.tensor_type.elem_type for item in (*model.graph.value_info, *model.graph.output)}

        def layer(node: Any) -> Any:
            outputs = [types.SimpleNamespace(dtype=_BY_ONNX.get(kinds.get(name, 1))) for name in node.output]
            kind = _LayerType.QUANTIZE if node.op_type == "QuantizeLinear" else _LayerType.OTHER
            return types.SimpleNamespace(type=kind, num_outputs=len(outputs), get_output=outputs.__getitem__)

        for item in model.graph.input:
            shape = [side.dim_value if side.HasField("dim_value") else -1 for side in item.type.tensor_type.shape.dim]
            self.inputs.append(types.SimpleNamespace(name=item.name, shape=shape))
        self.layers = [layer(node) for node in model.graph.node]
        self.content = content


class _Parser:
    def __init__(self, network: _Network, logger: _ILogger) -> None:
        self._network, self._logger, self._errors = network, logger, list[str]()

    num_errors = property(lambda self: len(self._errors))

    def parse(self, content: bytes) -> bool:
        try:
            self._network.read(content)
        except Exception as error:  # noqa: BLE001  # whatever the reader says is the parser's fault
            self._errors.append(f"ModelImporter: {error}")
            self._logger.log(_Severity.ERROR, self._errors[-1])
            return False
        return True

    def get_error(self, number: int) -> Any:
        return types.SimpleNamespace(desc=lambda: self._errors[number])


class _Context:
    def __init__(self, gpu: Gpu, engine: _Engine) -> None:
        self._gpu, self._engine = gpu, engine
        self._rows, self._addresses = 0, dict[str, int]()

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self._engine.profile
        self._rows = shape[0]
        return name == self._engine.image and all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return address in self._gpu.device

    def execute_async_v3(self, stream: int) -> bool:
        rows, engine, addresses = self._rows, self._engine, dict(self._addresses)
        if set(addresses) != set(engine.names):
            return False
        shape = (rows, *engine.shapes[engine.image][1:])

        def work() -> None:
            source = (ctypes.c_float * int(np.prod(shape))).from_address(addresses[engine.image])
            values = np.ctypeslib.as_array(source).reshape(shape).copy()
            leaving = [name for name in engine.names if name != engine.image]
            for name, result in zip(leaving, engine.session.run(leaving, {engine.image: values}), strict=True):
                ctypes.memmove(addresses[name], np.ascontiguousarray(result).ctypes.data, result.nbytes)

        self._gpu.queue(stream, work)
        return True


class _Engine:
    def __init__(self, gpu: Gpu, plan: dict[str, Any], content: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self._gpu, self.profile = gpu, plan["profile"]
        self.image = plan["image"]
        ends = {item.name: item for item in (*self.session.get_inputs(), *self.session.get_outputs())}
        self.names = list(ends)
        self.shapes = {name: [s if isinstance(s, int) else -1 for s in item.shape] for name, item in ends.items()}
        self._kinds = {name: item.type for name, item in ends.items()}

    num_io_tensors = property(lambda self: len(self.names))

    def get_tensor_name(self, number: int) -> str:
        return self.names[number]

    def get_tensor_shape(self, name: str) -> list[int]:
        return self.shapes[name]

    def get_tensor_dtype(self, name: str) -> _DataType:
        return _DataType.FLOAT if self._kinds[name] == "tensor(float)" else _DataType.HALF

    def get_tensor_mode(self, name: str) -> _Mode:
        return _Mode.INPUT if name == self.image else _Mode.OUTPUT

    def create_execution_context(self) -> _Context:
        return _Context(self._gpu, self)


class _Timings:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return b"timings" + self.content[7:]


class _Configuration:
    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self.profile: Any = None
        self._timings: _Timings | None = None

    def set_memory_pool_limit(self, pool: int, size: int) -> None:
        assert 0 < size <= self._gpu.memory

    def add_optimization_profile(self, profile: Any) -> int:
        self.profile = profile
        return 0

    def create_timing_cache(self, content: bytes) -> _Timings:
        return _Timings(content)

    def set_timing_cache(self, cache: _Timings, ignore_mismatch: bool) -> bool:
        assert ignore_mismatch is False
        if cache.content and not cache.content.startswith(b"timings"):
            return False
        self._gpu.timings_taken.append(cache.content)
        self._timings = cache
        return True

    def get_timing_cache(self) -> _Timings | None:
        return self._timings


def _tensorrt(gpu: Gpu) -> types.ModuleType:
    module = types.ModuleType("tensorrt")
    typed_by_flag = gpu.tensorrt.startswith("10.")

    class NetworkDefinitionCreationFlag(enum.IntEnum):
        STRONGLY_TYPED = 1

    class MemoryPoolType(enum.IntEnum):
        WORKSPACE = 0

    class Builder:
        def __init__(self, logger: _ILogger) -> None:
            # The real one refuses a logger whose own constructor was not called.
            assert isinstance(logger, _ILogger) and logger.ready
            self._logger = logger

        def create_network(self, flags: int = 0) -> _Network:
            assert flags == (1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED if typed_by_flag else 0)
            return _Network()

        def create_builder_config(self) -> _Configuration:
            return _Configuration(gpu)

        def create_optimization_profile(self) -> Any:
            profile = types.SimpleNamespace(shapes={})
            profile.set_shape = lambda name, low, best, high: profile.shapes.update({name: (low, best, high)})
            return profile

        def build_serialized_network(self, network: _Network, config: _Configuration) -> bytes | None:
            gpu.builds += 1
            image = network.get_input(0)
            low, best, high = config.profile.shapes[image.name]
            fits = all(
                given in (-1, a) and a <= b <= c for given, a, b, c in zip(image.shape, low, best, high, strict=True)
            )
            if not fits:
                self._logger.log(_Severity.ERROR, "the optimization profile does not fit")
                return None
            head = {"image": image.name, "profile": [low, best, high], "for": [gpu.tensorrt, gpu.cuda, gpu.capability]}
            return json.dumps(head).encode() + b"\n" + network.content

    class Runtime:
        def __init__(self, logger: _ILogger) -> None:
            self._logger = logger

        def deserialize_cuda_engine(self, plan: bytes) -> _Engine | None:
            head, _, content = plan.partition(b"\n")
            if plan in gpu.unloadable or json.loads(head)["for"] != [gpu.tensorrt, gpu.cuda, [*gpu.capability]]:
                self._logger.log(_Severity.ERROR, "the engine plan file is not compatible")
                return None
            return _Engine(gpu, json.loads(head), content)

    module.__dict__.update(
        __version__=gpu.tensorrt,
        ILogger=_ILogger,
        DataType=_DataType,
        LayerType=_LayerType,
        TensorIOMode=_Mode,
        MemoryPoolType=MemoryPoolType,
        Builder=Builder,
        OnnxParser=_Parser,
        Runtime=Runtime,
    )
    if typed_by_flag:
        module.__dict__["NetworkDefinitionCreationFlag"] = NetworkDefinitionCreationFlag
    return module


def install(monkeypatch: pytest.MonkeyPatch, gpu: Gpu) -> Gpu:
    """Put both modules where the product imports them from; again after a change of the version."""
    monkeypatch.setitem(sys.modules, "tensorrt", _tensorrt(gpu))
    package, bindings, runtime = types.ModuleType("cuda"), types.ModuleType("cuda.bindings"), fake_cuda.module(gpu)
    package.__dict__["bindings"], bindings.__dict__["runtime"] = bindings, runtime
    monkeypatch.setitem(sys.modules, "cuda", package)
    monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", runtime)
    return gpu

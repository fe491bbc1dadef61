"""Runs ONNX networks with TensorRT on an NVIDIA GPU: the engine is built here, once, from the bundle's own file."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from devices.runtimes import tensorrt_engine as engines
from devices.runtimes.cuda import Buffer, Cuda, Graph, Stream
from edge.core.errors import BundleError, RuntimeUnavailableError
from edge.core.types import Outputs, RuntimeInfo

_LOG = logging.getLogger(__name__)

_LARGEST = engines.BATCHES[-1]
_GRAPHED = frozenset({1, _LARGEST})
"""Batches whose work is recorded as one CUDA graph: a single cell, and the full batches of a long run.

The network is small, so that at these sizes starting its kernels one by one takes longer than they do. Other sizes are
the rest of a run, and rare.
"""


@dataclass(frozen=True, slots=True)
class _Ends:
    """Names and shapes (without the batch) of what goes in and comes out."""

    image: tuple[str, tuple[int, ...]]
    logits: tuple[str, tuple[int, ...]]
    maps: tuple[str, tuple[int, ...]] | None


class TensorRTRuntime:
    """An ONNX network on the first NVIDIA GPU; callers see float32 only.

    `path` names the .onnx file; `threads` is taken for the sake of the other runtimes and has no meaning here. `cache`
    is the folder of kept engines (default: the user's cache). Entering it builds the engine when none is kept, which
    takes minutes. It raises MissingExtraError when TensorRT or cuda-python is not installed, RuntimeUnavailableError
    without a fit GPU, and BundleError when the file is no network with one image input [N, H, W, 3], logits [N, C]
    and, optionally, class-activation maps [N, h, w, C].
    """

    def __init__(self, path: Path, threads: int = 1, cache: Path | None = None) -> None:
        self._path = Path(path)
        self._cache = cache
        self._held = ExitStack()
        self._info: RuntimeInfo | None = None
        self._cuda: Cuda | None = None
        self._engine: Any = None
        self._ends: _Ends | None = None
        self._buffers: dict[str, Buffer] = {}
        self._stream: Stream | None = None
        self._context: Any = None
        self._graphs: dict[int, tuple[Any, Graph | None]] = {}

    @property
    def info(self) -> RuntimeInfo:
        """What runs the network; known once the runtime is entered."""
        if self._info is None:
            raise RuntimeError("the runtime is used outside its `with` block")
        return self._info

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Height, width and channels of one input; known once the runtime is entered."""
        if self._ends is None:
            raise RuntimeError("the runtime is used outside its `with` block")
        return self._ends.image[1]

    def __enter__(self) -> TensorRTRuntime:
        engines.read_network(self._path)  # a missing file is said before missing packages
        tensorrt = engines.load_tensorrt()
        cuda = Cuda.load()
        journal = engines.Journal(tensorrt)
        loader = tensorrt.Runtime(journal.receiver)
        kept = engines.obtain(self._path, tensorrt, cuda, self._cache)
        engine = loader.deserialize_cuda_engine(kept.plan)
        if engine is None and not kept.seconds:
            # Whole, and of this key, and yet not to be loaded: the driver changed, for example.
            _LOG.warning("the kept engine does not load (%s); it is built again", journal.last("no reason given"))
            kept = engines.obtain(self._path, tensorrt, cuda, self._cache, fresh=True)
            engine = loader.deserialize_cuda_engine(kept.plan)
        if engine is None:
            raise RuntimeUnavailableError(
                "engine-unloadable",
                f"TensorRT does not load the engine it has built: {journal.last('no reason given')}.",
                "Use the bundle's onnxruntime variant, and check that TensorRT and the driver belong together.",
            )
        ends = self._read_ends(engine, tensorrt)
        with ExitStack() as held:
            # Released in the opposite order: what was made last goes first, and the loader outlives its engine.
            held.callback(lambda *_: None, loader, journal)
            stream = cuda.stream()
            held.callback(stream.free)
            for name, shape in filter(None, (ends.image, ends.logits, ends.maps)):
                buffer = cuda.buffer((_LARGEST, *shape))
                held.callback(buffer.free)
                self._buffers[name] = buffer
            held.callback(self._forget)
            self._cuda, self._engine, self._ends, self._stream = cuda, engine, ends, stream
            self._context = self._new_context()
            self._held = held.pop_all()
        precision, gpu = kept.key.precision, cuda.gpu()
        self._info = RuntimeInfo("tensorrt", str(tensorrt.__version__), precision, gpu.name, 1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    def run(self, batch: npt.NDArray[np.float32]) -> Outputs:
        """Run float32[N, H, W, 3], N >= 0, in parts of the largest batch. Raises ValueError for another shape."""
        if self._ends is None:
            raise RuntimeError("the runtime is used outside its `with` block")
        if batch.ndim != 4 or batch.shape[1:] != self._ends.image[1]:
            raise ValueError(f"the batch is {batch.shape}, the network takes (N, {self._ends.image[1]})")
        logits = np.empty((len(batch), *self._ends.logits[1]), np.float32)
        maps = None if self._ends.maps is None else np.empty((len(batch), *self._ends.maps[1]), np.float32)
        for start in range(0, len(batch), _LARGEST):
            part = batch[start : start + _LARGEST]
            self._buffers[self._ends.image[0]].array[: len(part)] = part
            self._launch(self._ends, len(part))
            rows = slice(start, start + len(part))
            logits[rows] = self._buffers[self._ends.logits[0]].array[: len(part)]
            if maps is not None and self._ends.maps is not None:
                maps[rows] = self._buffers[self._ends.maps[0]].array[: len(part)]
        return Outputs(logits=logits, features=maps)

    def _launch(self, ends: _Ends, rows: int) -> None:
        """Copy in, compute, copy out, and wait."""
        stream = self._open_stream()
        context, graph = self._graphs.get(rows, (None, None))
        if graph is not None:
            graph.launch(stream)
        elif rows in _GRAPHED and context is None:
            self._record(ends, rows)
        else:
            self._queue(context or self._context, ends, rows)
        stream.wait()

    def _record(self, ends: _Ends, rows: int) -> None:
        """Run once in the ordinary way, as TensorRT asks before a recording, then record the same for the next time.

        The recording has a context of its own: it holds for the shapes that the context had. What cannot be recorded
        is run in the ordinary way for good.
        """
        stream = self._open_stream()
        context = self._new_context()
        self._queue(context, ends, rows)
        stream.wait()
        try:
            with stream.capture() as found:
                self._queue(context, ends, rows)
        except RuntimeUnavailableError as error:
            _LOG.debug("a batch of %d is not recorded: %s", rows, error.message)
            found = []
        graph = found[0] if found else None
        if graph is not None:
            self._held.callback(graph.free)
        self._graphs[rows] = (context, graph)

    def _queue(self, context: Any, ends: _Ends, rows: int) -> None:
        stream = self._open_stream()
        image, shape = ends.image
        if not context.set_input_shape(image, (rows, *shape)):
            raise RuntimeUnavailableError("cuda-failed", f"TensorRT takes no batch of {rows}.", _CURE)
        self._buffers[image].upload(rows, stream)
        if not context.execute_async_v3(int(stream.handle)):
            raise RuntimeUnavailableError("cuda-failed", "TensorRT could not start the network.", _CURE)
        for end in filter(None, (ends.logits, ends.maps)):
            self._buffers[end[0]].download(rows, stream)

    def _open_stream(self) -> Stream:
        if self._stream is None:
            raise RuntimeError("the runtime is used outside its `with` block")
        return self._stream

    def _new_context(self) -> Any:
        context = self._engine.create_execution_context()
        if context is None:
            raise RuntimeUnavailableError("cuda-failed", "The GPU has no memory left for the network.", _CURE)
        for name, buffer in self._buffers.items():
            context.set_tensor_address(name, buffer.device)
        return context

    def _forget(self) -> None:
        """Let go of the vendor's objects, contexts before the engine, while their memory is still there."""
        self._graphs.clear()
        self._context = None
        self._engine = None
        self._buffers.clear()
        self._cuda, self._ends, self._stream = None, None, None

    def _read_ends(self, engine: Any, tensorrt: Any) -> _Ends:
        names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
        shapes = {name: tuple(engine.get_tensor_shape(name))[1:] for name in names}
        for name in names:
            if engine.get_tensor_dtype(name) != tensorrt.DataType.FLOAT:
                raise self._refused(f"{name} is not float32")
        entering = [name for name in names if engine.get_tensor_mode(name) == tensorrt.TensorIOMode.INPUT]
        leaving = [name for name in names if name not in entering]
        if len(entering) != 1 or len(shapes[entering[0]]) != 3 or shapes[entering[0]][2] != 3:
            raise self._refused(f"its inputs are {[(name, shapes[name]) for name in entering]}")
        logits = [name for name in leaving if len(shapes[name]) == 1]
        maps = [name for name in leaving if len(shapes[name]) == 3]
        if len(logits) != 1 or len(maps) > 1 or len(logits) + len(maps) != len(leaving):
            raise self._refused(f"its outputs are {[(name, shapes[name]) for name in leaving]}")
        return _Ends(
            (entering[0], shapes[entering[0]]),
            (logits[0], shapes[logits[0]]),
            (maps[0], shapes[maps[0]]) if maps else None,
        )

    def _refused(self, reason: str) -> BundleError:
        return BundleError(
            "model-unreadable",
            f"{self._path.name} is not a network that TensorRT can run here: {reason}.",
            "Run `leuko model verify`, or install the bundle again.",
        )


_CURE = "Check the GPU with nvidia-smi (on a Jetson: tegrastats), or use the bundle's onnxruntime variant."

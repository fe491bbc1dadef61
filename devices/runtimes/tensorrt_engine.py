"""Builds TensorRT engines from ONNX on the device that will run them, and keeps them until something changes.

An engine holds for one network, one version of TensorRT and CUDA, and one kind of GPU: it is no part of a bundle.
Networks are strongly typed, as TensorRT 11 demands and TensorRT 10 allows: the file states the precision of every
tensor, INT8 by Q/DQ nodes. There is no calibrator here, and so no calibration on made-up inputs.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from devices.runtimes import onnx_file
from devices.runtimes.cuda import Cuda
from edge.core import durable
from edge.core.errors import BundleError, LeukoError, MissingExtraError, RuntimeUnavailableError

_LOG = logging.getLogger(__name__)

BATCHES: Final = (1, 8, 16)
"""Smallest, most favoured and largest batch of the optimisation profile."""

_OLDEST: Final = 10
_MAGIC: Final = "leukoscope-engine"
_FORMAT: Final = 1
_MAX_HEADER: Final = 4096
_WORKSPACE_SHARE: Final = 4
"""A quarter of the memory at most for trying kernels: on a Jetson it is the memory of everything else, too."""


@dataclass(frozen=True, slots=True)
class EngineKey:
    """All that an engine depends on; when one part differs, it is another engine."""

    onnx_sha256: str
    tensorrt: str
    cuda: str
    compute_capability: str
    precision: str
    batches: tuple[int, int, int]

    @property
    def digest(self) -> str:
        """SHA-256 of the key: the name of the engine's file."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Engine:
    """A serialised engine. `seconds` is what building took, 0 when it was kept; `file` is None when it is not kept."""

    key: EngineKey
    plan: bytes
    file: Path | None
    seconds: float = 0.0


def default_folder() -> Path:
    """Where engines are kept: the user's cache, which may be emptied at any time."""
    import platformdirs

    return platformdirs.user_cache_path("leukoscope", appauthor=False) / "engines"


def load_tensorrt() -> Any:
    """Import TensorRT. Raises MissingExtraError when it is missing, RuntimeUnavailableError when it is too old."""
    try:
        tensorrt = importlib.import_module("tensorrt")
    except (ImportError, OSError) as error:
        # OSError: the bindings are there, the library they load is not.
        raise MissingExtraError(
            "tensorrt-missing",
            f"TensorRT cannot be imported ({error}).",
            "On a Jetson: sudo apt-get install python3-libnvinfer, and a virtual environment with "
            "--system-site-packages. Elsewhere: pip install tensorrt",
        ) from error
    version = str(tensorrt.__version__)
    if not version.partition(".")[0].isdigit() or int(version.partition(".")[0]) < _OLDEST:
        raise RuntimeUnavailableError(
            "tensorrt-too-old",
            f"TensorRT {version} cannot build typed networks with half floats and Q/DQ as they are written here.",
            f"Use TensorRT {_OLDEST} or newer (JetPack 6), or the bundle's onnxruntime variant.",
        )
    return tensorrt


class Journal:
    """Takes TensorRT's messages: all go to the log, errors also into what the user is told."""

    def __init__(self, tensorrt: Any) -> None:
        severity = tensorrt.ILogger.Severity
        levels = {
            severity.INTERNAL_ERROR: logging.ERROR,
            severity.ERROR: logging.ERROR,
            severity.WARNING: logging.WARNING,
            severity.INFO: logging.DEBUG,
        }
        errors: list[str] = []

        class Receiver(tensorrt.ILogger):  # type: ignore[misc]  # known once TensorRT is imported
            def __init__(self) -> None:
                tensorrt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                level = levels.get(severity, logging.NOTSET)
                if level >= logging.ERROR:
                    errors.append(str(message))
                if level:
                    # Warnings are about speed; a device's journal shows them when it is asked for details.
                    _LOG.log(min(level, logging.DEBUG), "TensorRT: %s", message)

        self.receiver = Receiver()
        self._errors = errors

    def last(self, otherwise: str) -> str:
        """The last error as one line, or `otherwise` when there was none."""
        return " ".join((self._errors[-1] if self._errors else otherwise).split())[:500]


def key_of(content: bytes, tensorrt: Any, cuda: Cuda) -> EngineKey:
    """Give the key of the engine for an ONNX file's content on this device."""
    return EngineKey(
        onnx_sha256=hashlib.sha256(content).hexdigest(),
        tensorrt=str(tensorrt.__version__),
        cuda=cuda.version,
        compute_capability=cuda.gpu().compute_capability,
        precision=onnx_file.precision(content),
        batches=BATCHES,
    )


def obtain(network: Path, tensorrt: Any, cuda: Cuda, folder: Path | None = None, *, fresh: bool = False) -> Engine:
    """Give the engine of an ONNX file: the kept one, or else (or when `fresh`) a new one, which is then kept.

    A kept file that is damaged or of another key is built again; a folder that cannot be written costs the keeping,
    nothing more. Raises BundleError when the file is no network for TensorRT, RuntimeUnavailableError when this GPU
    cannot run it.
    """
    content = read_network(network)
    key = key_of(content, tensorrt, cuda)
    file = (default_folder() if folder is None else folder) / f"{key.digest}.engine"
    if not fresh:
        plan = _kept(file, key)
        if plan is not None:
            return Engine(key, plan, file)
    _LOG.info("building a TensorRT engine of %s (%s); this takes minutes, once", network.name, key.precision)
    started = time.monotonic()
    plan = build(content, network.name, key, tensorrt, cuda, file.parent)
    seconds = time.monotonic() - started
    return Engine(key, plan, _keep(file, key, plan), seconds)


def read_network(network: Path) -> bytes:
    """Read an ONNX file. Raises BundleError `model-unreadable`."""
    try:
        return network.read_bytes()
    except OSError as error:
        raise BundleError(
            "model-unreadable",
            f"{network} cannot be read: {error.strerror}.",
            "Name an ONNX file, or install the bundle again.",
        ) from error


def build(  # noqa: PLR0917  # each is another thing
    content: bytes, name: str, key: EngineKey, tensorrt: Any, cuda: Cuda, folder: Path
) -> bytes:
    """Build an engine; raises what `obtain` raises. `folder` keeps the timings, which make a next build faster."""
    gpu = cuda.gpu()
    if key.precision == "int8" and not gpu.has_int8:
        raise RuntimeUnavailableError(
            "no-int8",
            f"{gpu.name} (compute capability {gpu.compute_capability}) has no INT8 arithmetic.",
            "Use the float16 variant: leuko quantize tensorrt --precision fp16",
        )
    journal = Journal(tensorrt)
    builder = tensorrt.Builder(journal.receiver)
    if builder is None:
        raise RuntimeUnavailableError("no-gpu", f"TensorRT cannot start: {journal.last('no reason given')}.", _CURE)
    network = builder.create_network(_strongly_typed(tensorrt))
    parser = tensorrt.OnnxParser(network, journal.receiver)
    if not parser.parse(content):
        faults = [str(parser.get_error(number).desc()) for number in range(parser.num_errors)]
        raise _refused(name, "; ".join(faults[:3]) or journal.last("no reason given"))
    _require_network(network, name, key, tensorrt)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, gpu.memory // _WORKSPACE_SHARE)
    profile = builder.create_optimization_profile()
    image = network.get_input(0)
    sides = tuple(image.shape)[1:]
    profile.set_shape(image.name, *((batch, *sides) for batch in key.batches))
    config.add_optimization_profile(profile)
    timings = folder / f"timings-{key.tensorrt}-{key.compute_capability}.cache"
    _take_timings(config, timings)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise _refused(name, journal.last("the builder gave no engine"))
    _keep_timings(config, timings)
    return bytes(plan)


def _strongly_typed(tensorrt: Any) -> int:
    """Flags of a new network: TensorRT 10 has to be told, in 11 there is no other kind."""
    if int(str(tensorrt.__version__).partition(".")[0]) > _OLDEST:
        return 0
    return 1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _require_network(network: Any, name: str, key: EngineKey, tensorrt: Any) -> None:
    """Refuse what is not a classifier of pictures, or not of the precision that the file states."""
    if network.num_inputs != 1 or len(tuple(network.get_input(0).shape)) != 4:
        raise _refused(name, f"it has {network.num_inputs} inputs, or one that is no batch of pictures")
    if next(iter(network.get_input(0).shape)) != -1:
        raise _refused(name, "its batch is fixed")
    layers = [network.get_layer(number) for number in range(network.num_layers)]
    quantized = any(layer.type == tensorrt.LayerType.QUANTIZE for layer in layers)
    if quantized != (key.precision == "int8"):
        raise _refused(name, f"it {'holds' if quantized else 'lacks'} Q/DQ nodes but is called {key.precision}")
    half = any(
        layer.get_output(number).dtype == tensorrt.DataType.HALF
        for layer in layers
        for number in range(layer.num_outputs)
    )
    if key.precision == "float16" and not half:
        raise _refused(name, "nothing in it is float16, which it is called")


def _kept(file: Path, key: EngineKey) -> bytes | None:
    """Read a kept engine; None when there is none that is whole and of this key."""
    try:
        with file.open("rb") as stream:
            header = json.loads(stream.readline(_MAX_HEADER))
            plan = stream.read()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        _LOG.warning("the kept engine %s cannot be read (%s); it is built again", file.name, error)
        return None
    if header != _header(key, plan):
        _LOG.warning("the kept engine %s is damaged or another one's; it is built again", file.name)
        return None
    return plan


def _keep(file: Path, key: EngineKey, plan: bytes) -> Path | None:
    header = json.dumps(_header(key, plan)).encode() + b"\n"
    return file if _write(file, header + plan) else None


def _header(key: EngineKey, plan: bytes) -> dict[str, Any]:
    values = {**asdict(key), "batches": list(key.batches)}
    return {"kind": _MAGIC, "format": _FORMAT, "key": values, "sha256": hashlib.sha256(plan).hexdigest()}


def _take_timings(config: Any, file: Path) -> None:
    """Give the builder the timings of earlier builds. Stale or damaged ones are refused by it, and a new set begins."""
    content = file.read_bytes() if file.is_file() else b""
    cache = config.create_timing_cache(content)
    if cache is None or not config.set_timing_cache(cache, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _keep_timings(config: Any, file: Path) -> None:
    cache = config.get_timing_cache()
    if cache is not None:
        _write(file, bytes(cache.serialize()))


def _write(file: Path, content: bytes) -> bool:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        durable.write_bytes(file, content)
    except (OSError, LeukoError) as error:
        _LOG.warning("%s cannot be kept: %s", file.name, error)
        return False
    return True


def _refused(name: str, reason: str) -> BundleError:
    return BundleError(
        "model-unreadable",
        f"{name} is not a network that TensorRT can build here: {reason.rstrip('.')}.",
        "Export it again with `leuko quantize onnx`, or use the bundle's onnxruntime variant.",
    )


_CURE: Final = "Check the driver with nvidia-smi (on a Jetson: tegrastats)."

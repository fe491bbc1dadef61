"""Tries a runtime in a child process, and remembers what passed: a trial costs seconds on a small device.

A processor that does not know an instruction of a runtime ends the process that meets it. What has passed is kept in
the user's cache folder under everything that could change the outcome; a failure is never remembered, since it is
there to be mended.
"""

from __future__ import annotations

import contextlib
import hashlib
import platform
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import msgspec

from edge.core import durable
from edge.core.errors import StoreError
from edge.inference.negotiate import Trial, resolve

PROBE: Final = "devices.runtimes.probe:probe"
_FILE: Final = "runtimes-that-run.json"
_KEPT: Final = 50


def remembered(folder: Path | None = None) -> Trial:
    """Make a trial for `negotiate.choose`; `folder` keeps what has passed, by default the user's cache folder."""

    def trial(factory: str, model: Path) -> str | None:
        path = (_cache_folder() if folder is None else folder) / _FILE
        key = _key(factory, model)
        passed = _read(path)
        if key in passed:
            return None
        found: Any = resolve(PROBE)(factory, model)
        if not found.ok:
            return str(found.evidence)
        with contextlib.suppress(StoreError, OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            durable.write_text(path, msgspec.json.encode([*passed, key][-_KEPT:]).decode())
        return None

    return trial


def _cache_folder() -> Path:
    import platformdirs

    return platformdirs.user_cache_path("leukoscope", appauthor=False)


def _key(factory: str, model: Path) -> str:
    """Name all that a trial's outcome hangs on: the file, the runtime, the interpreter, the processor, the system."""
    try:
        stat = model.stat()
        file = f"{model.absolute()} {stat.st_size} {stat.st_mtime_ns}"
    except OSError:
        file = str(model.absolute())
    from edge.health.machine import describe

    machine = describe()
    versions = [
        f"{name} {_version(name)}"
        for name in ("numpy", "ai-edge-litert", "tflite-runtime", "onnxruntime", "onnxruntime-gpu", "tensorrt")
    ]
    parts = (factory, file, machine.model, machine.processor, platform.release(), platform.python_version(), *versions)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "-"


def _read(path: Path) -> list[str]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[str])
    except (OSError, msgspec.MsgspecError):
        return []

"""Tries a runtime in a child process: an illegal instruction on an old CPU must not take the agent with it."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from devices import children
from edge.core.errors import LeukoError

_TIMEOUT_SECONDS = 60.0
_BUILD_SECONDS = 900.0
"""TensorRT builds its engine at the first use, which takes minutes on a small device."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What a trial found: whether it worked, and the evidence, one sentence a person can read."""

    ok: bool
    evidence: str


def probe(factory: str, model: Path, threads: int = 1, timeout: float | None = None) -> Probe:
    """Load `model` in a child process with the runtime `factory` ("module:class"), and run one blank picture.

    Never raises for what the child does: a crash, an error or `timeout` seconds without an answer are evidence.
    """
    if timeout is None:
        timeout = _BUILD_SECONDS if factory.startswith("devices.runtimes.tensorrt:") else _TIMEOUT_SECONDS
    return _child(["run", factory, str(model), str(threads)], timeout)


def probe_import(module: str, timeout: float = _TIMEOUT_SECONDS) -> Probe:
    """Import `module` in a child process."""
    return _child(["import", module], timeout)


def _child(arguments: list[str], timeout: float) -> Probe:
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, *arguments],
            env=children.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Probe(False, f"gave no answer within {timeout:g} seconds")
    except OSError as error:
        return Probe(False, f"no child process could be started: {error}")
    if done.returncode < 0:
        return Probe(False, f"was killed by {children.signal_name(-done.returncode)}")
    try:
        answer = json.loads(done.stdout)
        return Probe(bool(answer["ok"]), str(answer["evidence"]))
    except (ValueError, KeyError, TypeError):
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["nothing"]
        return Probe(False, f"ended with status {done.returncode} and wrote: {last[0]}")


def _try_runtime(factory: str, model: Path, threads: int) -> str:
    import numpy as np

    module, _, name = factory.partition(":")
    with getattr(importlib.import_module(module), name)(model, threads) as runtime:
        outputs = runtime.run(np.zeros((1, *runtime.input_shape), np.float32))
        if not np.isfinite(outputs.logits).all():
            raise ValueError("it returned values that are not numbers")
        return f"{runtime.info.name} {runtime.info.version}, {runtime.info.precision}, loads and runs {model.name}"


def _try_import(module: str) -> str:
    from importlib import metadata

    found = importlib.import_module(module)
    version = getattr(found, "__version__", None)
    if version is None:
        names = metadata.packages_distributions().get(module.partition(".")[0], [])
        version = metadata.version(names[0]) if names else "of unknown version"
    return f"{module} {version} imports"


def main(arguments: list[str]) -> None:
    """Answer in the child: one JSON object on standard output, which native libraries cannot write to meanwhile."""
    answer_to = os.dup(1)
    os.dup2(2, 1)
    try:
        if arguments[0] == "run":
            evidence = _try_runtime(arguments[1], Path(arguments[2]), int(arguments[3]))
        else:
            evidence = _try_import(arguments[1])
        answer = {"ok": True, "evidence": evidence}
    except (LeukoError, ImportError, AttributeError, ValueError, RuntimeError, OSError, MemoryError) as error:
        answer = {"ok": False, "evidence": str(error)}
    os.write(answer_to, json.dumps(answer).encode())


if __name__ == "__main__":
    main(sys.argv[1:])

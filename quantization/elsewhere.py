"""Runs this package's code in another interpreter, without lending it any other package of this one."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from edge.core.errors import RuntimeUnavailableError
from edge.core.types import FloatArray, Outputs, RuntimeInfo

_PACKAGES = ("edge", "devices", "quantization")


@contextlib.contextmanager
def environment() -> Iterator[dict[str, str]]:
    """Give a child's environment in which it finds our packages alone.

    Naming the folder they are in would not do: where they are installed, everything else is in it, too, and a network
    would run on this interpreter's NumPy.
    """
    root = Path(__file__).resolve().parents[1]
    with tempfile.TemporaryDirectory(prefix="leuko-path-") as name:
        for package in _PACKAGES:
            (Path(name) / package).symlink_to(root / package, target_is_directory=True)
        yield {**os.environ, "PYTHONPATH": name, "PYTHONDONTWRITEBYTECODE": "1"}


class ElsewhereRuntime:
    """A TFLite network on whatever runtime another interpreter has; each call of `run` is a child process.

    For comparing runtimes that cannot share an environment: tflite-runtime needs NumPy 1. Raises
    RuntimeUnavailableError on entering when that interpreter cannot run the network.
    """

    def __init__(self, path: Path, python: Path) -> None:
        self._path = Path(path).resolve()
        self._python = python
        self._info: RuntimeInfo | None = None

    @property
    def info(self) -> RuntimeInfo:
        """What runs the network; known once the runtime is entered."""
        if self._info is None:
            raise RuntimeError("the runtime is used outside its `with` block")
        return self._info

    def __enter__(self) -> ElsewhereRuntime:
        with tempfile.TemporaryDirectory(prefix="leuko-run-") as name:
            answer = Path(name) / "info.npz"
            self._child("info", str(self._path), str(answer))
            with np.load(answer) as archive:
                runtime, version, precision = archive["info"].tolist()
        self._info = RuntimeInfo(runtime, version, precision, "cpu", 1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._info = None

    def run(self, batch: npt.NDArray[np.float32]) -> Outputs:
        """Run float32[N, H, W, 3]; the maps are not brought back."""
        with tempfile.TemporaryDirectory(prefix="leuko-run-") as name:
            inputs, answer = Path(name) / "inputs.npy", Path(name) / "logits.npz"
            np.save(inputs, batch)
            self._child("run", str(self._path), str(answer), str(inputs))
            with np.load(answer) as archive:
                logits: FloatArray = archive["logits"]
        return Outputs(logits=logits)

    def _child(self, *arguments: str) -> None:
        with environment() as variables:
            try:
                done = subprocess.run(
                    [str(self._python), "-m", __name__, *arguments],
                    env=variables,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                    errors="replace",
                    check=False,
                )
            except OSError as error:
                raise self._unavailable(str(error)) from error
        if done.returncode != 0:
            raise self._unavailable((done.stderr.strip().splitlines() or ["it wrote nothing"])[-1])

    def _unavailable(self, reason: str) -> RuntimeUnavailableError:
        return RuntimeUnavailableError(
            "interpreter-without-runtime",
            f"{self._python} cannot run {self._path.name}: {reason}.",
            "Name an interpreter that has tflite-runtime and NumPy 1, or ai-edge-litert.",
        )


def main(arguments: Sequence[str]) -> None:
    """Answer in the child: `info NETWORK ANSWER`, or `run NETWORK ANSWER INPUTS`."""
    from devices.runtimes.litert import LiteRTRuntime

    with LiteRTRuntime(Path(arguments[1])) as runtime:
        if arguments[0] == "info":
            info = runtime.info
            np.savez(arguments[2], info=np.array([info.name, info.version, info.precision]))
        else:
            np.savez(arguments[2], logits=runtime.run(np.load(arguments[3], mmap_mode="r")).logits)


if __name__ == "__main__":
    main(sys.argv[1:])

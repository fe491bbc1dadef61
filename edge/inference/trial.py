"""Proves a bundle in a child process: a network that crashes its runtime must not take the update with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from edge.core.errors import BundleError

TIMEOUT_SECONDS: Final = 300.0
_CURE: Final = "Keep the bundle that is in use; tell those who released this one, with the output of `leuko doctor`."


def prove(folder: Path, timeout: float = TIMEOUT_SECONDS) -> None:
    """Verify the bundle in `folder` with the runtime that this device will use, by `leuko model verify` in a child.

    Every hash is compared and the golden vectors are reproduced. Raises BundleError `trial-failed` with what the child
    said, `trial-crashed` when a signal ended it, `trial-too-slow` when it gave no answer in `timeout` seconds.
    """
    # The child must see the packages of this process, also when it runs from a source checkout.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "edge.cli", "model", "verify", str(folder.absolute())],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BundleError(
            "trial-too-slow", f"The new bundle was not proven within {timeout:g} seconds.", _CURE
        ) from None
    except OSError as error:
        raise BundleError("trial-failed", f"The new bundle could not be tried: {error}.", _CURE) from error
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise BundleError("trial-crashed", f"The new bundle crashed its runtime on this device ({name}).", _CURE)
    if done.returncode != 0:
        said = " ".join(done.stderr.decode(errors="replace").split())[-1000:]
        raise BundleError("trial-failed", f"The new bundle does not work on this device: {said}", _CURE)

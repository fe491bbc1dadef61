"""Which commit of this repository the running code is."""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path

_LOG = logging.getLogger(__name__)
_CODE = ("edge", "devices", "training", "quantization")


def current(root: Path | None = None) -> str | None:
    """Give the commit that the code under `root` was checked out from; None when no commit is exactly this code.

    That is so for an installed package, without git, and while a file of the code is changed.
    """
    folder = root or Path(__file__).resolve().parents[1]
    # An environment may lie inside some other repository, which does not track the packages in it.
    if not _git(folder, "ls-files", "--", "quantization/commits.py"):
        return None
    if changed := _git(folder, "status", "--porcelain", "--", *_CODE):
        _LOG.warning("no commit is stated: %d files of the code are changed", len(changed.splitlines()))
        return None
    return _git(folder, "rev-parse", "HEAD") or None


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""

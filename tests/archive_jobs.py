"""Jobs for the engines that go wrong on purpose: workers import them by name."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge.archive.engine import Piece, Work
from edge.core.errors import BundleError


@dataclass(frozen=True)
class Troubled:
    """Gives the text of each piece's path, and does what the path says: see `parts`. `folder` is for remembering."""

    folder: str

    @contextlib.contextmanager
    def open(self) -> Iterator[Work]:
        if self.folder == "refuse":
            raise BundleError("bundle-missing", "There is no bundle.", "Install one.")
        if self.folder == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        yield self.parts

    def parts(self, piece: Piece) -> Iterator[bytes]:
        """What a piece gives: video-N gives N parts, kill and crash end the process, once-... only the first time."""
        word, _, number = piece.path.partition("-")
        if word == "once":
            mark = Path(self.folder) / piece.path
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        if word == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if word == "crash":
            import ctypes

            ctypes.string_at(0)
        if word == "raise":
            raise ZeroDivisionError("nothing to divide")
        if word == "slow":
            time.sleep(float(number) / 1000)
        for frame in range(int(number) if word == "video" else 1):
            if word == "video" and frame == 20:
                mark = Path(self.folder) / piece.path
                if not mark.exists():
                    mark.touch()
                    raise OSError("the disk coughed")
            yield f"{piece.path}#{frame}".encode()

"""A hub in a process of its own, by its command."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from commands import LEUKO, environment


@dataclass(frozen=True)
class Serving:
    """Its home and its address."""

    home: Path
    url: str


@contextlib.contextmanager
def serving_hub(home: Path, *options: str) -> Iterator[Serving]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home.mkdir()
    with (home / "log").open("wb") as log:
        command = [*LEUKO, "hub", "serve", "--port", str(port), *options]
        server = subprocess.Popen(command, cwd=home, env=environment(home), stdout=log, stderr=log)
        try:
            for _ in range(600):
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                time.sleep(0.1)
            yield Serving(home, f"http://127.0.0.1:{port}")
        finally:
            server.terminate()
            server.wait(30)

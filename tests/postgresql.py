"""A PostgreSQL server of the tests' own: started in a folder, crashed and started again at will."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path


def programs() -> Path | None:
    """The folder of PostgreSQL's programs, None where there are none."""
    found = [Path(path).resolve().parent for name in ("initdb",) if (path := shutil.which(name))]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in found if (folder / "postgres").exists() and (folder / "initdb").exists()), None)


class PostgreSQL:
    """A server in `home`, running inside a `with` block. `url` lacks the name of a database.

    Without `fsync` it survives being killed, and not a power cut, like any program on a running machine.
    """

    def __init__(self, home: Path, *, fsync: bool = False) -> None:
        found = programs()
        if found is None:
            raise FileNotFoundError("PostgreSQL is not installed: apt-get install postgresql")
        self._programs, self._home, self._fsync = found, home, fsync
        self._user = {}
        if os.geteuid() == 0:  # the server refuses to run as root
            self._user = {"user": "nobody", "group": "nogroup"}
            shutil.chown(home, "nobody", "nogroup")
            for parent in home.parents:
                if parent in {Path("/tmp"), Path("/")}:
                    break
                parent.chmod(parent.stat().st_mode | 0o011)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://hub@127.0.0.1:{self.port}"

    def __enter__(self) -> PostgreSQL:
        subprocess.run(
            [self._programs / "initdb", "-D", self._folder, "-U", "hub", "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True,
            capture_output=True,
            cwd=self._home,
            **self._user,
        )
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.crash()

    def start(self) -> None:
        """Start the server, after a crash too, and wait until it takes connections."""
        settings = ["listen_addresses=127.0.0.1", f"fsync={'on' if self._fsync else 'off'}"]
        command = [self._programs / "postgres", "-D", self._folder, "-p", str(self.port), "-k", ""]
        self._server = subprocess.Popen(
            [*command, *(word for each in settings for word in ("-c", each))],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._home,
            **self._user,
        )
        self._await()

    def crash(self) -> None:
        """End the server at once, without a checkpoint: the next start has to recover."""
        if self._server is not None:
            self._server.send_signal(signal.SIGQUIT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._server.wait(20)
            self._server.kill()
            self._server.wait()

    def execute(self, statement: str) -> None:
        """Run one statement in the database `postgres`."""
        import psycopg

        with psycopg.connect(f"{self.url.replace('+psycopg', '')}/postgres", autocommit=True) as connection:
            connection.execute(statement)

    @property
    def _folder(self) -> Path:
        return self._home / "data"

    def _await(self) -> None:
        import psycopg

        for _ in range(600):
            try:
                psycopg.connect(f"host=127.0.0.1 port={self.port} user=hub dbname=postgres").close()
            except psycopg.OperationalError:
                time.sleep(0.1)
            else:
                return
        raise AssertionError("PostgreSQL did not start")

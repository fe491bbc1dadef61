"""Many devices send to a real hub over a network on which everything goes wrong, while devices and hub are killed.

    python tests/bench/sync_torture.py --results 10000 --devices 20 --hub sqlite|postgresql --seed 0 --kills 200

Every seventh result is also signed on its device, so that it has two versions. Devices are killed at random moments
(SIGKILL), every tenth time the hub with its workers instead, and with PostgreSQL every twentieth time the database.
In the end what the devices have and what the hub has are compared, row by row and hash by hash. Prints JSON; ends with
1 when anything was lost, doubled or altered. The faults are in tests/faulty_proxy.py.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from commands import LEUKO, environment  # noqa: E402
from faulty_proxy import Proxy  # noqa: E402
from postgresql import PostgreSQL  # noqa: E402
from sent_results import Device  # noqa: E402

from edge.store.incoming import Exchange  # noqa: E402
from edge.sync import content, messages, service  # noqa: E402

SIGN_EVERY = 7
AT_ONCE = 50


class RunningHub:
    """`leuko hub serve` on a port that stays the same, to be killed and started again."""

    def __init__(self, folder: Path, database: str, workers: int) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.database, self.objects = database, folder / "objects"
        self._folder, self._workers = folder, workers
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = ["hub", "serve", "--port", self.port, "--workers", self._workers]
        words += ["--database", self.database, "--objects", self.objects]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*LEUKO, *map(str, words)],
                env=environment(self._folder),
                cwd=self._folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self) -> None:
        for _ in range(1200):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            time.sleep(0.1)
        raise AssertionError("the hub did not start")

    def kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None


def torture(
    folder: Path,
    database: str,
    *,
    results: int,
    devices: int,
    kills: int,
    seed: int,
    faults: float = 0.2,
    seconds: float = 1.0,
    server: PostgreSQL | None = None,
) -> dict[str, Any]:
    """Let devices send until everything is there, killing meanwhile; returns what was done and what was found.

    `database` is the URL of an empty one; `seconds` is the mean time between two kills.
    """
    began, chance = time.monotonic(), random.Random(seed)
    hub = RunningHub(folder, database, 1 if server is None else 2)
    codes = _prepare(hub, devices)
    hub.start()
    hub.wait()
    homes = [folder / f"device-{number}" for number in range(devices)]
    share = results // devices
    killed = {"device": 0, "hub": 0, "database": 0}
    with Proxy(hub.port, folder / "proxy", seed=seed, faults=faults, lorises=10) as proxy:
        for number, home in enumerate(homes):
            device = Device(home)
            service.enrol(
                device.config, proxy.url, codes[number], name="hub", ca_file=str(proxy.ca_file), device_class="pi5"
            )
        proxy.broken = True
        running: dict[int, subprocess.Popen[bytes]] = {}
        waiting = set(range(devices))
        due, told = 0.0, time.monotonic()
        try:
            while waiting:
                for number in waiting - running.keys():
                    running[number] = _send(homes[number], number * share, share)
                time.sleep(0.1)
                if sum(killed.values()) < kills and time.monotonic() > due:
                    due = time.monotonic() + chance.expovariate(1 / seconds)
                    _kill(killed, running, hub, server, chance)
                if hub.ended():
                    hub.start()
                if time.monotonic() > told + 60:
                    told = time.monotonic()
                    print(f"{proxy.requests} requests, {killed}, {len(waiting)} at work", file=sys.stderr, flush=True)
                for number, process in list(running.items()):
                    if process.poll() is not None:
                        del running[number]
                        if process.returncode == 0:
                            waiting.discard(number)
        finally:
            for process in running.values():
                process.kill()
                process.wait()
        proxy.broken = False
        time.sleep(6)  # what the network still holds back arrives
        hub.wait()
        hub.kill()
        sent, applied = proxy.requests, dict(sorted(proxy.applied.items()))
    return {
        "hub": database.partition(":")[0],
        "devices": devices,
        **compare(hub, homes, share),
        "killed": killed,
        "requests": sent,
        "faults": applied,
        "seconds": round(time.monotonic() - began),
        "load_average": round(os.getloadavg()[0], 1),
    }


def _prepare(hub: RunningHub, devices: int) -> list[str]:
    from edge.hub import core, enrolment
    from edge.hub.database import Database
    from edge.hub.settings import Settings

    tables = Database(hub.database)
    tables.migrate()
    tables.close()
    opened = core.open_hub(Settings(hub.database, str(hub.objects)))
    codes = [enrolment.make_code(opened, f"scope-{number}", made_by="test").code for number in range(devices)]
    opened.close()
    return codes


def _send(home: Path, first: int, count: int) -> subprocess.Popen[bytes]:
    words = [home, first, count, "--at-once", AT_ONCE, "--sign-every", SIGN_EVERY]
    return subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "crash" / "sender.py"), *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _kill(
    killed: dict[str, int],
    running: dict[int, subprocess.Popen[bytes]],
    hub: RunningHub,
    server: PostgreSQL | None,
    chance: random.Random,
) -> None:
    number = sum(killed.values()) + 1
    if server is not None and number % 20 == 5:
        server.crash()
        server.start()
        killed["database"] += 1
    elif number % 10 == 0 or (number == 2 and not killed["hub"]):
        hub.kill()
        hub.start()
        killed["hub"] += 1
    elif alive := [each for each in running.values() if each.poll() is None]:
        process = chance.choice(alive)
        process.kill()
        process.wait()
        killed["device"] += 1


def compare(hub: RunningHub, homes: list[Path], share: int) -> dict[str, int]:
    """Compare every device with the hub, row by row and hash by hash."""
    import sqlalchemy as sa

    from edge.hub import core, tables
    from edge.hub.settings import Settings

    opened = core.open_hub(Settings(hub.database, str(hub.objects)))
    lost = altered = pictures = made = 0
    expected: set[tuple[str, int]] = set()
    with opened.database.read() as connection:
        held = {(row.id, row.version) for row in connection.execute(sa.select(tables.versions.c["id", "version"]))}
        results = connection.scalar(sa.select(sa.func.count()).select_from(tables.results))
        conflicts = connection.scalar(sa.select(sa.func.count()).select_from(tables.conflicts))
        owned = {
            (row.name, row.sha256)
            for row in connection.execute(
                sa.select(tables.devices.c.name, tables.pictures.c.sha256).join_from(tables.pictures, tables.devices)
            )
        }
        for place, home in enumerate(homes):
            device = Device(home)
            with Exchange(device.config.database_path) as exchange, device.store() as store:
                samples = store.samples()
                assert len(samples) == share, f"{home} made {len(samples)} results"
                assert store.verify_audit().intact
                assert store.check_integrity() == ()
                counts = device.counts()
                assert store.outbox() == () and set(counts) == {"delivered"}, counts
                for sample in samples:
                    newest = store.latest(sample)
                    assert newest is not None
                    made += 1
                    for version in range(1, newest.version + 1):
                        expected.add((newest.id, version))
                        row = connection.execute(
                            sa.select(tables.versions.c["body", "content_sha256"]).where(
                                tables.versions.c.id == newest.id, tables.versions.c.version == version
                            )
                        ).first()
                        sent = messages.encode(content.version(exchange.parcel(newest.id, version), exchange.picture))
                        lost += row is None
                        altered += row is not None and (
                            bytes(row.body) != sent or row.content_sha256 != messages.sha256(sent)
                        )
                    for picture in newest.pictures:
                        pictures += 1
                        digest = messages.sha256(picture.jpeg)
                        lost += (f"scope-{place}", digest) not in owned
                        try:
                            altered += opened.objects.get(digest) != picture.jpeg
                        except KeyError:
                            lost += 1
    opened.close()
    doubled = len(held - expected) + abs(int(results or 0) - made)
    found = {"results": made, "versions": len(expected), "pictures": pictures}
    return {**found, "lost": lost, "doubled": doubled, "altered": altered, "conflicts": int(conflicts or 0)}


def main() -> None:
    """Torture, and print."""
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--results", type=int, default=10_000)
    reader.add_argument("--devices", type=int, default=20)
    reader.add_argument("--hub", choices=["sqlite", "postgresql"], default="sqlite")
    reader.add_argument("--seed", type=int, default=0)
    reader.add_argument("--kills", type=int, default=200)
    reader.add_argument("--faults", type=float, default=0.2, help="share of the requests that go wrong")
    reader.add_argument("--seconds", type=float, default=1.0, help="mean time between two kills")
    asked = vars(reader.parse_args())
    kind = asked.pop("hub")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started must not outlive this
    with tempfile.TemporaryDirectory(prefix="torture-") as place, contextlib.ExitStack() as stack:
        folder = Path(place)
        url, server = f"sqlite:///{folder / 'hub.sqlite3'}", None
        if kind == "postgresql":
            (folder / "postgresql").mkdir()
            server = stack.enter_context(PostgreSQL(folder / "postgresql"))
            server.execute("CREATE DATABASE hub")
            url = f"{server.url}/hub"
        found = torture(folder, url, server=server, **asked)
        print(json.dumps(found, indent=1))
    sys.exit(1 if found["lost"] or found["doubled"] or found["altered"] or found["conflicts"] else 0)


if __name__ == "__main__":
    main()

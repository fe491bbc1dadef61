"""How many results a second a hub takes in, and whether that holds as its table grows.

    python tests/bench/hub_load.py --database postgresql://... [--connections 50] [--seconds 20] [--workers 2]
    python tests/bench/hub_load.py --database URL --rows 1000 --rows 1000000    # cost of one result by table size

Starts `leuko hub serve` in an empty database and sends results of a usual size from as many devices as connections,
each over one connection that is kept. Prints JSON: results a second, percentiles of the time to the acknowledgement,
memory, the hub's own processor time for a result (without the database's), and the load of the machine.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "hub"))
CELLS = ("neutrophil",) * 60 + ("lymphocyte",) * 30 + ("monocyte",) * 10


def prepare(database: str, objects: str, devices: int) -> list[tuple[str, str]]:
    """Make the tables and the devices; returns (id, secret) of each."""
    from edge.hub import core, enrolment
    from edge.hub.database import Database
    from edge.hub.settings import Settings
    from edge.sync import messages as m

    tables = Database(database)
    tables.migrate()
    tables.close()
    hub = core.open_hub(Settings(database, objects))
    found = []
    for number in range(devices):
        code = enrolment.make_code(hub, f"bench-{secrets.token_hex(4)}-{number}", made_by="bench").code
        secret = secrets.token_hex(32)
        request = m.EnrolmentRequest(code, m.credential_sha256(secret), "x", "bench", "0")
        found.append((enrolment.enrol(hub, request, "bench")[0].device_id, secret))
    hub.close()
    return found


def send(port: int, devices: list[tuple[str, str]], until: float, told: multiprocessing.Queue) -> None:
    """Send results from some devices, each a thread with one connection."""
    import threading

    from sent import version

    from edge.core.identifiers import uuid7
    from edge.sync import messages as m

    template = m.encode(version(identifier="0193a7c2-5b1e-7c44-9d2e-4f1a2b3c4d5e", labels=CELLS))
    times: list[float] = []
    failures: list[str] = []

    def work(device: str, secret: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while time.monotonic() < until:
            identifier = uuid7()
            body = template.replace(b"0193a7c2-5b1e-7c44-9d2e-4f1a2b3c4d5e", identifier.encode())
            headers = {"Authorization": m.authorization(device, secret), m.CONTENT_HASH: m.sha256(body)}
            began = time.perf_counter()
            connection.request("PUT", f"{m.PREFIX}/results/{identifier}/versions/1", body, headers)
            answer = connection.getresponse()
            answer.read()
            times.append(time.perf_counter() - began)
            if answer.status != 201:
                failures.append(str(answer.status))

    threads = [threading.Thread(target=work, args=each) for each in devices]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told.put((times, failures, len(template)))


def load(database: str, connections: int, seconds: float, workers: int) -> dict[str, object]:
    """Measure a running hub."""
    with tempfile.TemporaryDirectory() as folder:
        devices = prepare(database, f"{folder}/objects", connections)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [sys.executable, "-m", "edge.cli", "hub", "serve", "--port", str(port), "--workers", str(workers)]
        command += ["--database", database, "--objects", f"{folder}/objects"]
        environment = {**os.environ, "LEUKO_DATA_FOLDER": folder}
        with Path(folder, "log").open("wb") as log:
            server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            for _ in range(300):
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    time.sleep(0.1)
            time.sleep(2)
            told: multiprocessing.Queue = multiprocessing.Queue()
            senders = 2
            until = time.monotonic() + seconds
            parts = [devices[number::senders] for number in range(senders)]
            processes = [multiprocessing.Process(target=send, args=(port, part, until, told)) for part in parts]
            memory, used = [_memory(server.pid)], _processor_seconds(server.pid)
            began = time.monotonic()
            for process in processes:
                process.start()
            while time.monotonic() < until:
                time.sleep(1)
                memory.append(_memory(server.pid))
            answers = [told.get(timeout=90) for _ in processes]
            took = time.monotonic() - began
            used = _processor_seconds(server.pid) - used
            for process in processes:
                process.join()
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(30)
    times = sorted(value for found, _, _ in answers for value in found)
    return {
        "database": database.partition(":")[0],
        "connections": connections,
        "workers": workers,
        "bytes_each": answers[0][2],
        "results": len(times),
        "failures": [each for _, failures, _ in answers for each in failures],
        "results_per_second": round(len(times) / took, 1),
        "milliseconds": {
            name: round(1000 * times[min(len(times) - 1, int(len(times) * share))], 1)
            for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
        },
        "hub_processor_ms_each": round(1000 * used / max(len(times), 1), 2),
        "load_average": os.getloadavg()[0],
        "memory_mb": {"start": memory[0], "middle": memory[len(memory) // 2], "end": memory[-1]},
    }


def growth(database: str, sizes: list[int], results: int = 300) -> list[dict[str, float]]:
    """Measure the ingest of one result, in the process, with a table of each size."""
    import sqlalchemy as sa
    from sent import version

    from edge.hub import core, ingest, tables
    from edge.hub.core import Device
    from edge.hub.settings import Settings
    from edge.sync import messages as m

    found = []
    with tempfile.TemporaryDirectory() as folder:
        (identifier, _), *_ = prepare(database, folder, 1)
        hub = core.open_hub(Settings(database, folder))
        device = Device(identifier, "x", "", "", "", frozenset())
        for size in sorted(sizes):
            with hub.database.read() as connection:
                there = connection.scalar(sa.select(sa.func.count()).select_from(tables.results))
            began = time.monotonic()
            while there < size:
                count = min(10_000, size - there)
                with hub.database.write() as connection:
                    fill(connection, device.id, there, count)
                there += count
            filling = time.monotonic() - began
            sent = [version(labels=CELLS) for _ in range(results)]
            bodies = [m.encode(each) for each in sent]
            times = []
            for each, body in zip(sent, bodies, strict=True):
                began, used = time.perf_counter(), time.process_time()
                ingest.receive(hub, device, each.id, 1, m.sha256(body), body)
                times.append((time.perf_counter() - began, time.process_time() - used))
            wall, processor = (sorted(each) for each in zip(*times, strict=True))
            found.append(
                {
                    "rows": size,
                    "median_ms": round(1000 * wall[len(wall) // 2], 3),
                    "median_processor_ms": round(1000 * processor[len(processor) // 2], 3),
                    "filled_in_seconds": round(filling),
                    "load_average": round(os.getloadavg()[0], 1),
                }
            )
            print(json.dumps(found[-1]), file=sys.stderr, flush=True)
        hub.close()
    return found


def fill(connection: object, device: str, first: int, count: int) -> None:
    """Insert results as the hub has them after it took them in, many at a time; each differs in id, sample and time."""
    from sent import version

    from edge.core.identifiers import uuid7
    from edge.hub import ingest, tables
    from edge.sync import messages as m

    model = version(sample="S-0")
    body, facts = m.encode(model), ingest._facts(model)
    results, versions = [], []
    for number in range(first, first + count):
        identifier, sample = uuid7(), f"S-{number}"
        day, second = divmod(number, 86_400)
        at = f"2026-01-{1 + day:02}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.000+00:00"
        content = body.replace(model.id.encode(), identifier.encode()).replace(b'"S-0"', f'"{sample}"'.encode())
        results.append(
            {
                **facts,
                "id": identifier,
                "device_id": device,
                "site": "",
                "sample": sample,
                "received": at,
                "changed": at,
                "newest": 1,
                "second_reader": None,
                "second_reading": False,
            }
        )
        versions.append(
            {
                "id": identifier,
                "version": 1,
                "content_sha256": m.sha256(content),
                "origin": "device",
                "author": model.operator,
                "received": at,
                "body": content,
            }
        )
    connection.execute(tables.results.insert(), results)  # type: ignore[attr-defined]
    connection.execute(tables.versions.insert(), versions)  # type: ignore[attr-defined]


def _memory(pid: int) -> float:
    """Resident megabytes of a process and its children."""
    found = psutil.Process(pid)
    total = 0
    for each in (found, *found.children(recursive=True)):
        try:
            total += each.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return round(total / 1e6, 1)


def _processor_seconds(pid: int) -> float:
    """Processor time that a process and its children have used."""
    found = psutil.Process(pid)
    return sum(sum(each.cpu_times()[:2]) for each in (found, *found.children(recursive=True)))


def main() -> None:
    """Measure, and print."""
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--database", required=True)
    reader.add_argument("--connections", type=int, default=50)
    reader.add_argument("--seconds", type=float, default=20)
    reader.add_argument("--workers", type=int, default=2)
    reader.add_argument("--rows", type=int, action="append", default=[])
    asked = reader.parse_args()
    if asked.rows:
        print(json.dumps(growth(asked.database, asked.rows), indent=1))
    else:
        print(json.dumps(load(asked.database, asked.connections, asked.seconds, asked.workers), indent=1))


if __name__ == "__main__":
    main()

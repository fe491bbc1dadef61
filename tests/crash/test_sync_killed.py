"""Devices killed at random while they save and send over a network with faults: 0 lost, 0 doubled, 0 altered.

A longer run: python tests/crash/test_sync_killed.py --results 2000 --devices 4
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from hubs import Hub, random_faults  # noqa: E402
from sent_results import Device  # noqa: E402

from edge.store.incoming import Exchange  # noqa: E402
from edge.sync import content, messages  # noqa: E402


def torture(folder: Path, *, devices: int, results: int, faults: float, seed: int) -> dict[str, Any]:
    """Let devices send until everything is there, killing them meanwhile; returns what was counted."""
    chance = random.Random(seed)
    kills = 0
    with Hub() as hub:
        homes = [folder / f"device-{number}" for number in range(devices)]
        for number, home in enumerate(homes):
            hub.codes[f"CODE-{number}"] = None
            Device(home).enrol(hub.url, f"CODE-{number}")
        hub.fault = random_faults(seed, faults)
        share = results // devices
        waiting = dict(enumerate(homes))
        running: dict[int, subprocess.Popen[str]] = {}
        while waiting:
            for number, home in waiting.items():
                if number not in running:
                    words = [str(home), str(number * share), str(share), "--url", hub.url]
                    running[number] = subprocess.Popen(
                        [sys.executable, ROOT / "tests" / "crash" / "sender.py", *words],
                        env={**os.environ, "PYTHONPATH": str(ROOT)},
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL,
                    )
            time.sleep(chance.uniform(0.05, 0.8))
            for number, process in list(running.items()):
                if process.poll() is None and chance.random() < 0.25:
                    process.kill()
                    process.wait()
                    kills += 1
                if process.poll() is not None:
                    del running[number]
                    if process.returncode == 0:
                        del waiting[number]
        return {**compare(hub, homes, share), "kills": kills, "requests": len(hub.requests)}


def compare(hub: Hub, homes: list[Path], share: int) -> dict[str, int]:
    """Compare every device with the hub, row by row and hash by hash."""
    lost = altered = 0
    expected = set()
    for home in homes:
        device = Device(home)
        with Exchange(device.config.database_path) as exchange, device.store() as store:
            assert len(store.samples()) == share and store.verify_audit().intact
            assert store.outbox() == () and device.counts() == {"delivered": share}
            for sample in store.samples():
                record = store.latest(sample)
                assert record is not None
                expected.add((record.id, 1))
                held = hub.results.get((record.id, 1))
                sent = content.version(exchange.parcel(record.id, 1), exchange.picture)
                lost += held is None
                altered += held is not None and held != messages.encode(sent)
                for picture in record.pictures:
                    kept = hub.pictures.get(messages.sha256(picture.jpeg))
                    lost += kept is None
                    altered += kept is not None and kept != picture.jpeg
    return {"results": len(expected), "lost": lost, "altered": altered, "doubled": len(set(hub.results) - expected)}


def test_devices_killed_on_a_bad_network_lose_double_and_alter_nothing(tmp_path: Path) -> None:
    # A fast machine may have sent all before the first kill: then it is tried again.
    for seed in range(5, 20):
        place = tmp_path / str(seed)
        place.mkdir()
        found = torture(place, devices=2, results=12, faults=0.2, seed=seed)
        assert (found["results"], found["lost"], found["doubled"], found["altered"]) == (12, 0, 0, 0)
        if found["kills"] > 0:
            return
    pytest.fail("no device was ever killed")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=int, default=2000)
    parser.add_argument("--devices", type=int, default=4)
    parser.add_argument("--faults", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        start = time.monotonic()
        print(torture(Path(place), **vars(chosen)), f"{time.monotonic() - start:.0f} s")

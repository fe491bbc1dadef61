"""A device that makes results and sends them, to be killed at any moment.

    sender.py FOLDER FIRST COUNT [--url URL] [--at-once N] [--sign-every N]

Makes and sends `--at-once` results at a time; ends with 0 only when everything is delivered.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sent_results import Device, made

reader = argparse.ArgumentParser()
reader.add_argument("folder", type=Path)
reader.add_argument("first", type=int)
reader.add_argument("count", type=int)
reader.add_argument("--url", default="")
reader.add_argument("--at-once", type=int, default=1_000_000)
reader.add_argument("--sign-every", type=int, default=0)
asked = reader.parse_args()
device = Device(asked.folder)
if asked.url:
    device.point_at(asked.url)
end = asked.first + asked.count
for start in range(asked.first, end, asked.at_once):
    with device.store() as store:
        there = set(store.samples())
        for number in range(start, min(start + asked.at_once, end)):
            sample = f"S-{number}"
            if sample not in there:
                store.save(made(sample, number))
                print(number, flush=True)
            if asked.sign_every and number % asked.sign_every == 0:
                seen = store.latest(sample)
                if seen is not None and seen.version == 1:
                    store.sign(seen.id, "Ann", "seen")
    device.run(patience=600)
with device.store() as store:
    sys.exit(4 if store.outbox() else 0)

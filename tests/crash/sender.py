"""A device that makes results and sends them, to be killed at any moment: sender.py FOLDER URL FIRST COUNT."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sent_results import Device, made

folder, url, first, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
device = Device(folder)
device.point_at(url)
with device.store() as store:
    for number in range(first, first + count):
        if store.latest(f"S-{number}") is None:
            store.save(made(f"S-{number}", number))
            print(number, flush=True)
device.run(patience=600)
print("done", flush=True)

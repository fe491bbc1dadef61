"""Takes the driver from a vivid camera while it is read, gives it back, and holds what the camera tells against that.

Run by `inside.sh` as root in a virtual machine: not for a real device.
"""

from __future__ import annotations

import logging
import sys
import time
from itertools import islice
from pathlib import Path

from devices.cameras.hardware import uvc
from edge.core.types import FieldFailure, Frame

DRIVER = Path("/sys/bus/platform/drivers/vivid")
DEVICE = "vivid.0"


def main() -> int:
    """Unbind at frame 5, bind two seconds later; 0 when the loss was named and the pictures came back."""
    log = logging.getLogger("unplug")
    failures: list[str] = []
    good_after = 0
    with uvc("uvc:/dev/video0,width=640,height=360,settle=3") as camera:
        frames = camera.frames()
        if not all(isinstance(item, Frame) for item in islice(frames, 5)):
            return 1
        (DRIVER / "unbind").write_text(DEVICE)
        unplugged = time.monotonic()
        plugged = False
        for item in frames:
            if not plugged and time.monotonic() - unplugged > 2:
                (DRIVER / "bind").write_text(DEVICE)
                plugged = True
            if isinstance(item, FieldFailure):
                failures.append(item.code)
            elif failures:
                good_after += 1
            if good_after == 10:
                break
        log.info("failures %s, opened again %d times, then %d good frames", failures, camera.reopened, good_after)
    return 0 if failures and good_after == 10 else 1


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.exit(main())

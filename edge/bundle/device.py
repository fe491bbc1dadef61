"""Which kind of device this is, as releases name it."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_BOARDS: Final = (
    (r"raspberry pi 5|raspberry pi compute module 5|raspberry pi 500", "raspberry-pi-5"),
    (r"raspberry pi 4|raspberry pi compute module 4|raspberry pi 400", "raspberry-pi-4"),
    (r"raspberry pi 3|raspberry pi compute module 3", "raspberry-pi-3"),
    (r"raspberry pi zero 2", "raspberry-pi-zero-2"),
    (r"jetson orin nano|jetson orin nx", "jetson-orin-nano"),
    (r"jetson agx orin", "jetson-agx-orin"),
    (r"jetson nano|jetson tx1", "jetson-nano"),
)


def detect(root: Path = Path("/")) -> str:
    """Tell the class of this device: a board by the name in its device tree, else "generic-" and the architecture.

    `root` holds the /proc to look in.
    """
    try:
        model = (root / "proc/device-tree/model").read_text(encoding="ascii", errors="replace").lower()
    except OSError:
        model = ""
    for pattern, name in _BOARDS:
        if re.search(pattern, model):
            return name
    return "generic-" + re.sub(r"[^a-z0-9]+", "-", platform.machine().lower()).strip("-")


def suits(classes: Sequence[str], device: str) -> bool:
    """Whether something for these device classes is for this one; none named means every device."""
    return not classes or device in classes

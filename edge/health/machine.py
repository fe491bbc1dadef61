"""What this machine is and how it fares, as the kernel tells it. What cannot be read is None, never a guess."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

_THROTTLE_FILES = (
    "sys/devices/platform/soc/soc:firmware/get_throttled",
    "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled",
)

THROTTLE_NOW = {
    0: "the supply voltage is too low",
    1: "the processor's frequency is capped",
    2: "the processor is throttled",
    3: "the soft temperature limit is active",
}
"""Bits of the Raspberry Pi firmware's throttling word that speak of now; the same bits plus 16 speak of since boot."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine a measurement was made on. `memory_megabytes` is all of its memory, in units of 10^6 bytes."""

    model: str
    processor: str
    architecture: str
    cores: int
    memory_megabytes: int | None
    system: str
    python: str


def describe(root: Path = Path("/")) -> Machine:
    """Describe this machine; `root` holds the /proc to look in."""
    total = _meminfo(root, "MemTotal")
    return Machine(
        model=_text(root / "proc/device-tree/model") or _text(root / "sys/class/dmi/id/product_name") or "unknown",
        processor=_processor(root),
        architecture=platform.machine(),
        cores=_cores(),
        memory_megabytes=None if total is None else round(total / 1e6),
        system=_system(),
        python=platform.python_version(),
    )


def available_memory(root: Path = Path("/")) -> int | None:
    """Memory in bytes that new work can have without swapping."""
    return _meminfo(root, "MemAvailable")


def resident_memory(root: Path = Path("/")) -> tuple[int | None, int | None]:
    """Resident memory of this process in bytes: now, and at its highest."""
    status = _text(root / "proc/self/status")
    return _kibibytes(status, "VmRSS"), _kibibytes(status, "VmHWM")


def temperature(root: Path = Path("/")) -> float | None:
    """Temperature of the hottest thermal zone in degrees Celsius."""
    readings = []
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*/temp")):
        try:
            readings.append(int(_text(zone)) / 1000)
        except ValueError:
            continue
    return max(readings, default=None)


def throttle_bits(root: Path = Path("/")) -> int | None:
    """Read the Raspberry Pi firmware's throttling word, see `THROTTLE_NOW`; None on other machines."""
    for name in _THROTTLE_FILES:
        try:
            return int(_text(root / name), 16)
        except ValueError:
            continue
    return None


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _system() -> str:
    try:
        name = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        name = ""
    return f"{name or platform.system()}, kernel {platform.release()}"


def _processor(root: Path) -> str:
    found = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", _text(root / "proc/cpuinfo"), re.MULTILINE)
    return found.group(1).strip() if found else platform.processor() or "unknown"


def _meminfo(root: Path, key: str) -> int | None:
    return _kibibytes(_text(root / "proc/meminfo"), key)


def _kibibytes(text: str, key: str) -> int | None:
    found = re.search(rf"^{key}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found.group(1)) * 1024 if found else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip(" \n\0")
    except OSError:
        return ""

"""What this machine is and how it fares, as the kernel tells it. What cannot be read is None, never a guess."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path


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
    """Temperature of the hottest sensor in degrees Celsius."""
    from edge.inference.negotiate import resolve

    hottest = resolve("devices.sensors:hottest_zone")(root)
    return None if hottest is None else float(hottest[1])


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

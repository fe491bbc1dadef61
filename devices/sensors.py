"""Temperature, throttling, supply and power mode, as the kernel and the makers' own tools tell them.

Files are read first, since they cost nothing; a tool (vcgencmd, nvpmodel, tegrastats) is asked only for what no file
says. The parsers are pure: text in, value out, None for what they do not understand.
"""

from __future__ import annotations

import re
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from edge.core.device import SINCE_BOOT, SensorReading, throttle_union

TOOL_SECONDS: Final = 2.0
"""How long a tool may take. tegrastats gives a line after its interval, which is asked to be a tenth of a second."""

_FIRMWARE_WORDS: Final = (
    "sys/devices/platform/soc/soc:firmware/get_throttled",
    "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled",
)
_ABSOLUTE_ZERO: Final = -273.15
_PLACEHOLDERS: Final = frozenset({"pmic", "pmic-die"})
"""Sensors of a Jetson that state a constant: the Nano's PMIC is 100 or 50 degrees for ever."""
_PLAUSIBLE: Final = (-40.0, 150.0)
_ALERTS: Final = re.compile(r"throttle-alert|hot-surface-alert|thermal-throttle", re.IGNORECASE)

Tool = Callable[[Sequence[str]], "str | None"]
"""Runs a command and gives what it printed, or None when it does not exist, fails or takes too long."""


def read(kind: str = "kernel", root: Path = Path("/"), tool: Tool | None = None) -> SensorReading:
    """Read all sensors of a machine of this kind: "raspberry-pi", "jetson" or "kernel" (any other). Never raises.

    `root` holds the /sys to look in, `tool` runs the makers' tools.
    """
    ask = run_tool if tool is None else tool
    hottest = hottest_zone(root)
    if kind == "raspberry-pi":
        return _raspberry_pi(root, ask, hottest)
    if kind == "jetson":
        return _jetson(root, ask, hottest)
    return SensorReading(*_named(hottest), throttle_bits=firmware_word(root), power_mode=governor(root))


def _raspberry_pi(root: Path, ask: Tool, hottest: tuple[str, float] | None) -> SensorReading:
    word = firmware_word(root)
    if word is None:
        word = parse_throttled(ask(("vcgencmd", "get_throttled")) or "")
    if hottest is None and (degrees := parse_vcgencmd_temperature(ask(("vcgencmd", "measure_temp")) or "")) is not None:
        hottest = ("vcgencmd", degrees)
    bits = throttle_union(word, supply_alarm(root))
    return SensorReading(*_named(hottest), throttle_bits=bits, power_mode=governor(root))


def _jetson(root: Path, ask: Tool, hottest: tuple[str, float] | None) -> SensorReading:
    statistics = ask(("tegrastats", "--interval", "100")) or ""
    if hottest is None:
        hottest = max(parse_tegrastats_temperatures(statistics).items(), key=lambda each: each[1], default=None)
    return SensorReading(
        *_named(hottest),
        throttle_bits=throttle_union(overcurrent_events(root), thermal_alerts(root)),
        power_mode=parse_nvpmodel(ask(("nvpmodel", "-q")) or "") or governor(root),
        watts=parse_tegrastats_watts(statistics),
    )


def _named(hottest: tuple[str, float] | None) -> tuple[float | None, str]:
    return (None, "") if hottest is None else (hottest[1], hottest[0])


# The parsers.


def parse_throttled(text: str) -> int | None:
    """Parse what `vcgencmd get_throttled` prints: "throttled=0x50005"."""
    found = re.search(r"throttled=(0x[0-9a-fA-F]{1,8})\b", text)
    return int(found.group(1), 16) if found else None


def parse_vcgencmd_temperature(text: str) -> float | None:
    """Parse what `vcgencmd measure_temp` prints, "temp=48.3'C", into degrees Celsius."""
    found = re.search(r"temp=(-?\d+(?:\.\d+)?)'C", text)
    return float(found.group(1)) if found else None


def parse_nvpmodel(text: str) -> str | None:
    """Parse what `nvpmodel -q` prints into the name of the power mode, "25W" or "MAXN"."""
    found = re.search(r"NV Power Mode:\s*(\S+)", text)
    return found.group(1) if found else None


def parse_tegrastats_temperatures(line: str) -> dict[str, float]:
    """Parse the sensors of a line of tegrastats, "cpu@46.125C" or "tj@50C/50C", into degrees Celsius by name.

    What is switched off (-256) and what states a constant (the Nano's PMIC) is left out.
    """
    found = {}
    for name, degrees in re.findall(r"\b([A-Za-z][\w-]*)@(-?\d+(?:\.\d+)?)C\b", line):
        if name.lower() not in _PLACEHOLDERS and _plausible(float(degrees)):
            found[name.lower()] = float(degrees)
    return found


def parse_tegrastats_watts(line: str) -> float | None:
    """Parse what the whole module draws now out of a line of tegrastats: "VDD_IN 4742mW/" or "POM_5V_IN 1388/"."""
    found = re.search(r"\b(?:VDD_IN|POM_5V_IN)\s+(\d+)(?:mW)?/", line)
    return int(found.group(1)) / 1000 if found else None


def _plausible(degrees: float) -> bool:
    return _PLAUSIBLE[0] <= degrees <= _PLAUSIBLE[1]


# The files.


def hottest_zone(root: Path = Path("/")) -> tuple[str, float] | None:
    """Find the hottest thermal zone of the kernel, else of the hardware monitors: its name and degrees Celsius."""
    found: dict[str, float] = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        name = _text(zone / "type") or zone.name
        _keep(found, name, zone / "temp")
    if not found:
        for sensor in sorted((root / "sys/class/hwmon").glob("hwmon*/temp*_input")):
            _keep(found, _text(sensor.parent / "name") or sensor.parent.name, sensor)
    return max(found.items(), key=lambda each: each[1], default=None)


def _keep(found: dict[str, float], name: str, path: Path) -> None:
    try:
        degrees = int(_text(path)) / 1000
    except ValueError:
        return
    if _plausible(degrees) and name.lower() not in _PLACEHOLDERS:
        found[name] = max(degrees, found.get(name, _ABSOLUTE_ZERO))


def firmware_word(root: Path = Path("/")) -> int | None:
    """Read the Raspberry Pi firmware's throttling word from the kernel; None where it does not show it."""
    for name in _FIRMWARE_WORDS:
        try:
            return int(_text(root / name), 16)
        except ValueError:
            continue
    return None


def supply_alarm(root: Path = Path("/")) -> int | None:
    """Read the kernel's under-voltage alarm of a Raspberry Pi (hwmon `rpi_volt`) as a throttling word."""
    for monitor in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        if _text(monitor / "name") == "rpi_volt" and (alarm := _text(monitor / "in0_lcrit_alarm")) in {"0", "1"}:
            return (1 | 1 << SINCE_BOOT) if alarm == "1" else 0
    return None


def overcurrent_events(root: Path = Path("/")) -> int | None:
    """Read a Jetson Orin's counters of supply events (hwmon `soctherm_oc`) as a throttling word of since boot.

    The first counts under-voltage, the others average and instantaneous over-current, at which the clocks are lowered
    (NVIDIA Jetson developer guide, platform power and performance).
    """
    counters = sorted((root / "sys/class/hwmon").glob("hwmon*/oc*_event_cnt"))
    if not counters:
        return None
    word = 0
    for counter in counters:
        if (_text(counter) or "0").strip("0"):
            word |= 1 << (SINCE_BOOT + (0 if counter.name.startswith("oc1_") else 2))
    return word


def thermal_alerts(root: Path = Path("/")) -> int | None:
    """Read a Jetson's alert cooling devices as a throttling word of now: one is active while its state is not 0."""
    word: int | None = None
    for device in sorted((root / "sys/class/thermal").glob("cooling_device*")):
        if _ALERTS.search(_text(device / "type")):
            active = _text(device / "cur_state") not in {"", "0"}
            word = (word or 0) | (1 << 2 if active else 0)
    return word


def governor(root: Path = Path("/")) -> str | None:
    """Read the frequency governor of the first processor: "performance", "ondemand", ..."""
    return _text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip(" \n\0")
    except OSError:
        return ""


def run_tool(command: Sequence[str], seconds: float = TOOL_SECONDS) -> str | None:
    """Run a tool until its first line, its end or the deadline; then end it. None when nothing came."""
    if shutil.which(command[0]) is None:
        return None
    try:
        # tegrastats never ends by itself.
        with subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            try:
                return _first_line(process, time.monotonic() + seconds)
            finally:
                process.kill()
    except OSError:
        return None


def _first_line(process: subprocess.Popen[bytes], deadline: float) -> str | None:
    stream = process.stdout
    if stream is None:
        return None
    read = b""
    while b"\n" not in read and (left := deadline - time.monotonic()) > 0:
        ready, _, _ = select.select([stream], [], [], left)
        if not ready or not (part := stream.read1(4096)):  # type: ignore[attr-defined]
            break
        read += part
    return read.decode("utf-8", errors="replace") or None

"""What a device is, how it fares, and what follows from that: filled in by `devices/`, read in `edge/`."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

THROTTLE_NOW: Final = MappingProxyType(
    {
        0: "the supply voltage is too low",
        1: "the processor's frequency is capped",
        2: "the processor is throttled",
        3: "the soft temperature limit is active",
    }
)
"""Bits of a throttling word that speak of now; the same bits plus 16 speak of since boot.

The layout is that of the Raspberry Pi firmware (`vcgencmd get_throttled`); other machines are translated into it."""

SINCE_BOOT: Final = 16


@dataclass(frozen=True, slots=True)
class ThermalLimits:
    """Degrees Celsius of the hottest sensor: from `slow` on the loop is slowed, from `stop` on it ends before harm.

    A slowed loop goes on at full speed once the temperature is `hysteresis` degrees below `slow`.
    """

    slow: float
    stop: float
    hysteresis: float = 3.0


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of one kind of device before anything is measured on it.

    `camera` is the camera it usually has, `runtimes` the order in which runtimes are tried, as (runtime, precision),
    `threads` and `batch` (pictures a run) what its processor is used best with, `sensors` where temperature and power
    are read ("raspberry-pi", "jetson" or "kernel").
    """

    name: str
    title: str
    camera: str
    runtimes: tuple[tuple[str, str], ...]
    threads: int
    batch: int
    sensors: str
    thermal: ThermalLimits
    matches: tuple[str, ...] = ()
    notes: str = ""


@dataclass(frozen=True, slots=True)
class SensorReading:
    """How the machine fares at one moment. What cannot be read is None, never a guess.

    `celsius` is the hottest sensor, `sensor` its name. `throttle_bits` is a word as `THROTTLE_NOW` describes.
    `power_mode` is the name of the power budget in force (Jetson) or the processor's frequency governor, `watts` what
    the whole module draws.
    """

    celsius: float | None = None
    sensor: str = ""
    throttle_bits: int | None = None
    power_mode: str | None = None
    watts: float | None = None

    @property
    def now(self) -> tuple[str, ...]:
        """What is wrong with supply or temperature now, in words."""
        return throttle_words(self.throttle_bits or 0)

    @property
    def since_boot(self) -> tuple[str, ...]:
        """What has been wrong since the machine was started, in words."""
        return throttle_words((self.throttle_bits or 0) >> SINCE_BOOT)


@dataclass(frozen=True, slots=True)
class Advice:
    """Whether the loop may go on: "run", "slow" (leave pauses) or "stop" (save and end), with the reason."""

    action: Literal["run", "slow", "stop"]
    reason: str


def throttle_words(bits: int) -> tuple[str, ...]:
    """Say what the low four bits of a throttling word mean."""
    return tuple(text for bit, text in THROTTLE_NOW.items() if bits >> bit & 1)


def throttle_union(*words: int | None) -> int | None:
    """Join the throttling words read around one piece of work; None when none could be read."""
    known = [word for word in words if word is not None]
    joined = 0
    for word in known:
        joined |= word
    return joined if known else None

"""Acts on the temperature: the loop asks before each field whether it may go on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from edge.core.device import Advice, SensorReading, ThermalLimits

SECONDS_BETWEEN_READINGS: Final = 2.0
"""A processor warms by less than a degree in that time, and a reading costs milliseconds."""


class ThermalGuard:
    """Says "run", "slow" or "stop" by the profile's limits.

    It slows from the limit `slow` on and until the temperature has fallen by the hysteresis, or while the machine
    throttles itself or lacks voltage; it stops from the limit `stop` on, and lets go on only once it is no longer hot
    enough to be slowed. A sensor that gave readings and then falls silent slows the loop: it is no proof of coolness.

    `read` reads the sensors; it is called at most every `seconds`, however often advice is asked for.
    """

    def __init__(
        self,
        limits: ThermalLimits,
        read: Callable[[], SensorReading],
        *,
        seconds: float = SECONDS_BETWEEN_READINGS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._read = read
        self._seconds = seconds
        self._clock = clock
        self._asked: float | None = None
        self._seen = False
        self._advice = Advice("run", "not measured yet")
        self.reading = SensorReading()

    def advice(self) -> Advice:
        """Say whether the loop may go on, and why. Never raises."""
        now = self._clock()
        if self._asked is None or now - self._asked >= self._seconds:
            self._asked = now
            self.reading = self._read()
            self._advice = self._judge(self.reading)
        return self._advice

    def _judge(self, reading: SensorReading) -> Advice:
        limits, celsius = self._limits, reading.celsius
        if celsius is None:
            if self._seen:
                return Advice("slow", "the temperature sensor no longer answers")
            return self._by_supply(reading, "this machine shows no temperature")
        self._seen = True
        was = self._advice.action
        cool = limits.slow - limits.hysteresis
        shown = f"{reading.sensor or 'the processor'} has {celsius:.0f} °C"
        if celsius >= limits.stop:
            return Advice("stop", f"{shown}, the limit is {limits.stop:.0f}")
        if was == "stop" and celsius >= cool:
            return Advice("stop", f"{shown}; it stops until it is below {cool:.0f}")
        if celsius >= limits.slow or (was == "slow" and self._by_temperature and celsius >= cool):
            self._by_temperature = True
            return Advice("slow", f"{shown}; at full speed again below {cool:.0f}")
        self._by_temperature = False
        return self._by_supply(reading, shown)

    _by_temperature = False
    """Whether the loop was slowed for the temperature: only then does it have to fall below the hysteresis."""

    @staticmethod
    def _by_supply(reading: SensorReading, shown: str) -> Advice:
        if reading.now:
            return Advice("slow", f"{'; '.join(reading.now)}; {shown}")
        return Advice("run", shown)

"""How fast this device is: the way of a cell, stage by stage, on simulated fields.

Medians over fields, since a shared or throttled processor makes single times wander. Rendering is not counted.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import msgspec

from edge.core.device import SINCE_BOOT, SensorReading, throttle_union
from edge.core.errors import LeukoError, NothingToDoError, UsageError
from edge.core.types import FieldFailure, Frame, RuntimeInfo
from edge.health.machine import Machine, describe, resident_memory

if TYPE_CHECKING:
    from edge.inference.classifier import Classifier

STAGES: Final = ("flatfield", "locate", "quality", "crop", "classify")
"""What a field goes through, in the order of `edge.session`."""

_Result = TypeVar("_Result")
_MAX_REFERENCE_BYTES = 1 << 16

Limit = Annotated[float, msgspec.Meta(gt=0)]


@dataclass(frozen=True, slots=True)
class FieldTimes:
    """One field: milliseconds by stage, as the clock on the wall and as the processor counts them, and its cells.

    The two differ where other programs take the processor away, and where a stage runs on several threads.
    """

    milliseconds: Mapping[str, float]
    processor_milliseconds: Mapping[str, float]
    cells: int


@dataclass(frozen=True, slots=True)
class Speed:
    """What was measured. Times are in milliseconds, memory in units of 10^6 bytes (None where it cannot be read).

    `stages` are of the clock on the wall, `stages_processor` of the processor: where they are far apart, other programs
    were running.

    `milliseconds_per_cell` is of the stages crop and classify, over the fields that had cells; None when none had.
    `milliseconds_per_field_p95` is what 95 of 100 fields stay below. `cells_per_second` counts all stages.
    `celsius_highest` and `throttle_bits` are of the sensors during the run: `throttled` when supply or temperature were
    out of order at any moment of it, None where this machine does not say.
    """

    machine: Machine
    bundle: str
    runtime: RuntimeInfo
    fields: int
    cells: int
    stages: Mapping[str, float]
    stages_processor: Mapping[str, float]
    milliseconds_per_field: float
    milliseconds_per_cell: float | None
    fields_per_second: float
    resident_megabytes: float | None
    peak_megabytes: float | None
    milliseconds_per_field_p95: float | None = None
    cells_per_second: float | None = None
    celsius_highest: float | None = None
    throttle_bits: int | None = None
    throttled: bool | None = None
    power_mode: str | None = None


@dataclass(slots=True)
class Watch:
    """Reads the sensors between fields, `read` at most every `seconds`: a reading must not slow what it watches."""

    read: Callable[[], SensorReading]
    seconds: float = 1.0
    readings: list[SensorReading] = dataclass_field(default_factory=list)
    _last: float | None = None

    def look(self) -> None:
        """Read the sensors, if it is time."""
        now = time.monotonic()
        if self._last is None or now - self._last >= self.seconds:
            self._last = now
            self.readings.append(self.read())

    @property
    def celsius_highest(self) -> float | None:
        """The highest temperature seen."""
        return max((each.celsius for each in self.readings if each.celsius is not None), default=None)

    @property
    def throttle_bits(self) -> int | None:
        """All throttling words joined."""
        return throttle_union(*(each.throttle_bits for each in self.readings))

    @property
    def throttled(self) -> bool | None:
        """Whether supply or temperature were out of order at any reading, or have been since the first."""
        words = [each.throttle_bits for each in self.readings if each.throttle_bits is not None]
        if not words:
            return None
        return any(word & 0xF for word in words) or bool((words[-1] & ~words[0]) >> SINCE_BOOT)


class Reference(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A reference file: what a device must reach. What is left out is not judged.

    `basis` says where the figures come from. A device that was throttled falls short of every reference.
    """

    basis: str = ""
    milliseconds_per_field: Limit | None = None
    milliseconds_per_field_p95: Limit | None = None
    milliseconds_per_cell: Limit | None = None
    fields_per_second: Limit | None = None
    cells_per_second: Limit | None = None
    resident_megabytes: Limit | None = None
    peak_megabytes: Limit | None = None
    stages: dict[str, Limit] = {}


def time_field(frame: Frame, classifier: Classifier) -> FieldTimes:
    """Take one field through the stages of `edge.session.analyse_field`, and time each."""
    from edge.imaging import flatfield
    from edge.imaging.crop import cut
    from edge.imaging.locate import locate
    from edge.imaging.quality import assess
    from edge.inference.classifier import cut_wider

    wall: dict[str, float] = {}
    processor: dict[str, float] = {}

    def timed(stage: str, work: Callable[[], _Result]) -> _Result:
        started, started_processor = time.perf_counter(), time.process_time()
        result = work()
        wall[stage] = 1000 * (time.perf_counter() - started)
        processor[stage] = 1000 * (time.process_time() - started_processor)
        return result

    preprocessing = classifier.manifest.preprocessing
    corrected = timed("flatfield", lambda: flatfield.correct(frame.image))
    cells = timed("locate", lambda: locate(corrected))
    timed("quality", lambda: assess(frame.image, corrected, cells, None))
    crops = timed("crop", lambda: [cut(corrected, cell, preprocessing.size, preprocessing.margin) for cell in cells])
    boxes = [cell.box for cell in cells]
    wider = cut_wider(corrected, cells, preprocessing)
    calls = timed("classify", lambda: classifier.classify(crops, boxes, with_activation=True, wider=wider))
    return FieldTimes(wall, processor, len(calls))


def measure(
    frames: Iterable[Frame | FieldFailure],
    classifier: Classifier,
    on_field: Callable[[int], None] | None = None,
    watch: Watch | None = None,
) -> Speed:
    """Time every frame but the first, which warms the caches, on as many threads as the classifier's runtime uses.

    `watch` reads the sensors between fields. Raises NothingToDoError with fewer than two frames.
    """
    import cv2

    timed: list[FieldTimes] = []
    threads_before = cv2.getNumThreads()
    cv2.setNumThreads(classifier.runtime.info.threads)
    try:
        for number, frame in enumerate(frames):
            if watch is not None:
                watch.look()
            if isinstance(frame, Frame):
                timed.append(time_field(frame, classifier))
            if on_field is not None:
                on_field(number + 1)
    finally:
        cv2.setNumThreads(threads_before)
    if len(timed) < 2:
        raise NothingToDoError(
            "bench-no-fields", "Fewer than two fields could be timed.", "Ask for more with --fields."
        )
    if watch is not None:
        watch.readings.append(watch.read())
    return summarise(timed[1:], classifier, watch)


def summarise(times: list[FieldTimes], classifier: Classifier, watch: Watch | None = None) -> Speed:
    """Condense the times of the fields into medians."""
    totals = [sum(field.milliseconds.values()) for field in times]
    per_cell = [
        (field.milliseconds["crop"] + field.milliseconds["classify"]) / field.cells for field in times if field.cells
    ]
    median = statistics.median(totals)
    resident, peak = resident_memory()
    return Speed(
        machine=describe(),
        bundle=classifier.manifest.identity,
        runtime=classifier.runtime.info,
        fields=len(times),
        cells=sum(field.cells for field in times),
        stages={stage: statistics.median(field.milliseconds[stage] for field in times) for stage in STAGES},
        stages_processor={
            stage: statistics.median(field.processor_milliseconds[stage] for field in times) for stage in STAGES
        },
        milliseconds_per_field=median,
        milliseconds_per_cell=statistics.median(per_cell) if per_cell else None,
        fields_per_second=1000 / median,
        resident_megabytes=None if resident is None else resident / 1e6,
        peak_megabytes=None if peak is None else peak / 1e6,
        milliseconds_per_field_p95=sorted(totals)[math.ceil(0.95 * len(totals)) - 1],
        cells_per_second=1000 * sum(field.cells for field in times) / sum(totals),
        celsius_highest=None if watch is None else watch.celsius_highest,
        throttle_bits=None if watch is None else watch.throttle_bits,
        throttled=None if watch is None else watch.throttled,
        power_mode=watch.readings[-1].power_mode if watch is not None and watch.readings else None,
    )


def read_reference(path: Path) -> Reference:
    """Read a reference file (JSON). Raises UsageError when it is missing or not understood."""
    try:
        with path.open("rb") as stream:
            reference = msgspec.json.decode(stream.read(_MAX_REFERENCE_BYTES), type=Reference)
    except OSError as error:
        raise UsageError("reference-unreadable", f"{path} cannot be read: {error}.", "Check --reference.") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        names = ", ".join(Reference.__struct_fields__)
        raise UsageError(
            "reference-invalid",
            f"{path} is not a reference file: {error}.",
            f"Write a JSON object with any of {names}.",
        ) from error
    if unknown := sorted(set(reference.stages) - set(STAGES)):
        raise UsageError(
            "reference-invalid", f"{path} names the stage {unknown[0]!r}.", f"The stages are {', '.join(STAGES)}."
        )
    return reference


def shortfalls(speed: Speed, reference: Reference) -> tuple[str, ...]:
    """Say in what the device falls short of the reference; a figure that could not be measured falls short too."""
    found = ["it was throttled during the run"] if speed.throttled else []
    for name, limit in msgspec.structs.asdict(reference).items():
        if name == "basis":
            continue
        if name == "stages":
            pairs = [(f"{stage} (ms)", speed.stages[stage], ceiling) for stage, ceiling in limit.items()]
        else:
            pairs = [(name, getattr(speed, name), limit)] if limit is not None else []
        for label, value, bound in pairs:
            at_least = name in {"fields_per_second", "cells_per_second"}
            if value is None or (value < bound if at_least else value > bound):
                measured = "not measured" if value is None else f"{value:.4g}"
                found.append(
                    f"{label} is {measured}, the reference is {'at least' if at_least else 'at most'} {bound:g}"
                )
    return tuple(found)


def require(speed: Speed, reference: Reference) -> None:
    """Raise LeukoError when the device falls short of the reference."""
    if found := shortfalls(speed, reference):
        raise LeukoError(
            "bench-short",
            f"This device falls short of the reference: {'; '.join(found)}.",
            "Close other programs, see `leuko doctor` for throttling, or use a faster device.",
        )

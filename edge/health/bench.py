"""How fast this device is: the way of a cell, stage by stage, on simulated fields.

Medians over fields, since a shared or throttled processor makes single times wander. Rendering is not counted.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import msgspec

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


class Reference(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A reference file: what a device must reach. What is left out is not judged."""

    milliseconds_per_field: Limit | None = None
    milliseconds_per_cell: Limit | None = None
    fields_per_second: Limit | None = None
    resident_megabytes: Limit | None = None
    peak_megabytes: Limit | None = None
    stages: dict[str, Limit] = {}


def time_field(frame: Frame, classifier: Classifier) -> FieldTimes:
    """Take one field through the stages of `edge.session.analyse_field`, and time each."""
    from edge.imaging import flatfield
    from edge.imaging.crop import cut
    from edge.imaging.locate import locate
    from edge.imaging.quality import assess

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
    calls = timed("classify", lambda: classifier.classify(crops, boxes, with_activation=True))
    return FieldTimes(wall, processor, len(calls))


def measure(
    frames: Iterable[Frame | FieldFailure],
    classifier: Classifier,
    on_field: Callable[[int], None] | None = None,
) -> Speed:
    """Time every frame but the first, which warms the caches, on as many threads as the classifier's runtime uses.

    Raises NothingToDoError with fewer than two frames.
    """
    import cv2

    timed: list[FieldTimes] = []
    threads_before = cv2.getNumThreads()
    cv2.setNumThreads(classifier.runtime.info.threads)
    try:
        for number, frame in enumerate(frames):
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
    return summarise(timed[1:], classifier)


def summarise(times: list[FieldTimes], classifier: Classifier) -> Speed:
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
    found = []
    for name, limit in msgspec.structs.asdict(reference).items():
        if name == "stages":
            pairs = [(f"{stage} (ms)", speed.stages[stage], ceiling) for stage, ceiling in limit.items()]
        else:
            pairs = [(name, getattr(speed, name), limit)] if limit is not None else []
        for label, value, bound in pairs:
            at_least = name == "fields_per_second"
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

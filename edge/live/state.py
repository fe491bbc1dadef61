"""What a live session shows. Whoever shows it (terminal, page) reads these frozen values and nothing else.

`LiveSession.state()` hands out a new `LiveState` at any moment without waiting for anything, so that a slow reader
never slows the loop. `edge.live.stored` makes the same value of a session of another process, from its journal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

from edge.core.labels import LABELS
from edge.core.types import Box, ClockReading, Differential

Phase = Literal["starting", "running", "paused", "interrupted", "finished", "aborted", "failed"]
"""Where a session stands.

    starting      bundle and camera are being opened
    running       fields are taken
    paused        by a person, or because a disk or camera needs help (`LiveState.trouble` says which): `resume` goes on
    interrupted   its process is gone without an end (power cut, kill): `leuko session resume` goes on
    finished      the result is saved; `LiveState.result` is its id
    aborted       ended by a person, no result
    failed        ended by an error, which `LiveState.trouble` names; what was journalled can be resumed
"""

ENDED: Final = frozenset({"finished", "aborted", "failed"})
"""Phases that a session does not leave by itself."""

ExposureHint = Literal["unknown", "good", "too-dark", "too-bright"]


def _nothing() -> Mapping[str, int]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class FieldCounts:
    """What became of the fields, each in exactly one of accepted, refused, unreadable and dropped.

    `seen` is their sum. `unchanged` are the accepted fields that brought no new cell: they leave no entry in the
    journal. `saved` are the accepted ones that are safely in it: only these survive a power cut, and once the disk has
    everything `saved` is `accepted` less `unchanged`. `refusals` counts the reasons of the quality gate (one field may
    have several), `drops` why frames were
    not looked at: "busy" (the loop was behind the camera) or "storage" (the journal was behind the loop).
    """

    seen: int = 0
    accepted: int = 0
    refused: int = 0
    unreadable: int = 0
    dropped: int = 0
    unchanged: int = 0
    saved: int = 0
    refusals: Mapping[str, int] = field(default_factory=_nothing)
    drops: Mapping[str, int] = field(default_factory=_nothing)


@dataclass(frozen=True, slots=True)
class CellCounts:
    """Cells counted once each. `counted` is the sum of the five classes; `other` is outside of it.

    `repeated` sightings of a cell counted before are not in any of them. `saved` counts the cells, `other` among them,
    that are safely in the journal.
    """

    classes: Mapping[str, int] = field(default_factory=lambda: MappingProxyType(dict.fromkeys(LABELS, 0)))
    other: int = 0
    repeated: int = 0
    saved: int = 0

    @property
    def counted(self) -> int:
        """Cells of the five classes."""
        return sum(self.classes.values())


@dataclass(frozen=True, slots=True)
class LiveCell:
    """A cell of the last field. `box` is in pixels of the full field; `probability` that of `label`, 0..1.

    `repeated` cells were counted in an earlier field.
    """

    box: Box
    label: str
    probability: float
    abstained: bool
    repeated: bool


@dataclass(frozen=True, slots=True)
class LastField:
    """The field seen last. `jpeg` is a preview with boxes and labels drawn in, at most 640 pixels on its longer side.

    `number` counts frames of the session from 0; a reader whose number is the same needs not draw again.
    """

    number: int
    source: str
    width: int
    height: int
    accepted: bool
    reasons: tuple[str, ...]
    cells: tuple[LiveCell, ...]
    jpeg: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Guide:
    """What helps at the microscope.

    `focus` is 0..1 for a bar: 1 is as sharp as this site's reference (or as the sharpest field of this session), 0 no
    edge at all, None while nothing can be judged. `focus_trend` is 1 while it gets sharper, -1 while it gets worse.
    `exposure` is what to do with the light; `exposure_level` the brightness of the blank slide, 0..1.
    """

    focus: float | None = None
    focus_trend: Literal[-1, 0, 1] = 0
    exposure: ExposureHint = "unknown"
    exposure_level: float | None = None


@dataclass(frozen=True, slots=True)
class Advice:
    """One sentence for the person at the microscope. `code` is stable kebab-case, for translation.

    Codes: turn-focus, more-light, less-light, clean-slide, check-stain, move-on, move-slower, no-cells-here,
    camera-lost, storage-full, storage-slow, too-hot, slowed-down, undervoltage, clock-jumped, drift, count-more.
    """

    code: str
    message: str
    severe: bool = False


@dataclass(frozen=True, slots=True)
class Trouble:
    """The error a session is paused or failed for."""

    code: str
    message: str
    cure: str


@dataclass(frozen=True, slots=True)
class LiveState:
    """One moment of a live session.

    `session` is its id (a UUIDv7, also that of the result). `target` is the number of cells of the five classes at
    which it ends by itself; `precision`, where given, ends it once every class's 95 % interval is at most that many
    percentage points to either side. `differential` has no percentages below 100 cells, as everywhere. `started` is
    the first start, `running_seconds` the time spent running, over all resumes. `result` is the id of the saved record,
    None before.
    """

    session: str
    phase: Phase
    sample: str
    operator: str
    camera: str
    target: int
    precision: float | None
    started: ClockReading
    running_seconds: float
    fields: FieldCounts
    cells: CellCounts
    differential: Differential
    fields_per_second: float = 0.0
    last: LastField | None = None
    guide: Guide = field(default_factory=Guide)
    advice: tuple[Advice, ...] = ()
    calibration: str | None = None
    trouble: Trouble | None = None
    result: str | None = None

    @property
    def ended(self) -> bool:
        """Whether the session will not go on by itself."""
        return self.phase in ENDED

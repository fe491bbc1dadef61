"""What a person asks for when a session starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edge.core.errors import UsageError

TARGETS: Final = (100, 200, 400)
"""Cells of a screening, a differential and a reference count (edge.core.differential)."""

PRECISIONS: Final = (1.0, 25.0)
"""Narrowest and widest half-width of an interval that may be asked for, in percentage points."""


@dataclass(frozen=True, slots=True)
class SessionOrder:
    """Sample, camera and when to stop.

    `camera` is a kind with its settings, "simulated:seed=7,cells=5". `target` is one of `TARGETS`. `precision`, in
    percentage points, ends the session earlier once every class's 95 % Wilson interval is that narrow to either side,
    but never below 100 cells. `stack` is how many frames in a row show one field at that many focal planes, of which
    the sharpest is used; 1 where there is no such stage. Raises UsageError for values out of range.
    """

    sample: str
    camera: str
    operator: str = ""
    target: int = 200
    precision: float | None = None
    stack: int = 1

    def __post_init__(self) -> None:
        if not self.sample.strip():
            raise UsageError("sample-missing", "The session names no sample.", "Give the sample's id: --sample ID.")
        if not self.camera.strip():
            raise UsageError("camera-missing", "The session names no camera.", "For example --camera simulated:seed=7.")
        if self.target not in TARGETS:
            raise UsageError(
                "bad-target", f"A session does not count to {self.target} cells.", "Choose 100, 200 or 400."
            )
        if not 1 <= self.stack <= 50:
            raise UsageError("bad-stack", f"A stack of {self.stack} planes cannot be used.", "Choose 1 to 50 planes.")
        if self.precision is not None and not PRECISIONS[0] <= self.precision <= PRECISIONS[1]:
            raise UsageError(
                "bad-precision",
                f"A precision of {self.precision:g} percentage points cannot be asked for.",
                f"Choose {PRECISIONS[0]:g} to {PRECISIONS[1]:g}.",
            )

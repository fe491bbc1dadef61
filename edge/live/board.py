"""The board on which the threads of a session write what they know, and from which anyone reads its state."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from edge.core.differential import differential
from edge.core.types import BundleOrigin, ClockReading
from edge.live.guide import unique
from edge.live.order import SessionOrder
from edge.live.state import Advice, CellCounts, FieldCounts, LastField, LiveState, Phase, Trouble
from edge.live.tally import Tally
from edge.session import stamped

_RATE_FIELDS: Final = 24
_TALLIES: Final = ("refused", "unreadable", "dropped", "unchanged")


class Board:
    """Counts of one session and its present `LiveState`. Every method may be called from any thread; none waits.

    `saved_before` and `tallies` are what the journal of a resumed session has.
    """

    def __init__(self, session: str, order: SessionOrder, started: ClockReading, calibration: str | None) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._refusals: Counter[str] = Counter()
        self._drops: Counter[str] = Counter()
        self._standing: dict[str, Advice] = {}
        self._moment: tuple[Advice, ...] = ()
        self._times: deque[float] = deque(maxlen=_RATE_FIELDS)
        self._ran = 0.0
        self._running_since: float | None = None
        self._counted = differential(())
        self._origin: BundleOrigin | None = None
        self._state = LiveState(
            session=session,
            phase="starting",
            sample=order.sample,
            operator=order.operator,
            camera=order.camera,
            target=order.target,
            precision=order.precision,
            started=started,
            running_seconds=0.0,
            fields=FieldCounts(),
            cells=CellCounts(),
            differential=self._counted,
            calibration=calibration,
        )

    @property
    def state(self) -> LiveState:
        """The present state."""
        return self._state

    def bundle(self, origin: BundleOrigin) -> None:
        """Say where the trust in the bundle is from: with one that nobody signed every count has the flag."""
        with self._lock:
            self._origin = origin
            self._publish()

    def restore(self, tallies: Mapping[str, Any], saved_fields: int, saved_cells: int, ran: float) -> None:
        """Take over what the journal of a resumed session has."""
        with self._lock:
            for name in (*_TALLIES, "repeated"):
                self._counts[name] = int(tallies.get(name, 0))
            self._refusals.update(tallies.get("refusals", {}))
            self._drops.update(tallies.get("drops", {}))
            self._counts["saved"], self._counts["saved_cells"] = saved_fields, saved_cells
            self._counts["accepted"] = saved_fields + self._counts["unchanged"]
            self._origin = self._origin or tallies.get("bundle_origin")
            self._ran = ran
            self._publish()

    def phase(self, phase: Phase, trouble: Trouble | None = None) -> None:
        """Enter a phase."""
        with self._lock:
            now = time.monotonic()
            if self._running_since is not None:
                self._ran += now - self._running_since
            self._running_since = now if phase == "running" else None
            self._times.clear()
            self._state = replace(self._state, phase=phase, trouble=trouble)
            self._publish()

    def fixed(self, phase: Phase) -> None:
        """Say in which phase a session of another process is."""
        with self._lock:
            self._state = replace(self._state, phase=phase)

    def result(self, identifier: str) -> None:
        """Say which record holds the result."""
        with self._lock:
            self._state = replace(self._state, result=identifier)

    def dropped(self, why: str) -> None:
        """Count a frame that was not looked at."""
        with self._lock:
            self._counts["dropped"] += 1
            self._drops[why] += 1
            self._publish()

    def unreadable(self) -> None:
        """Count a frame that arrived damaged."""
        with self._lock:
            self._counts["unreadable"] += 1
            self._publish()

    def refused(self, reasons: Sequence[str]) -> None:
        """Count a field that the quality gate refused."""
        with self._lock:
            self._counts["refused"] += 1
            self._refusals.update(reasons)

    def accepted(self, repeated: int, new: int) -> None:
        """Count an accepted field with so many repeated and new cells."""
        with self._lock:
            self._counts["accepted"] += 1
            self._counts["unchanged"] += new == 0
            self._counts["repeated"] += repeated

    def saved(self, fields: int, cells: int) -> None:
        """Count fields and cells that the disk has now."""
        with self._lock:
            self._counts["saved"] += fields
            self._counts["saved_cells"] += cells
            self._publish()

    def stand(self, code: str, advice: Advice | None) -> None:
        """Put up, or take down (None), advice that stands until what it is for is over."""
        with self._lock:
            if advice is None:
                self._standing.pop(code, None)
            else:
                self._standing[code] = advice
            self._publish()

    def show(self, last: LastField, tally: Tally, guide: Any, advice: tuple[Advice, ...]) -> None:
        """Publish the field seen last with the count as it stands."""
        with self._lock:
            self._times.append(time.monotonic())
            self._moment = advice
            self._state = replace(self._state, last=last, guide=guide)
            self._publish(tally)

    def count(self, tally: Tally) -> None:
        """Publish a count."""
        with self._lock:
            self._publish(tally)

    def tallies(self) -> tuple[dict[str, Any], float]:
        """Give what the journal keeps beside the fields, and the seconds run so far."""
        with self._lock:
            kept: dict[str, Any] = {name: self._counts[name] for name in (*_TALLIES, "repeated")}
            kept |= {"refusals": dict(self._refusals), "drops": dict(self._drops), "bundle_origin": self._origin}
            return kept, self._seconds()

    def _seconds(self) -> float:
        return self._ran + (time.monotonic() - self._running_since if self._running_since is not None else 0.0)

    def _publish(self, tally: Tally | None = None) -> None:
        counts = self._counts
        fields = FieldCounts(
            seen=sum(counts[name] for name in ("accepted", "refused", "unreadable", "dropped")),
            accepted=counts["accepted"],
            refused=counts["refused"],
            unreadable=counts["unreadable"],
            dropped=counts["dropped"],
            unchanged=counts["unchanged"],
            saved=counts["saved"],
            refusals=MappingProxyType(dict(self._refusals)),
            drops=MappingProxyType(dict(self._drops)),
        )
        cells = replace(self._state.cells, repeated=counts["repeated"], saved=counts["saved_cells"])
        if tally is not None:
            self._counted = tally.differential
            cells = replace(cells, classes=tally.classes, other=tally.other)
        counted = self._counted if self._origin is None else stamped(self._counted, self._origin)
        state = replace(self._state, fields=fields, cells=cells, differential=counted)
        span = self._times[-1] - self._times[0] if len(self._times) > 1 else 0.0
        self._state = replace(
            state,
            running_seconds=self._seconds(),
            fields_per_second=(len(self._times) - 1) / span if span > 0 else 0.0,
            advice=unique([*self._standing.values(), *self._moment]),
        )

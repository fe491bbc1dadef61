"""The one live session of this device: started, steered and watched by the page; its numbers as JSON."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from edge.core.errors import UsageError
from edge.core.labels import LABELS

if TYPE_CHECKING:
    from edge.live.control import SessionControl
    from edge.live.order import SessionOrder
    from edge.live.state import LiveState

Starter = Callable[["SessionOrder"], "SessionControl"]
Resumer = Callable[[str], "SessionControl"]

STEPS: Final = ("pause", "resume", "finish", "abort")
"""What a person may do with a session that runs."""


class LiveDesk:
    """Holds the session that runs. Every method may be called from any thread."""

    def __init__(self, start: Starter, resume: Resumer) -> None:
        self._start = start
        self._resume = resume
        self._lock = threading.Lock()
        self._session: SessionControl | None = None

    def state(self) -> LiveState | None:
        """The state of the session that runs or has run last; None before the first."""
        session = self._session
        return None if session is None else session.state()

    @property
    def running(self) -> bool:
        """Whether a session runs that has not ended."""
        state = self.state()
        return state is not None and not state.ended

    def start(self, order: SessionOrder) -> None:
        """Start a session. Raises `UsageError` `session-running`, or what starting it raises."""
        self._begin(lambda: self._start(order))

    def go_on(self, identifier: str) -> None:
        """Go on with a session that a power cut interrupted. Raises as `start` does."""
        self._begin(lambda: self._resume(identifier))

    def step(self, name: str) -> None:
        """Pause, resume, finish or abort. Raises `UsageError` `no-session` or `step-unknown`."""
        session = self._session
        if session is None:
            raise UsageError("no-session", "No session runs.", "Start one first.")
        if name not in STEPS:
            raise UsageError("step-unknown", f"A session cannot {name}.", f"Use one of: {', '.join(STEPS)}.")
        getattr(session, name)()

    def close(self, seconds: float = 20.0) -> None:
        """Pause a session that runs, since the page goes away. Its journal stays: it can be gone on with."""
        session = self._session
        if session is not None and not session.state().ended:
            session.pause()
            session.wait(min(seconds, 0.5))

    def _begin(self, make: Callable[[], SessionControl]) -> None:
        with self._lock:
            if self.running:
                raise UsageError(
                    "session-running", "A session runs already on this device.", "Finish or abort it first."
                )
            self._session = make()


def state_document(state: LiveState) -> dict[str, Any]:
    """What the page shows of a session, as JSON. Percentages and limits are 0-100, null while not claimed."""
    last = state.last
    return {
        "session": state.session,
        "phase": state.phase,
        "ended": state.ended,
        "sample": state.sample,
        "operator": state.operator,
        "camera": state.camera,
        "target": state.target,
        "precision": state.precision,
        "seconds": round(state.running_seconds, 1),
        "counted": state.cells.counted,
        "other": state.cells.other,
        "repeated": state.cells.repeated,
        "saved": state.cells.saved,
        "tier": state.differential.tier,
        "flags": list(state.differential.flags),
        "classes": [_share(state, label) for label in LABELS],
        "fields": {
            "seen": state.fields.seen,
            "accepted": state.fields.accepted,
            "refused": state.fields.refused,
            "unreadable": state.fields.unreadable,
            "dropped": state.fields.dropped,
            "unchanged": state.fields.unchanged,
            "saved": state.fields.saved,
        },
        "rate": round(state.fields_per_second, 1),
        "focus": state.guide.focus,
        "focusTrend": state.guide.focus_trend,
        "exposure": state.guide.exposure,
        "advice": [{"code": each.code, "message": each.message, "severe": each.severe} for each in state.advice],
        "trouble": None
        if state.trouble is None
        else {"code": state.trouble.code, "message": state.trouble.message, "cure": state.trouble.cure},
        "result": state.result,
        "last": None
        if last is None
        else {
            "number": last.number,
            "accepted": last.accepted,
            "reasons": list(last.reasons),
            "width": last.width,
            "height": last.height,
            "cells": [
                {
                    "label": cell.label,
                    "probability": round(cell.probability, 3),
                    "abstained": cell.abstained,
                    "repeated": cell.repeated,
                }
                for cell in last.cells
            ],
        },
    }


def _share(state: LiveState, label: str) -> dict[str, Any]:
    share = state.differential.classes[label]
    interval = share.wilson
    return {
        "label": label,
        "count": share.count,
        "percent": None if share.percent is None else round(share.percent, 1),
        "low": None if interval is None else round(100 * interval.low, 1),
        "high": None if interval is None else round(100 * interval.high, 1),
    }

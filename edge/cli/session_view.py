"""How a live session looks in a terminal: a panel that is drawn anew where there is one, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from edge.cli import output
from edge.core.labels import LABELS
from edge.core.types import UNSIGNED_BUNDLE

if TYPE_CHECKING:
    from edge.live.control import SessionControl
    from edge.live.state import LiveState

_REDRAW_SECONDS = 0.2
_BAR = 24
_TRENDS = {1: " better", -1: " worse", 0: ""}
_UNSIGNED = "unsigned bundle: nobody has signed the model that counts"
_KEYS = "keys: p pause, r resume, f finish and save, a abort"


def watch(session: SessionControl) -> LiveState:
    """Show a session until it has ended; give its last state."""
    if sys.stderr is not None and sys.stderr.isatty():
        return _watch_panel(session)
    return _watch_lines(session)


def _watch_lines(session: SessionControl) -> LiveState:
    """One line whenever something was saved, or something else a reader should know has changed."""
    output.note(f"session {session.state().session}")
    told: tuple[object, ...] = ()
    while True:
        state = session.wait(_REDRAW_SECONDS)
        news = (
            state.phase,
            state.fields.saved,
            state.trouble,
            tuple(each.code for each in state.advice if each.severe),
        )
        if news != told:
            told = news
            output.note(line(state))
        if state.ended:
            return state


def line(state: LiveState) -> str:
    """The state in one line. What stands after "saved" is safe."""
    fields, cells = state.fields, state.cells
    parts = [
        f"{state.phase}: {cells.counted} of {state.target} cells",
        f"saved {fields.saved} fields {cells.saved} cells",
        f"seen {fields.seen}, refused {fields.refused}, dropped {fields.dropped}, unreadable {fields.unreadable}",
    ]
    if UNSIGNED_BUNDLE in state.differential.flags:
        parts.append(_UNSIGNED)
    parts += [each.message for each in state.advice if each.severe]
    if state.trouble is not None:
        parts.append(f"[{state.trouble.code}] {state.trouble.message} {state.trouble.cure}")
    return "; ".join(parts)


def _watch_panel(session: SessionControl) -> LiveState:
    try:
        from rich.console import Console
        from rich.live import Live
    except ImportError:
        return _watch_lines(session)
    with _keys() as pressed, Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:
        while True:
            state = session.wait(_REDRAW_SECONDS)
            for key in pressed():
                action = {"p": session.pause, "r": session.resume, "f": session.finish, "a": session.abort}.get(key)
                if action is not None:
                    action()
            live.update(_panel(text(state) + f"\n\n{_KEYS}"), refresh=True)
            if state.ended:
                return state


def _panel(content: str) -> Any:
    from rich.panel import Panel
    from rich.text import Text

    return Panel(Text(content), title="leuko session", expand=False)


@contextlib.contextmanager
def _keys() -> Iterator[Any]:
    """Give a function that returns the keys pressed since it was last asked; none where there is no keyboard."""
    if sys.stdin is None or not sys.stdin.isatty():
        yield lambda: ""
        return
    import os
    import select
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def pressed() -> str:
        keys = ""
        while select.select([descriptor], [], [], 0)[0]:
            read = os.read(descriptor, 16)
            if not read:
                break
            keys += read.decode("ascii", "ignore").lower()
        return keys

    try:
        tty.setcbreak(descriptor)
        yield pressed
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def text(state: LiveState) -> str:
    """The state as a small table: what a person at the microscope wants to know."""
    counts = state.differential
    rows = [["class", "count", "percent", "95 % interval"]]
    for label in LABELS:
        share = counts.classes[label]
        claimed = share.percent is not None and share.wilson is not None
        rows.append(
            [
                label,
                str(share.count),
                f"{share.percent:.1f}" if claimed else "-",
                f"{100 * share.wilson.low:.1f} - {100 * share.wilson.high:.1f}" if share.wilson is not None else "-",
            ]
        )
    rows.append(["other", str(state.cells.other), "", ""])
    fields = state.fields
    lines = [
        f"session {state.session}",
        f"sample {state.sample}   {state.phase}   {_clock(state.running_seconds)}   "
        f"{state.fields_per_second:.1f} fields/s",
        "",
        f"{_bar(state.cells.counted / state.target)} {state.cells.counted} of {state.target} cells",
        f"{_bar(state.guide.focus)} focus{_TRENDS[state.guide.focus_trend]}",
        f"light: {state.guide.exposure}",
        "",
        output.table(rows, right=(1, 2)),
        "",
        f"fields: {fields.seen} seen, {fields.accepted} accepted, {fields.refused} refused, "
        f"{fields.unreadable} unreadable, {fields.dropped} dropped",
        f"saved: {fields.saved} fields, {state.cells.saved} cells; {state.cells.repeated} sightings of counted cells",
    ]
    if fields.refusals:
        lines.append("refused: " + ", ".join(f"{reason} {count}" for reason, count in sorted(fields.refusals.items())))
    if fields.drops:
        lines.append("dropped: " + ", ".join(f"{reason} {count}" for reason, count in sorted(fields.drops.items())))
    if UNSIGNED_BUNDLE in state.differential.flags:
        lines.append(f"! {_UNSIGNED}")
    lines += [("! " if each.severe else "- ") + each.message for each in state.advice]
    if state.trouble is not None:
        lines.append(f"! [{state.trouble.code}] {state.trouble.message} {state.trouble.cure}")
    if state.result is not None:
        lines.append(f"result {state.result}")
    return "\n".join(lines)


def _bar(share: float | None) -> str:
    if share is None:
        return "[" + " " * _BAR + "]"
    full = round(_BAR * max(0.0, min(1.0, share)))
    return "[" + "#" * full + "-" * (_BAR - full) + "]"


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(seconds))


def document(state: LiveState) -> dict[str, Any]:
    """The state as JSON: `leuko session status --json`."""
    fields, cells = state.fields, state.cells
    return {
        "session": state.session,
        "phase": state.phase,
        "sample": state.sample,
        "operator": state.operator,
        "camera": state.camera,
        "target": state.target,
        "precision": state.precision,
        "started": state.started.wall,
        "running_seconds": round(state.running_seconds, 1),
        "fields": {
            "seen": fields.seen,
            "accepted": fields.accepted,
            "refused": fields.refused,
            "unreadable": fields.unreadable,
            "dropped": fields.dropped,
            "unchanged": fields.unchanged,
            "saved": fields.saved,
            "refusals": dict(fields.refusals),
            "drops": dict(fields.drops),
        },
        "cells": {
            "counted": cells.counted,
            "classes": dict(cells.classes),
            "other": cells.other,
            "repeated": cells.repeated,
            "saved": cells.saved,
        },
        "flags": list(state.differential.flags),
        "calibration": state.calibration,
        "trouble": None if state.trouble is None else {"code": state.trouble.code, "message": state.trouble.message},
        "result": state.result,
    }

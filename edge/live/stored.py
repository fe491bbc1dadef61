"""The state of a session of another process, or of one that was cut off, from its journal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edge.imaging.quality import QualityReference
from edge.live import drawing, guide
from edge.live.board import Board
from edge.live.lock import is_running
from edge.live.order import SessionOrder
from edge.live.state import LastField, LiveCell, LiveState, Phase
from edge.live.tally import Tally
from edge.store.journal import JournalSession, SessionJournal


def order_of(session: JournalSession) -> SessionOrder:
    """What was asked for when a session was started."""
    return SessionOrder(
        session.sample, session.camera, session.operator, session.target, session.precision, session.stack
    )


def phase_of(session: JournalSession, locks: Path) -> Phase:
    """Where a session stands: one that no process works on and that has not ended is "interrupted"."""
    if session.phase in {"finished", "aborted"}:
        return session.phase
    if is_running(locks, session.id):
        return session.phase
    return "interrupted"


def state_of(
    journal: SessionJournal,
    identifier: str,
    locks: Path,
    ranges: Mapping[str, tuple[float, float]],
    reference: QualityReference | None = None,
) -> LiveState:
    """Make the state of a session from what the disk has of it: everything in it is saved.

    Of a finished session the pictures are in its result alone.
    Raises `StoreError` `no-session`.
    """
    session = journal.session(identifier)
    board = Board(identifier, order_of(session), session.started, session.calibration)
    tally = Tally(ranges, reference)
    fields = cells = 0
    for entry in journal.fields(identifier, previews=0):
        tally.add(entry.field.quality, [cell.call for cell in entry.field.cells])
        fields, cells = fields + 1, cells + len(entry.field.cells)
    board.restore(session.tallies, fields, cells, session.running_seconds)
    number = journal.last_number(identifier)
    if number is None:
        board.count(tally)
    else:
        field = journal.field(identifier, number).field
        shown = tuple(
            LiveCell(cell.call.box, cell.call.label, max(cell.call.probabilities), cell.call.abstained, False)
            for cell in field.cells
        )
        jpeg = b"" if field.preview is None else drawing.drawn(field.preview, field.preview_scale, shown)
        last = LastField(number, field.source, field.width, field.height, True, (), shown, jpeg)
        board.show(last, tally, guide.guide(field.quality, tally.reference, None, None), ())
    if session.phase == "finished":
        board.result(identifier)
    phase = phase_of(session, locks)
    # A board that runs would count on by its own clock.
    board.fixed(phase)
    return board.state

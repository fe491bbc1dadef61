"""`leuko session`: count live from a camera, resume what was cut off, see what there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from edge.cli import output

if TYPE_CHECKING:
    from edge.config import Config
    from edge.live.session import LiveSession
    from edge.live.state import LiveState

app = typer.Typer(help="Count live from a camera.", no_args_is_help=True)

_Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")]
_Identifier = Annotated[str, typer.Argument(help="Id of the session; the latest where none is given.", metavar="[ID]")]


@app.command()
def start(  # noqa: PLR0917 - the options of a command
    camera: Annotated[str, typer.Option(help="Camera: simulated:seed=7, replay:FOLDER, ...", show_default=False)],
    sample: Annotated[str, typer.Option(help="Sample identifier.", show_default=False)],
    target: Annotated[int, typer.Option(help="Cells to count: 100, 200 or 400.")] = 200,
    precision: Annotated[
        float | None,
        typer.Option(help="Stop earlier, once all 95 % intervals are within so many percentage points.", metavar="PP"),
    ] = None,
    stack: Annotated[int, typer.Option(help="Frames of one field at so many focal planes: the sharpest is used.")] = 1,
    json: _Json = False,
) -> None:
    """Start a session: fields from a camera, counted as they come, until the target is reached."""
    from edge import app as application
    from edge import config
    from edge.live.order import SessionOrder

    settings = config.load()
    order = SessionOrder(sample, camera, settings.operator, target, precision, stack)
    _follow(application.start_session(order, settings), settings, json)


@app.command()
def resume(identifier: _Identifier = "", json: _Json = False) -> None:
    """Go on with a session that was cut off; its count goes on."""
    from edge import app as application
    from edge import config

    settings = config.load()
    _follow(application.resume_session(identifier or _latest(settings), settings), settings, json)


@app.command()
def abort(identifier: _Identifier = "") -> None:
    """End a session that was cut off, without a result. What it counted stays in the journal."""
    from edge import app as application
    from edge import config

    settings = config.load()
    found = identifier or _latest(settings)
    application.abort_session(found, settings)
    output.answer(f"aborted {found}")


@app.command("list")
def list_sessions(json: _Json = False) -> None:
    """All sessions of this device, the latest first."""
    from edge import app as application
    from edge import config

    found = application.sessions(config.load())
    if json:
        output.answer_json(
            [
                {
                    "session": session.id,
                    "phase": phase,
                    "sample": session.sample,
                    "operator": session.operator,
                    "camera": session.camera,
                    "target": session.target,
                    "started": session.started.wall,
                }
                for session, phase in found
            ]
        )
    elif found:
        rows = [["session", "phase", "sample", "camera", "target", "started"]]
        rows += [
            [each.id, phase, each.sample, each.camera, str(each.target), each.started.wall] for each, phase in found
        ]
        output.answer(output.table(rows, right=(4,)))
    else:
        output.note("No session was ever started here.")


@app.command()
def status(identifier: _Identifier = "", json: _Json = False) -> None:
    """What the journal has of a session: all of it survives a power cut."""
    from edge import app as application
    from edge import config
    from edge.cli.session_view import document, text

    settings = config.load()
    state = application.session_state(identifier or _latest(settings), settings)
    if json:
        output.answer_json(document(state))
    else:
        output.answer(text(state))


def _latest(settings: Config) -> str:
    from edge import app as application
    from edge.core.errors import NothingToDoError

    found = application.sessions(settings)
    for session, phase in found:
        if phase not in {"finished", "aborted"}:
            return session.id
    if found:
        return found[0][0].id
    raise NothingToDoError("no-session", "No session was ever started here.", "Start one: leuko session start.")


def _follow(session: LiveSession, settings: Config, json: bool) -> None:
    """Show a running session until it has ended, then its result."""
    from edge.cli.session_view import watch
    from edge.core.errors import LeukoError, NothingToDoError

    identifier = session.state().session
    try:
        state = watch(session)
    except BaseException:
        output.note(f"What is saved is kept; go on with: leuko session resume {identifier}")
        raise
    if state.phase == "failed" and state.trouble is not None:
        if state.fields.saved:
            output.note(f"What is saved is kept; go on with: leuko session resume {identifier}")
        raise LeukoError(state.trouble.code, state.trouble.message, state.trouble.cure)
    if state.phase == "aborted":
        raise NothingToDoError(
            "session-aborted", f"Session {identifier} was aborted; there is no result.", "Start another one."
        )
    _answer(state, settings, json)
    raise typer.Exit(1 if state.fields.unreadable else 0)


def _answer(state: LiveState, settings: Config, json: bool) -> None:
    from edge import app as application

    with application.open_store(settings, read_only=True) as store:
        record = store.get(state.result or state.session)
    if record is None:
        return
    output.note(f"saved {record.id} (sample {record.sample})")
    if json:
        output.answer_json(record.document)
    else:
        output.answer(output.summary(record, settings.ranges.by_label()))

"""`leuko control`: the quality control that patient counts rest on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.cli import output

if TYPE_CHECKING:
    from edge.control.schedule import ControlEvent, Standing

app = typer.Typer(
    help="Quality control: run the reference set, see how it stands, override its lock.", no_args_is_help=True
)

Operator = Annotated[str, typer.Option(help="Who does this; the configuration's operator when not given.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.command()
def run(
    operator: Operator = "",
    result: Annotated[
        str, typer.Option(help="A stored result of the control slide, to be judged instead of the set's pictures.")
    ] = "",
    if_due: Annotated[
        float | None,
        typer.Option(
            help="For a schedule: only where it is due within so many hours and no session runs.", metavar="HOURS"
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Run the control and log its verdict. Exit code 0 when it has passed, 3 when it has failed."""
    from edge import app as root
    from edge import config
    from edge.control import run as control
    from edge.review import desk

    settings = config.load()
    who = operator or settings.operator
    if if_due is not None:
        scheduled = control.run_when_due(settings, who or "schedule", if_due)
        if scheduled is None:
            output.note(f"nothing to do: {control.status(settings).says}")
            return
        event = scheduled
    elif result:
        with root.open_store(settings, read_only=True) as store:
            record = desk.find(store, result)
        event = control.judge_result(settings, record, who)
    else:
        event = control.run(settings, who)
    if json:
        output.answer_json(event_document(event))
    else:
        output.answer(f"{'passed' if event.passed else 'FAILED'}: {event.set_name}: {event.finding}")
    if not event.passed:
        output.note("  Check light, focus, stain and lens, run `leuko doctor`, and run the control again.")
        raise typer.Exit(3)


@app.command()
def status(json: Json = False) -> None:
    """Tell whether patients may be counted now, and the log. Exit code 0 when they may, 3 when it is locked."""
    from edge import config
    from edge.control import run as control

    settings = config.load()
    standing = control.status(settings)
    events = control.events(settings)
    if json:
        output.answer_json({**standing_document(standing), "log": [event_document(event) for event in events]})
    else:
        output.answer(f"{'LOCKED' if standing.locked else 'open'}: {standing.says} Reference set: {standing.set_name}.")
        if standing.due_in_hours is not None:
            output.answer(
                f"due in {standing.due_in_hours:.1f} h"
                if standing.due_in_hours > 0
                else f"overdue by {-standing.due_in_hours:.1f} h"
            )
        for event in events[-20:]:
            said = event.finding if event.event == "run" else f"{event.hours:g} h: {event.reason}"
            word = ("passed" if event.passed else "FAILED") if event.event == "run" else "OVERRIDE"
            output.answer(f"  {event.recorded.wall[:16].replace('T', ' ')} UTC  {word:8}  {event.operator}  {said}")
    if standing.locked:
        raise typer.Exit(3)


@app.command()
def override(
    reason: Annotated[str, typer.Option(help="Why patients are counted without a control; kept in the log.")] = "",
    operator: Operator = "",
    hours: Annotated[int, typer.Option(help="For how long, 1 to 24.")] = 4,
) -> None:
    """Open the locked patient mode for some hours; who did, and why, is kept in the log for ever."""
    from edge import config
    from edge.control import run as control

    settings = config.load()
    event = control.override(settings, operator or settings.operator, reason, hours)
    output.answer(f"overridden for {event.hours:g} h by {event.operator}")


def standing_document(standing: Standing) -> dict[str, Any]:
    """Give how the control stands as JSON."""
    return {
        "code": standing.code,
        "locked": standing.locked,
        "says": standing.says,
        "set": standing.set_name,
        "due_in_hours": standing.due_in_hours,
    }


def event_document(event: ControlEvent) -> dict[str, Any]:
    """Give one entry of the log as JSON."""
    return {
        "event": event.event,
        "passed": event.passed if event.event == "run" else None,
        "set": event.set_name,
        "finding": event.finding,
        "operator": event.operator,
        "reason": event.reason,
        "hours": event.hours,
        "bundle_sha256": event.bundle,
        "recorded": event.recorded.wall,
        "clock": event.recorded.tier,
    }

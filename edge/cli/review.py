"""`leuko review`: look at a stored result's doubtful cells, correct them, sign the result, tell its history."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.cli import output

if TYPE_CHECKING:
    from datetime import date

    from edge.core.types import ResultRecord
    from edge.review.desk import Step
    from edge.review.worklist import ReviewCell
    from edge.store.search import Summary

app = typer.Typer(help="Review, correct and sign stored results.", no_args_is_help=True)

Result = Annotated[
    str, typer.Argument(help="Id of a result, the start of one, or a sample (its newest result).", metavar="RESULT")
]
Operator = Annotated[str, typer.Option(help="Who does this; the configuration's operator when not given.")]
Reason = Annotated[str, typer.Option(help="Why, in a few words; kept in the audit chain.")]
Version = Annotated[
    int | None, typer.Option(help="Version that was looked at; refused when there is a newer one.", min=1)
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Day of the analysis, UTC.")]


@app.command("list")
def list_(  # noqa: PLR0917  # options, given by name
    text: Annotated[str, typer.Argument(help="Part of a sample, or the start of an id.", show_default=False)] = "",
    everything: Annotated[bool, typer.Option("--all", help="Also those that are signed.")] = False,
    status: Annotated[str, typer.Option(help="preliminary, final or corrected.")] = "",
    since: Day = None,
    until: Day = None,
    limit: Annotated[int, typer.Option(help="Results to list.", min=1, max=500)] = 50,
    json: Json = False,
) -> None:
    """List the results that wait for a person, the newest first."""
    from edge import app as root
    from edge import config
    from edge.store.search import Query

    query = Query(
        text=text,
        status=status,
        since=_day(since),
        until=_day(until),
        waiting=not (everything or status),
        limit=limit,
    )
    with root.open_store(config.load(), read_only=True) as store:
        found = store.search(query)
    if json:
        output.answer_json([summary_document(each) for each in found])
        return
    if not found:
        output.answer("No result matches." if text or everything or status else "No result waits for a review.")
        return
    rows = [["id", "sample", "status", "counted", "other", "created (UTC)"]]
    for each in found:
        counted = "altered" if each.counted is None else str(each.counted)
        rows.append(
            [
                each.id,
                each.sample,
                f"{each.status} v{each.version}",
                counted,
                "-" if each.other is None else str(each.other),
                each.created[:16].replace("T", " "),
            ]
        )
    output.answer(output.table(rows, right=(3, 4)))


@app.command()
def show(
    result: Result,
    everything: Annotated[bool, typer.Option("--all", help="Every cell, not the doubtful ones alone.")] = False,
    pictures: Annotated[Path | None, typer.Option(help="Write the listed cells' pictures to this folder.")] = None,
    json: Json = False,
) -> None:
    """Show a result and the cells to look at: unclassified first, then uncertain, with what they resemble."""
    from edge import app as root
    from edge import config
    from edge.review import desk
    from edge.review.worklist import doubtful, worklist

    settings = config.load()
    with root.open_store(settings, read_only=True) as store:
        record = desk.find(store, result)
    cells = worklist(record)
    chosen = cells if everything else doubtful(cells)
    if json:
        output.answer_json(review_document(record, chosen))
    else:
        output.answer(f"result {record.id}, version {record.version}, {record.status}")
        output.answer(output.summary(record, settings.ranges.by_label()))
        output.answer("")
        output.answer(_cells_text(chosen, len(cells)))
    if pictures is not None:
        output.note(f"{_write_pictures(record, chosen, pictures)} pictures in {pictures}")


@app.command()
def relabel(  # noqa: PLR0917  # options, given by name
    result: Result,
    cells: Annotated[
        list[str], typer.Argument(help="What each cell is: FIELD.CELL=CLASS, as 3.2=monocyte.", metavar="CELL=CLASS...")
    ],
    reason: Reason = "",
    operator: Operator = "",
    version: Version = None,
    json: Json = False,
) -> None:
    """Call cells by hand: saves the next version of the result, with its differential counted anew."""
    from edge import app as root
    from edge import config
    from edge.review import desk
    from edge.review.places import change

    settings = config.load()
    changes = [change(text) for text in cells]
    with root.open_store(settings) as store:
        found = desk.find(store, result)
        record = desk.correct(
            store,
            found.id,
            changes,
            version=version,
            operator=operator or settings.operator,
            reason=reason,
            ranges=settings.ranges.by_label(),
        )
    output.note(f"saved {record.id} as version {record.version} ({record.status})")
    if json:
        output.answer_json(record.document)
    else:
        output.answer(output.summary(record, settings.ranges.by_label()))


@app.command()
def sign(
    result: Result,
    reason: Reason = "",
    operator: Operator = "",
    version: Version = None,
) -> None:
    """Sign a result: it becomes final, as its next version, and is written into the audit chain."""
    from edge import app as root
    from edge import config
    from edge.review import desk

    settings = config.load()
    with root.open_store(settings) as store:
        found = desk.find(store, result)
        record = desk.sign(
            store,
            found.id,
            version=version or found.version,
            operator=operator or settings.operator,
            reason=reason,
        )
        link = store.trail(record.id)[-1].link
    output.note(f"signed by {record.operator}: {record.id} is final as version {record.version}")
    output.answer(link)


@app.command()
def history(result: Result, json: Json = False) -> None:
    """Tell every version of a result: who saved, corrected and signed it, when, why, and what changed."""
    from edge import app as root
    from edge import config
    from edge.review import desk

    with root.open_store(config.load(), read_only=True) as store:
        found = desk.find(store, result)
        steps = desk.history(store, found.id)
    if json:
        output.answer_json({"id": found.id, "sample": found.sample, "steps": [step_document(step) for step in steps]})
        return
    output.answer(f"result {found.id}, sample {found.sample}")
    for step in steps:
        moment = step.recorded.wall[:16].replace("T", " ")
        clock = "" if step.recorded.tier != "unknown" else " (clock not verified)"
        output.answer(
            f"  v{step.version}  {step.event:9}  {moment} UTC{clock}  {step.operator or 'no operator'}"
            f"  {step.counted} counted, {step.other} other"
        )
        if step.reason:
            output.answer(f"      reason: {step.reason}")
        for line in step.changed:
            output.answer(f"      {line}")


def summary_document(found: Summary) -> dict[str, Any]:
    """Give one listed result as JSON."""
    return {
        "id": found.id,
        "version": found.version,
        "sample": found.sample,
        "operator": found.operator,
        "device": found.device,
        "created": found.created,
        "clock": found.clock_tier,
        "status": found.status,
        "counted": found.counted,
        "other": found.other,
        "tier": found.tier,
        "flags": list(found.flags),
        "altered": found.altered,
    }


def review_document(record: ResultRecord, cells: tuple[ReviewCell, ...]) -> dict[str, Any]:
    """Give a result's worklist as JSON."""
    return {
        "id": record.id,
        "version": record.version,
        "sample": record.sample,
        "status": record.status,
        "differential": record.document["differential"],
        "cells": [_cell_document(cell) for cell in cells],
    }


def step_document(step: Step) -> dict[str, Any]:
    """Give one version of a history as JSON."""
    return {
        "version": step.version,
        "event": step.event,
        "operator": step.operator,
        "reason": step.reason,
        "recorded": step.recorded.wall,
        "clock": step.recorded.tier,
        "status": step.status,
        "counted": step.counted,
        "other": step.other,
        "changed": list(step.changed),
        "link": step.link,
    }


def _cell_document(cell: ReviewCell) -> dict[str, Any]:
    box = cell.box
    return {
        "cell": str(cell.place),
        "box": [box.x, box.y, box.width, box.height],
        "label": cell.label,
        "counted_as": cell.group,
        "doubt": cell.doubt,
        "reason": cell.reason,
        "probabilities": dict(cell.probabilities),
        "resembles": [cell.pair.first, cell.pair.second],
        "telling_apart": cell.pair.telling,
        "reviewed_by": None if cell.hand is None else cell.hand.operator,
        "model_label": cell.label if cell.hand is None else cell.hand.model_label,
    }


def _cells_text(cells: tuple[ReviewCell, ...], total: int) -> str:
    if not cells:
        return f"None of the {total} cells needs a second look by itself. The count as a whole still needs one."
    rows = [["cell", "counted as", "why look", "resembles", "by hand"]]
    for cell in cells:
        pair = cell.pair
        rows.append(
            [
                str(cell.place),
                cell.group,
                cell.reason
                or {"unclassified": "not one of the five", "uncertain": "uncertain", "none": ""}[cell.doubt],
                f"{pair.first} {pair.first_probability:.2f} / {pair.second} {pair.second_probability:.2f}",
                "" if cell.hand is None else f"{cell.hand.operator} (model: {cell.hand.model_label})",
            ]
        )
    return f"{len(cells)} of {total} cells:\n" + output.table(rows)


def _write_pictures(record: ResultRecord, cells: tuple[ReviewCell, ...], folder: Path) -> int:
    from edge.core import durable
    from edge.core.errors import StoreError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            "folder-not-writable", f"The folder {folder} cannot be made: {error.strerror}.", "Choose another one."
        ) from None
    wanted = {(cell.place.field, cell.place.cell): str(cell.place) for cell in cells}
    written = 0
    for picture in record.pictures:
        if picture.cell is not None and (name := wanted.get((picture.field, picture.cell))):
            durable.write_bytes(folder / f"{name}-{picture.kind}.jpg", picture.jpeg)
            written += 1
    return written


def _day(moment: datetime | None) -> date | None:
    return None if moment is None else moment.date()

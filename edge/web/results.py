"""Results: search, one result with its gallery, its cells to review, corrections, signature, history, files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edge.core.errors import NothingToDoError, StoreError, UsageError
from edge.core.labels import LABELS, OTHER
from edge.core.types import ResultRecord
from edge.report.view import ReportView, reading, view
from edge.review import desk, files
from edge.review.places import change, place
from edge.review.worklist import ReviewCell, doubtful, worklist
from edge.store.search import Query, Summary
from edge.web.guard import form, json_body, session_of
from edge.web.render import go, page
from edge.web.site import site_of

PAGE_SIZE: Final = 20
LONGEST_REASON: Final = 500

_FILES: Final = {
    "html": ("text/html; charset=utf-8", "html"),
    "pdf": ("application/pdf", "pdf"),
    "csv": ("text/csv; charset=utf-8", "csv"),
    "cells": ("text/csv; charset=utf-8", "csv"),
    "json": ("application/json", "json"),
}
# The report brings its own, stricter policy, in which its two style sheets are named by hash; here it may show styles.
_REPORT_POLICY: Final = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; sandbox allow-modals allow-popups allow-top-navigation-by-user-activation"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a differential. `low` and `high` are the 95 % Wilson limits; figures are 0-100 or None."""

    label: str
    count: int
    percent: float | None
    low: float | None
    high: float | None
    reference: tuple[float, float]
    reading: str | None


def overview(request: Request) -> Response:
    """List results, newest first, by what the search asks for."""
    query, asked = _query(request)
    found: tuple[Summary, ...] = ()
    try:
        with site_of(request).store() as store:
            found = store.search(query)
    except StoreError as problem:
        if problem.code not in {"no-store", "older-schema"}:
            raise
    number = query.offset // PAGE_SIZE
    return page(
        request,
        "results.html",
        found=found[:PAGE_SIZE],
        more=len(found) > PAGE_SIZE,
        number=number,
        asked=asked,
    )


def result(request: Request) -> Response:
    """One result: its differential, its cells by class, its fields, and what can be done with it."""
    site, record = site_of(request), _record(request)
    seen = view(record)
    cells = worklist(record)
    with site.store() as store:
        steps = desk.history(store, record.id)
    return page(
        request,
        "result.html",
        record=record,
        seen=seen,
        rows=rows(seen, site.config.ranges.by_label()),
        groups=_groups(cells),
        waiting=doubtful(cells),
        steps=steps,
        latest=steps[-1].version,
        pdf=_can_print(),
        ranges_of=site.config.ranges.profile,
    )


def review(request: Request) -> Response:
    """The cells to look at, one by one, each beside its field."""
    record = _record(request)
    cells = worklist(record)
    waiting = doubtful(cells)
    chosen = request.query_params.get("cell", "")
    group = request.query_params.get("class", "")
    listed = waiting if waiting and not chosen and not group else cells
    if group in {*LABELS, OTHER}:
        listed = tuple(cell for cell in cells if cell.group == group)
    start = next((number for number, cell in enumerate(listed) if chosen and cell.place == place(chosen)), 0)
    return page(
        request,
        "review.html",
        record=record,
        waiting=len(waiting),
        data={
            "id": record.id,
            "version": record.version,
            "start": start,
            "cells": [_cell_data(cell) for cell in listed],
            "fields": _fields_data(record, {cell.place.field for cell in listed}, cells),
        },
        total=len(listed),
    )


async def relabel(request: Request) -> Response:
    """Save a person's calls as the next version; answers with JSON."""
    from starlette.concurrency import run_in_threadpool

    sent = await json_body(request)
    changes = sent.get("changes")
    version = sent.get("version")
    if not isinstance(changes, list) or not isinstance(version, int):
        raise UsageError("form-incomplete", "The changes were not understood.", "Reload the page and try again.")
    operator = _operator(request, str(sent.get("operator", "")))
    wanted = [change(f"{each.get('cell')}={each.get('label')}") for each in changes if isinstance(each, dict)]
    site = site_of(request)

    def save() -> ResultRecord:
        with site.store(read_only=False) as store:
            return desk.correct(
                store,
                request.path_params["id"],
                wanted,
                version=version,
                operator=operator,
                reason=str(sent.get("reason", ""))[:LONGEST_REASON],
                ranges=site.config.ranges.by_label(),
            )

    record = await run_in_threadpool(save)
    return JSONResponse(
        {"version": record.version, "status": record.status, "differential": record.document["differential"]}
    )


async def sign(request: Request) -> Response:
    """Sign the version that was looked at."""
    from starlette.concurrency import run_in_threadpool

    sent = await form(request)
    operator = _operator(request, sent.get("operator", ""))
    identifier, site = request.path_params["id"], site_of(request)
    version = sent.get("version", "")
    if not version.isdecimal():
        raise UsageError("form-incomplete", "The form names no version.", "Reload the page and try again.")

    def save() -> ResultRecord:
        with site.store(read_only=False) as store:
            return desk.sign(
                store,
                identifier,
                version=int(version),
                operator=operator,
                reason=sent.get("reason", "")[:LONGEST_REASON],
            )

    record = await run_in_threadpool(save)
    return go(request, f"/results/{record.id}", "Signed as final.")


def picture(request: Request) -> Response:
    """One picture of a version: a field, a cell or its class activation."""
    wanted = request.path_params
    record = site_of(request).record(wanted["id"], wanted["version"])
    cell = None if wanted["kind"] == "field" else wanted["cell"]
    for each in record.pictures:
        if (each.kind, each.field, each.cell) == (wanted["kind"], wanted["field"], cell):
            # A version never changes; the browser of one person may keep its pictures for the session.
            return Response(each.jpeg, 200, {"cache-control": "private, max-age=3600"}, "image/jpeg")
    raise NothingToDoError("no-picture", "No such picture was kept.", "The numbers of the cell are in the list.")


def file(request: Request) -> Response:
    """A result as a file: the report (HTML, PDF), the differential or the cells (CSV), the record (JSON)."""
    kind = request.path_params["kind"]
    if kind not in _FILES:
        raise UsageError("export-option", f"A result is not written as {kind}.", f"Use one of: {', '.join(_FILES)}.")
    record = _record(request)
    media, ending = _FILES[kind]
    content = files.exported(record, site_of(request).config, kind)
    name = f"{record.id}-v{record.version}{'-cells' if kind == 'cells' else ''}.{ending}"
    shown = "inline" if kind in {"html", "pdf"} else "attachment"
    headers = {"content-disposition": f'{shown}; filename="{name}"'}
    if kind == "html":
        headers["content-security-policy"] = _REPORT_POLICY
    return Response(content, 200, headers, media)


def rows(seen: ReportView, ranges: Mapping[str, tuple[float, float]]) -> list[Row]:
    """The rows of a differential as the report reads them."""
    return [
        Row(
            share.label,
            share.count,
            share.percent,
            None if share.wilson is None else share.wilson[0],
            None if share.wilson is None else share.wilson[1],
            ranges[share.label],
            reading(share, ranges.get(share.label)),
        )
        for share in seen.shares
    ]


def _record(request: Request) -> ResultRecord:
    version = request.query_params.get("version", "")
    return site_of(request).record(request.path_params["id"], int(version) if version.isdecimal() else None)


def _operator(request: Request, named: str) -> str:
    """Who acts, remembered for the next form; the page takes the name as it is given."""
    operator = named.strip()[:120]
    if operator:
        session_of(request).operator = operator
    return operator


def _query(request: Request) -> tuple[Query, dict[str, str]]:
    asked = {name: request.query_params.get(name, "")[:200] for name in ("text", "status", "since", "until", "page")}
    number = int(asked["page"]) if asked["page"].isdecimal() and len(asked["page"]) < 6 else 0
    try:
        since, until = (date.fromisoformat(asked[name]) if asked[name] else None for name in ("since", "until"))
    except ValueError:
        raise UsageError("search-invalid", "That is no date.", "Write it as 2026-11-24.") from None
    query = Query(
        text=asked["text"],
        status="" if asked["status"] == "waiting" else asked["status"],
        since=since,
        until=until,
        waiting=asked["status"] == "waiting",
        limit=PAGE_SIZE + 1,
        offset=number * PAGE_SIZE,
    )
    return query, asked


def _groups(cells: tuple[ReviewCell, ...]) -> dict[str, list[ReviewCell]]:
    """The cells by class, what needs review first, the least certain first within each."""
    groups: dict[str, list[ReviewCell]] = {}
    for label in (OTHER, *LABELS):
        if found := sorted((cell for cell in cells if cell.group == label), key=lambda cell: cell.pair.lead):
            groups[label] = found
    return groups


def _cell_data(cell: ReviewCell) -> dict[str, Any]:
    return {
        "cell": str(cell.place),
        "field": cell.place.field,
        "index": cell.place.cell,
        "label": cell.label,
        "group": cell.group,
        "doubt": cell.doubt,
        "reason": cell.reason,
        "probabilities": {label: round(p, 3) for label, p in cell.probabilities},
        "pair": [cell.pair.first, cell.pair.second],
        "telling": cell.pair.telling,
        "activation": cell.has_activation,
        "hand": None if cell.hand is None else {"operator": cell.hand.operator, "model": cell.hand.model_label},
    }


def _fields_data(record: ResultRecord, wanted: set[int], cells: tuple[ReviewCell, ...]) -> dict[str, Any]:
    kept = {each.field for each in record.pictures if each.kind == "field"}
    fields: dict[str, Any] = {
        str(number): {
            "width": record.document["fields"][number]["width"],
            "height": record.document["fields"][number]["height"],
            "picture": number in kept,
            "boxes": [],
        }
        for number in wanted
    }
    for cell in cells:
        if cell.place.field in wanted:
            box = cell.box
            fields[str(cell.place.field)]["boxes"].append(
                [cell.place.cell, cell.group, box.x, box.y, box.width, box.height]
            )
    return fields


def _can_print() -> bool:
    from edge.report import pdf

    return pdf.browser() is not None

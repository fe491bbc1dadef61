"""A result as one self-contained HTML file: no script, no request, readable on a phone, on a screen and on paper."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from string import Template

from edge.core.types import ResultRecord
from edge.report import gallery, stamp, table
from edge.report.text import escape, isolated, moment, style_string
from edge.report.view import ReportView, view
from edge.report.wording import CLOCK, RESEARCH_USE, STATUS


def render(
    record: ResultRecord,
    *,
    ranges: Mapping[str, tuple[float, float]],
    range_profile: str,
    validated: Sequence[str] = (),
) -> str:
    """Give the whole report as HTML text, to be written as UTF-8.

    `ranges` are reference ranges in percent per class and `range_profile` says whose they are; a class without one is
    shown without a reading. `validated` names the sites on which the model was evaluated. Everything in the record is
    treated as hostile text. The same record always gives the same bytes.

    Raises:
        KeyError, TypeError or ValueError when `record.document` is not the document of `analyze`.
    """
    seen = view(record)
    style = _text("report.css")
    paper = _paper(record)
    clock, clock_says = CLOCK.get(record.created.tier, CLOCK["unknown"])
    status, status_says = STATUS.get(record.status, STATUS["preliminary"])
    return Template(_text("report.html")).substitute(
        policy=_policy(style, paper),
        style=style,
        paper=paper,
        title=f"{escape(record.sample)} \u2013 white-cell differential",
        sample=isolated(record.sample),
        status=status,
        status_says=status_says,
        status_class=record.status if record.status in STATUS else "preliminary",
        version=record.version,
        date=escape(moment(record.created.wall)),
        clock=clock,
        clock_says=clock_says,
        clock_class="unsure" if record.created.tier not in {"network", "rtc"} else "sure",
        operator=isolated(record.operator),
        device=isolated(record.device),
        record_id=escape(record.id),
        bundle=stamp.bundle(record),
        research_use=RESEARCH_USE,
        sums=table.sums(seen),
        answer=table.answer(seen),
        differential=table.differential(seen, ranges, range_profile),
        flags=stamp.flags(record, seen),
        gallery=gallery.gallery(seen),
        fields=gallery.fields(seen),
        refused=stamp.refused(seen),
        stamp=stamp.stamp(record, seen),
        limits=stamp.limits(record, seen, validated),
        contents=_contents(seen),
    )


def _text(name: str) -> str:
    return files("edge.report").joinpath(name).read_text(encoding="utf-8")


def _paper(record: ResultRecord) -> str:
    """Page margins that carry the sample on every sheet: sheets get separated."""
    stamp_of = f"{style_string(record.status)}, {style_string(record.id)} v{int(record.version)}"
    places = {
        "top-left": f'"{style_string(record.sample)}"',
        "top-right": f'"{stamp_of}"',
        "bottom-left": f'"{RESEARCH_USE}"',
        "bottom-right": 'counter(page) " / " counter(pages)',
    }
    margins = "".join(
        f"@{place}{{font:8pt Arial,'Liberation Sans',sans-serif;color:#4d5b68;content:{content}}}"
        for place, content in places.items()
    )
    return f"@page{{size:A4;margin:16mm 14mm 17mm;{margins}}}"


def _policy(*styles: str) -> str:
    """Nothing may be loaded or run; the two style sheets of this file are named by their hashes."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(style.encode('utf-8')).digest()).decode('ascii')}'"
        for style in styles
    )
    return f"default-src 'none'; img-src data:; style-src {hashes}; base-uri 'none'; form-action 'none'"


def _contents(seen: ReportView) -> str:
    turned_away = len(seen.rejected) + len(seen.failures)
    links = (
        ("differential", "Differential", None),
        ("flags", "Flags", None),
        ("cells", "Cells", len(seen.cells)),
        ("fields", "Fields", len(seen.accepted)),
        ("refused", "Refused", turned_away),
        ("stamp", "Stamp", None),
        ("limits", "Limits", None),
    )
    return "".join(
        f'<a href="#{anchor}">{name}{"" if count is None else f" <small>{count}</small>"}</a>'
        for anchor, name, count in links
    )

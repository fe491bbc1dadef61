"""The answer and the differential table: markup with one small drawing per class."""

from __future__ import annotations

from collections.abc import Mapping

from edge.core.labels import LABELS, OTHER
from edge.report.text import escape, many, number, plain, span
from edge.report.view import CLAIM_FROM, ReportView, ShareView, reading
from edge.report.wording import LETTERS, NAMES, TIERS

_SCALES = (2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 80.0, 100.0)
_READINGS = {
    "within": "within range",
    "above": "above range",
    "below": "below range",
    "indeterminate": "indeterminate \u2013 count more",
}
_GLYPHS = {"within": "●", "above": "▲", "below": "▼", "indeterminate": "○"}
_MILESTONES = (100, 200, 400)


def chip(group: str) -> str:
    """Show the letter of a class on its colour. Decorative: the name always stands beside it."""
    return f'<span class="chip c-{group}" aria-hidden="true">{LETTERS[group]}</span>'


def answer(view: ReportView) -> str:
    """Open the report: how many cells, which tier, and what may be said."""
    tier = TIERS[view.tier]
    withheld = view.countable and not view.claimable
    name = f"{tier.name}, shares withheld" if withheld else tier.name
    says = (
        "Enough cells were counted, but too many objects need review: class shares are withheld and only the counts "
        "may be reported."
        if withheld
        else tier.says
    )
    missing = next((m for m in _MILESTONES if view.counted < m), None)
    more = ""
    if missing is not None and not withheld:
        goal = {100: "a screening count", 200: "a differential count", 400: "a reference count"}[missing]
        more = f" {many(missing - view.counted, 'more cell')} would make it {goal}."
    facts = [
        (str(len(view.accepted)), "field analysed" if len(view.accepted) == 1 else "fields analysed"),
        (str(len(view.rejected)), "refused by the quality gate"),
        (str(len(view.failures)), "could not be read"),
        (_review_figure(view), "need review" if view.other != 1 else "needs review"),
    ]
    listed = "".join(f"<li><b>{value}</b> {label}</li>" for value, label in facts)
    noun = "white cell counted" if view.counted == 1 else "white cells counted"
    return (
        f'<p class="answer"><strong>{view.counted}</strong> <span class="noun">{noun}</span> '
        f'<span class="tier t-{"withheld" if withheld else view.tier}">{name}</span></p>'
        f"{_meter(view.counted)}"
        f'<p class="says">{says}{more}</p>{_emptiness(view)}'
        f'<ul class="facts">{listed}</ul>'
    )


def differential(view: ReportView, ranges: Mapping[str, tuple[float, float]], range_profile: str) -> str:
    """Show the differential table. Below 100 counted cells it has counts alone."""
    if not view.claimable:
        return _counts_only(view)
    rows = "".join(_row(share, ranges.get(share.label)) for share in view.shares)
    total = sum(share.count for share in view.shares)
    return (
        '<table class="differential" role="table"><caption>Shares of the '
        f"{view.counted} counted cells, with 95 % intervals. Reference ranges: "
        f"<b>{escape(range_profile)}</b>.</caption>"
        '<thead role="rowgroup"><tr role="row"><th scope="col" role="columnheader">Class</th>'
        '<th scope="col" role="columnheader" class="num">Count</th>'
        '<th scope="col" role="columnheader" class="num">Percent</th>'
        '<th scope="col" role="columnheader" class="bar">Interval and reference range</th>'
        '<th scope="col" role="columnheader" class="num">Wilson 95&#160;%</th>'
        '<th scope="col" role="columnheader" class="num">Clopper\u2013Pearson 95&#160;%</th>'
        '<th scope="col" role="columnheader" class="num">Reference %</th>'
        '<th scope="col" role="columnheader">Reading</th></tr></thead>'
        f'<tbody role="rowgroup">{rows}</tbody>'
        '<tfoot role="rowgroup"><tr role="row"><th scope="row" role="rowheader">Counted</th>'
        f'<td role="cell" class="num count" data-label="{_cells(total)}">{total}</td>'
        '<td role="cell" class="rest" colspan="6">Bands are counted with neutrophils. Rounded one by one, the '
        "percentages may not add up to 100.</td></tr></tfoot></table>"
        f"{_legend()}{_apart(view)}"
    )


def _counts_only(view: ReportView) -> str:
    why = (
        "too many objects need review, so class shares are withheld"
        if view.countable
        else f"fewer than {CLAIM_FROM} cells were counted"
    )
    total = sum(share.count for share in view.shares)
    rows = "".join(
        f'<tr role="row"><th scope="row" role="rowheader">{chip(share.label)} {NAMES[share.label]}</th>'
        f'<td role="cell" class="num count" data-label="{_cells(share.count)}">{share.count}</td></tr>'
        for share in view.shares
    )
    return (
        '<table class="differential counts" role="table"><caption>'
        f"Counts alone: {why}.</caption>"
        '<thead role="rowgroup"><tr role="row"><th scope="col" role="columnheader">Class</th>'
        '<th scope="col" role="columnheader" class="num">Count</th></tr></thead>'
        f'<tbody role="rowgroup">{rows}</tbody>'
        '<tfoot role="rowgroup"><tr role="row"><th scope="row" role="rowheader">Counted</th>'
        f'<td role="cell" class="num count" data-label="{_cells(total)}">{total}</td></tr></tfoot>'
        f"</table>{_apart(view)}"
    )


def _row(share: ShareView, limits: tuple[float, float] | None) -> str:
    found = reading(share, limits)
    mark = '<span class="absent">\u2013</span>'
    if found is not None:
        mark = f'<span class="mark m-{found}"><i aria-hidden="true">{_GLYPHS[found]}</i> {_READINGS[found]}</span>'
    return (
        f'<tr role="row"><th scope="row" role="rowheader">{chip(share.label)} {NAMES[share.label]}</th>'
        f'<td role="cell" class="num count" data-label="{_cells(share.count)}">{share.count}</td>'
        f'<td role="cell" class="num percent">{number(share.percent)}<small>&#160;%</small></td>'
        f'<td role="cell" class="bar">{_bar(share, limits, found)}</td>'
        f'<td role="cell" class="num limit" data-label="Wilson">{_pair(share.wilson)}</td>'
        f'<td role="cell" class="num limit" data-label="Clopper\u2013Pearson">{_pair(share.exact)}</td>'
        f'<td role="cell" class="num limit" data-label="Reference">{_limits(limits)}</td>'
        f'<td role="cell" class="reading">{mark}</td></tr>'
    )


def _cells(count: int) -> str:
    return "cell" if count == 1 else "cells"


def _pair(interval: tuple[float, float] | None) -> str:
    return "\u2013" if interval is None else span(*interval)


def _limits(limits: tuple[float, float] | None) -> str:
    return "none set" if limits is None else f"{plain(limits[0])}\u2013{plain(limits[1])}"


def _bar(share: ShareView, limits: tuple[float, float] | None, found: str | None) -> str:
    """Draw the Wilson interval and the estimate against the reference band, on a scale that suits the class."""
    if share.percent is None or share.wilson is None:
        return ""
    low, high = share.wilson
    reach = max(high, share.percent, limits[1] if limits else 0.0)
    scale = next((s for s in _SCALES if s >= reach), 100.0)

    def at(value: float) -> str:
        # Half a marker's room on the left, the scale's figure on the right.
        return f"{2 + 84 * min(max(value, 0.0), scale) / scale:.2f}%"

    def wide(first: float, last: float) -> str:
        return f"{84 * max(0.0, min(last, scale) - max(first, 0.0)) / scale:.2f}%"

    said = f"{number(share.percent)} %, 95 % interval {span(low, high)}"
    band = ""
    if limits is not None:
        said += f", reference range {_limits(limits)}"
        band = f'<rect class="band" x="{at(limits[0])}" y="4" width="{wide(*limits)}" height="20"/>'
    return (
        f'<svg class="interval i-{found or "none"}" width="100%" height="28" role="img" '
        f'aria-label="{said}">{band}'
        f'<line class="axis" x1="{at(0)}" x2="{at(scale)}" y1="24" y2="24"/>'
        f'<line class="whisker" x1="{at(low)}" x2="{at(high)}" y1="14" y2="14"/>'
        f'<line class="cap" x1="{at(low)}" x2="{at(low)}" y1="9" y2="19"/>'
        f'<line class="cap" x1="{at(high)}" x2="{at(high)}" y1="9" y2="19"/>'
        f'<circle class="dot" cx="{at(share.percent)}" cy="14" r="4.5"/>'
        f'<text class="scale" x="100%" y="25" text-anchor="end">{plain(scale)}</text></svg>'
    )


def _legend() -> str:
    return (
        '<p class="legend"><span class="key k-band">reference range</span> '
        '<span class="key k-interval">estimate with its 95&#160;% interval</span> '
        "Each bar runs from 0 to the figure at its right end.</p>"
    )


def _review_figure(view: ReportView) -> str:
    located = view.counted + view.other
    if view.countable and view.other:
        return f"{view.other} of {located} ({number(100 * view.other / located)}&#160;%)"
    return f"{view.other} of {located}" if view.other else "0"


def _apart(view: ReportView) -> str:
    located = view.counted + view.other
    rate = f"{view.other} of {located} located objects" if located else "No object was located"
    if view.countable:
        rate += f", {number(100 * view.other / located)}&#160;%"
    return (
        f'<dl class="apart"><div><dt>{chip(OTHER)} Needs review</dt><dd><b>{rate}</b> \u2013 apart from the '
        "differential: too uncertain to count, or not one of the five classes. A person decides.</dd></div>"
        '<div><dt><span class="chip c-none" aria-hidden="true">\u2013</span> Not assessed</dt><dd>Blasts, immature '
        "granulocytes, atypical lymphocytes, nucleated red cells, smudge cells, platelets, red-cell morphology: "
        "<b>not assessed</b>. Nothing here says that they are absent.</dd></div></dl>"
    )


def _meter(counted: int) -> str:
    """Draw the counted cells on the way to 100, 200 and 400."""
    end = 440.0
    ticks = "".join(
        f'<line class="tick" x1="{100 * m / end:.2f}%" x2="{100 * m / end:.2f}%" y1="0" y2="12"/>'
        f'<text x="{100 * m / end:.2f}%" y="25" text-anchor="middle">{m}</text>'
        for m in _MILESTONES
    )
    return (
        '<svg class="meter" width="100%" height="28" role="img" '
        f'aria-label="{many(counted, "cell")} counted; tiers begin at 100, 200 and 400">'
        '<rect class="trough" x="0" y="3" width="100%" height="6" rx="3"/>'
        f'<rect class="level" x="0" y="3" width="{100 * min(counted, end) / end:.2f}%" height="6" rx="3"/>{ticks}</svg>'
    )


def _emptiness(view: ReportView) -> str:
    """Say why nothing was counted, when nothing was."""
    if view.counted:
        return ""
    if view.other:
        why = "Every located object needs review by a person."
    elif not view.fields and not view.failures:
        why = "The record holds no fields."
    elif not view.fields:
        why = "No file could be read. See “Refused” for each of them."
    elif not view.accepted:
        why = "Every field was refused by the quality gate. See “Refused” for the reasons and the cure."
    else:
        why = "No white cell was located in the analysed fields. Check the smear area and the magnification."
    return f'<p class="why">{why}</p>'


def sums(view: ReportView) -> str:
    """Warn when the listed cells do not give the differential shown; otherwise nothing."""
    if view.adds_up:
        return ""
    listed = ", ".join(f"{NAMES[name].lower()} {len(view.group(name))}" for name in (*LABELS, OTHER))
    return (
        '<p class="alarm" role="alert"><strong>Do not use this result.</strong> The cells listed in this record do not '
        f"add up to its differential (listed: {listed}). The record may be damaged: analyse the sample again.</p>"
    )

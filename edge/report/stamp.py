"""Flags, refusals, the model and quality stamp, and the limits of the result."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from edge.core.types import ResultRecord
from edge.report.gallery import figure
from edge.report.text import NOT_RECORDED, escape, humanised, isolated, many, moment, number, span
from edge.report.view import FieldView, ReportView
from edge.report.wording import CLOCK, CROSSING, FLAGS, NAMES, REASONS, RESEARCH_USE, THROTTLE, Advice

_FIGURES = (
    ("focus", "Focus", 3),
    ("exposure", "Exposure", 2),
    ("clipped_dark", "Clipped dark", 3),
    ("clipped_bright", "Clipped bright", 3),
    ("illumination_falloff", "Falloff", 2),
    ("stain", "Stain density", 2),
)


def flags(record: ResultRecord, view: ReportView) -> str:
    """Say what needs attention, each with what it means and what to do."""
    found = [*_raised(view.flags), *_circumstances(record)]
    if not found:
        return (
            '<p class="nothing">No flag was raised. That is not a normal result: blasts and immature cells are not '
            "assessed, and a person has to look at the smear.</p>"
        )
    items = "".join(
        f"<li><h3>{escape(a.title)}</h3><p>{escape(a.meaning)}</p>"
        f'<p class="todo"><b>What to do</b> {escape(a.action)}</p></li>'
        for a in found
    )
    return f'<ul class="flags">{items}</ul>'


def refused(view: ReportView) -> str:
    """List fields that the quality gate refused and files that could not be read, with figures and cures."""
    if not view.rejected and not view.failures:
        return '<p class="nothing">Nothing: every file was read and every field passed the quality gate.</p>'
    parts = []
    if view.rejected:
        listed = "".join(_rejected(view, f) for f in view.rejected)
        parts.append(
            f'<h3>Refused by the quality gate <span class="n">{len(view.rejected)}</span></h3>'
            f'<ul class="refusals">{listed}</ul>'
        )
    if view.failures:
        rows = "".join(
            f'<tr><th scope="row">Field {f.number}</th><td class="file">{isolated(view.name(f.file))}</td>'
            f"<td>{escape(f.message)} <code>{escape(f.code)}</code></td></tr>"
            for f in view.failures
        )
        parts.append(
            f'<h3>Could not be read <span class="n">{len(view.failures)}</span></h3>'
            '<table class="failures"><thead><tr><th scope="col">Field</th><th scope="col">File</th>'
            f'<th scope="col">Why</th></tr></thead><tbody>{rows}</tbody></table>'
        )
    return "".join(parts)


def stamp(record: ResultRecord, view: ReportView) -> str:
    """List everything needed to trust the result later, or to repeat it."""
    clock, clock_says = CLOCK.get(record.created.tier, CLOCK["unknown"])
    elapsed = "not recorded" if view.elapsed_seconds is None else f"{number(view.elapsed_seconds)} s"
    rows = [
        ("Model bundle", bundle(record)),
        ("Bundle SHA-256", f"<code>{escape(record.bundle_sha256)}</code>"),
        ("Runtime", isolated(record.runtime)),
        (
            "Calibration",
            isolated(record.calibration)
            if record.calibration
            else "none: illumination was estimated from the fields themselves",
        ),
        ("Power and temperature", escape(throttle(record.throttle_bits))),
        ("Files from", isolated(view.folder) if view.folder else "no common folder: the names above are complete"),
        ("Analysis time", elapsed),
        ("Record", f"<code>{escape(record.id)}</code>"),
        ("Version", f"{record.version}"),
        ("Created", f"{escape(record.created.wall)} ({clock}). {clock_says}"),
        ("Boot and uptime", f"<code>{escape(record.created.boot_id)}</code>, {number(record.created.monotonic)} s"),
    ]
    listed = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in rows)
    return f'<dl class="stamp">{listed}</dl>{_quality(view)}'


def bundle(record: ResultRecord) -> str:
    """Name the bundle, marked where nobody has signed it."""
    unsigned = record.document.get("bundle_origin") == "unsigned"
    return isolated(record.bundle) + (" <strong>(unsigned)</strong>" if unsigned else "")


def limits(record: ResultRecord, view: ReportView, validated: Sequence[str]) -> str:
    """Say what this result is not, and how it was made."""
    sites = (
        "The model was evaluated on: " + "; ".join(escape(site) for site in validated) + ". "
        if validated
        else "The sites and cameras on which the model was evaluated are listed in its model card "
        f"(<code>leuko model show</code>) for {escape(record.bundle)}. "
    )
    interval = (
        "The intervals are binomial: they cover the chance of drawing these cells from the smear. Errors of the "
        "classifier, and differences between fields, are <b>not included</b>; the true uncertainty is larger."
        if view.claimable
        else "Errors of the classifier are not included in any count."
    )
    method = (
        "Fields that pass the quality gate are corrected for illumination; nucleated cells are located by colour, "
        "cropped in proportion to their nucleus, and classified by the network named above into five classes or none. "
        "A cell whose probability is below the bundle\u2019s threshold is not counted. "
    )
    if view.claimable:
        method += (
            "Percentages are shares of the counted cells. Intervals: Wilson score and Clopper\u2013Pearson, two-sided "
            "95&#160;%. A class is marked within, above or below its reference range only when both intervals lie "
            "wholly on that side of the limits; otherwise it is indeterminate. "
        )
    method += (
        "Class activation comes from the network\u2019s own pooled head: it shows what the answer rests on, not "
        "whether the answer is right."
    )
    return (
        f'<p class="ruo-line">{RESEARCH_USE}</p><ul class="limits">'
        "<li>Decision support, <b>not a diagnosis</b>. Preliminary until reviewed by a qualified person.</li>"
        "<li>Blasts and immature cells: <b>not assessed</b>. A smear with blasts can give an unremarkable table.</li>"
        f"<li>{interval}</li>"
        f"<li>{sites}Another stain, microscope, camera or population may give other errors.</li>"
        "<li>Reference ranges are configuration, not medical advice: replace them with those of your own "
        "laboratory, for the age and population served.</li></ul>"
        f'<h3>Method</h3><p class="method">{method}</p>'
    )


def throttle(bits: int | None) -> str:
    """Put the firmware's power and temperature bits in words."""
    if bits is None:
        return "not reported by this device"
    said = [words for bit, words in THROTTLE.items() if bits >> bit & 1]
    if not said:
        return "no under-voltage, no throttling" if bits == 0 else f"unknown bits 0x{bits:x}"
    return f"{', '.join(said)} (0x{bits:x})"


def _raised(codes: Sequence[str]) -> list[Advice]:
    named = [code.partition(":")[2] for code in codes if code.startswith(CROSSING + ":")]
    crossing = [NAMES.get(name, name).lower() for name in named]
    found = [FLAGS.get(code, _unknown(code)) for code in codes if not code.startswith(CROSSING + ":")]
    if crossing:
        found.append(
            Advice(
                "Near a limit of the reference range",
                f"The interval crosses a limit for: {', '.join(crossing)}. This count cannot tell whether the share is "
                "inside or outside the range.",
                "Count more cells if the answer matters.",
            )
        )
    return found


def _unknown(code: str) -> Advice:
    return Advice(humanised(code), f"The analysis raised the flag “{code}”.", "Have a qualified person look at it.")


def _circumstances(record: ResultRecord) -> list[Advice]:
    """Collect findings about the device rather than the sample."""
    found = []
    if record.created.tier == "unknown":
        found.append(
            Advice(
                "Date not verified",
                f"The device\u2019s clock could not be confirmed; it showed {moment(record.created.wall)}.",
                "Write the date and time of the smear on the report, and set the clock.",
            )
        )
    if record.throttle_bits:
        found.append(
            Advice(
                "Power or temperature problem",
                f"The device reported: {throttle(record.throttle_bits)}.",
                "Check the power supply and the cooling before the next sample.",
            )
        )
    return found


def _rejected(view: ReportView, found: FieldView) -> str:
    reasons = [REASONS.get(code, _unfamiliar(code)) for code in found.reasons] or [_unfamiliar("quality")]
    said = "".join(
        f'<p><b>{escape(a.title)}.</b> {escape(a.meaning)} <span class="todo">{escape(a.action)}</span></p>'
        for a in reasons
    )
    figures = "".join(
        f"<div><dt>{name}</dt><dd>{number(found.figures.get(key), digits)}</dd></div>" for key, name, digits in _FIGURES
    )
    return f'<li>{figure(view, found)}<div class="causes">{said}<dl class="figures">{figures}</dl></div></li>'


def _unfamiliar(code: str) -> Advice:
    return Advice(humanised(code), "The field did not pass the quality gate.", "Take the field again.")


def _quality(view: ReportView) -> str:
    accepted = view.accepted
    if not accepted:
        return f'<p class="nothing">No quality figures: {many(len(view.fields), "field")} read, none accepted.</p>'
    rows = []
    for key, name, digits in _FIGURES:
        known = [value for f in accepted if (value := f.figures.get(key)) is not None]
        cells = (
            f'<td class="num">{number(median(known), digits)}</td>'
            f'<td class="num">{span(min(known), max(known), digits)}</td>'
            f'<td class="num">{len(known)} of {len(accepted)}</td>'
            if known
            else f'<td class="num" colspan="3">{NOT_RECORDED}</td>'
        )
        rows.append(f'<tr><th scope="row">{name}</th>{cells}</tr>')
    return (
        '<table class="quality"><caption>Quality of the analysed fields (exposure and clipped shares from 0 to 1)'
        '</caption><thead><tr><th scope="col">Figure</th><th scope="col" class="num">Median</th>'
        '<th scope="col" class="num">Range</th><th scope="col" class="num">Judged</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )

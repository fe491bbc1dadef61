"""The cells by class, and the fields with their boxes."""

from __future__ import annotations

import base64

from edge.core.labels import LABELS, OTHER
from edge.report.table import chip
from edge.report.text import escape, humanised, many, probability
from edge.report.view import CellView, FieldView, ReportView
from edge.report.wording import ABSTENTION, GROUPS, LETTERS, NAMES

_VIEWS = (("cell", "Cells"), ("activation", "Activation"), ("both", "Side by side"))


def data_uri(jpeg: bytes) -> str:
    """Give a JPEG as a URI that needs no request."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


def gallery(view: ReportView) -> str:
    """Show all cells: those that need review first and large, then each class, the least certain cell first."""
    if not view.cells:
        return '<p class="nothing">No cells were located, so there are none to show.</p>'
    review = view.group(OTHER)
    groups = "".join(_group(view, label) for label in LABELS if view.group(label))
    switch = ""
    if any(kind == "activation" for kind, _, _ in view.pictures):
        switch = "".join(
            f'<input type="radio" name="view" id="view-{key}"{" checked" if key == "cell" else ""}>'
            f'<label for="view-{key}">{name}</label>'
            for key, name in _VIEWS
        )
    hint = (
        "Within a class the least certain cell comes first. The figure is the probability of the class, from 0 to 1; "
        "F is the field."
    )
    if any(cell.hand is not None for cell in view.cells):
        hint += " “By hand” marks cells that a person has called; the record keeps what the model had said."
    if switch:
        hint += (
            " Class activation: the more yellow, the more that part of the picture spoke for the class. "
            "The printed page follows the choice made here."
        )
    return (
        f"{_review(view, review)}"
        f'<div class="switch" role="group" aria-label="What to show of each counted cell">{switch}'
        f'<p class="hint">{hint}</p>{groups}</div>'
    )


def fields(view: ReportView) -> str:
    """Show every analysed field with its boxes, in their order."""
    if not view.accepted:
        return '<p class="nothing">No field passed the quality gate.</p>'
    shown = "".join(f"<li>{figure(view, f)}</li>" for f in view.accepted)
    keys = "".join(f"<li>{chip(group)} {NAMES[group]}</li>" for group in GROUPS)
    return f'<ul class="keys">{keys}</ul><ol class="fields">{shown}</ol>'


def figure(view: ReportView, found: FieldView) -> str:
    """Show one field: its preview under a drawing of the boxes, and a line that says what is in it."""
    tally = ", ".join(
        f"{LETTERS[group]} {count}" for group in GROUPS if (count := sum(cell.group == group for cell in found.cells))
    )
    jpeg = view.pictures.get(("field", found.index, None))
    what = f"Field {found.number}: {many(len(found.cells), 'cell')} located"
    picture = (
        f'<img src="{data_uri(jpeg)}" alt="{what}" width="{found.width}" height="{found.height}">'
        if jpeg
        else '<span class="missing">no picture kept</span>'
    )
    ratio = "" if jpeg else " bare"
    return (
        f'<figure class="field{ratio}" id="field-{found.number}"><div class="plate">{picture}{_boxes(found)}</div>'
        f"<figcaption><b>Field {found.number}</b> {tally or 'no cells'}"
        f'<span class="file">{escape(view.name(found.file))}</span></figcaption></figure>'
    )


def _review(view: ReportView, cells: tuple[CellView, ...]) -> str:
    if not cells:
        return '<p class="nothing">No single cell was set aside for review. The count as a whole still needs one.</p>'
    cards = "".join(_card(view, cell) for cell in cells)
    return (
        f'<section class="group review" aria-labelledby="g-other"><h3 id="g-other">{chip(OTHER)} Needs review '
        f'<span class="n">{len(cells)}</span></h3><ol class="cards">{cards}</ol></section>'
    )


def _card(view: ReportView, cell: CellView) -> str:
    if cell.hand is not None:
        why = "called “other” by hand"
    elif cell.label in LABELS:
        known = cell.reason or "low-confidence"
        why = ABSTENTION.get(known, humanised(known).lower())
    else:
        why = "not one of the five classes"
    ranking = "".join(
        f"<li><span>{escape(humanised(name))}</span><b>{escape(probability(p))}</b>"
        f'<svg width="100%" height="4" aria-hidden="true"><rect class="trough" width="100%" height="4" rx="2"/>'
        f'<rect class="level" width="{100 * min(max(p, 0.0), 1.0):.1f}%" height="4" rx="2"/></svg></li>'
        for name, p in cell.ranked[:2]
    )
    return (
        f'<li class="card"><div class="pair">{_picture(view, cell, "cell")}{_picture(view, cell, "activation")}</div>'
        f'<p class="cause">{escape(why)}</p><p class="place">{_place(cell)}</p>'
        f'<p class="nearest">Nearest classes</p><ul class="ranking">{ranking}</ul></li>'
    )


def _group(view: ReportView, label: str) -> str:
    cells = view.group(label)
    items = "".join(
        f'<li><span class="pics">{_picture(view, cell, "cell")}{_picture(view, cell, "activation")}</span>'
        f'<span class="under"><b>{_certainty(cell)}</b> '
        f'<a href="#field-{cell.field + 1}">F{cell.field + 1}</a></span></li>'
        for cell in cells
    )
    return (
        f'<section class="group" aria-labelledby="g-{label}"><h3 id="g-{label}">{chip(label)} {NAMES[label]} '
        f'<span class="n">{len(cells)}</span></h3><ol class="cells">{items}</ol></section>'
    )


def _certainty(cell: CellView) -> str:
    """The model's probability; a person's call has none, and the model's would be that of another class."""
    if cell.hand is None:
        return escape(probability(cell.probability))
    return f'<span title="Called by {escape(cell.hand)}">by hand</span>'


def _place(cell: CellView) -> str:
    return f'<a href="#field-{cell.field + 1}">Field {cell.field + 1}</a>, cell {cell.index + 1}'


def _picture(view: ReportView, cell: CellView, kind: str) -> str:
    jpeg = view.pictures.get((kind, cell.field, cell.index))
    name = "Object" if cell.label not in LABELS else humanised(cell.label)
    where = f"{name}, field {cell.field + 1}, cell {cell.index + 1}"
    if jpeg is None:
        return '<span class="missing p-cell">no picture</span>' if kind == "cell" else ""
    said = escape(where if kind == "cell" else f"Class activation: {where}")
    return f'<img class="p-{kind}" src="{data_uri(jpeg)}" alt="{said}" width="96" height="96">'


def _boxes(found: FieldView) -> str:
    """Draw the boxes in the field's own pixels, each with its letter, inside the picture even at its border."""
    if not found.cells:
        return ""
    size = max(found.width, found.height) / 24
    outlines, tags = [], []
    for cell in found.cells:
        x, y, width, height = cell.box
        tag_x = min(max(x, 0.0), max(found.width - size, 0.0))
        tag_y = y - size if y >= size else max(y, 0.0)
        group = cell.group
        rect = f'x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height:.0f}" rx="{size / 6:.1f}"'
        outlines.append(f'<g class="b-{group}"><rect class="halo" {rect}/><rect class="edge" {rect}/></g>')
        tags.append(
            f'<g class="b-{group}"><rect class="tag" x="{tag_x:.0f}" y="{tag_y:.0f}" width="{size:.0f}" '
            f'height="{size:.0f}" rx="{size / 6:.1f}"/>'
            f'<text x="{tag_x + size / 2:.0f}" y="{tag_y + size * 0.78:.0f}" font-size="{size * 0.8:.1f}" '
            f'text-anchor="middle">{LETTERS[group]}</text></g>'
        )
    # Letters lie over all outlines, so that no neighbouring box hides one.
    return (
        f'<svg class="boxes" viewBox="0 0 {found.width} {found.height}" preserveAspectRatio="none" '
        f'aria-hidden="true">{"".join(outlines)}{"".join(tags)}</svg>'
    )

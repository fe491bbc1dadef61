"""Templates, with the words of the browser's language and what every page shows."""

from __future__ import annotations

from typing import Any, Final

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from edge import __version__
from edge.core.errors import LeukoError
from edge.core.labels import LABELS, OTHER
from edge.report.text import moment, probability, visible
from edge.report.wording import CLOCK, FLAGS, LETTERS, NAMES, REASONS, RESEARCH_USE, STATUS, TIERS
from edge.web import words
from edge.web.guard import session_of
from edge.web.site import Site

# What LABELS are called in the singular, and what `other` is called where a person chooses.
ONE: Final = {
    "neutrophil": "Neutrophil",
    "lymphocyte": "Lymphocyte",
    "monocyte": "Monocyte",
    "eosinophil": "Eosinophil",
    "basophil": "Basophil",
    OTHER: "Other",
}
KEYS: Final = {label: str(position) for position, label in enumerate((*LABELS, OTHER), start=1)}
"""The digit that calls a cell; its letter does too."""

_environment = jinja2.Environment(
    loader=jinja2.PackageLoader("edge.web"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
_environment.globals.update(
    LABELS=LABELS,
    OTHER=OTHER,
    GROUPS=(*LABELS, OTHER),
    LETTERS=LETTERS,
    NAMES=NAMES,
    ONE=ONE,
    KEYS=KEYS,
    STATUS=STATUS,
    CLOCK=CLOCK,
    FLAGS=FLAGS,
    REASONS=REASONS,
    TIERS=TIERS,
    RESEARCH_USE=RESEARCH_USE,
    VERSION=__version__,
)
_environment.filters.update(visible=visible, moment=moment, probability=probability)


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Render a template for this browser."""
    session = session_of(request)
    site: Site = request.app.state.site
    language = words.chosen(session.language or site.chosen.language, request.headers.get("accept-language", ""))
    notice, session.notice = session.notice, ""
    text = _environment.get_template(template).render(
        _=words.translator(language),
        language=language,
        session=session,
        notice=notice,
        guarded=request.state.door.guarded,
        here=request.url.path,
        **values,
    )
    return HTMLResponse(text, status)


def go(request: Request, path: str, notice: str = "") -> Response:
    """Send the browser on after a change, with a line that says what was done."""
    session_of(request).notice = notice
    return RedirectResponse(path, 303)


_STATUS: Final = {
    "no-result": 404,
    "no-store": 404,
    "no-picture": 404,
    "no-page": 404,
    "version-conflict": 409,
    "already-signed": 409,
    "session-running": 409,
    "control-locked": 423,
}


def status_of(problem: LeukoError) -> int:
    """The HTTP status that tells a program what the message tells a person."""
    if problem.code in _STATUS:
        return _STATUS[problem.code]
    return 400 if problem.exit_code <= 2 else 500

"""Who may come in: the person of a session, their roles, and the proof that a form is ours."""

from __future__ import annotations

import hmac
from typing import Any, Final

from fastapi import Depends, Request

from edge.hub import people
from edge.hub.core import Hub, Person
from edge.hub.problems import RefusedError, forbidden

COOKIE: Final = "leuko_session"
FORM_TOKEN: Final = "form_token"  # noqa: S105  # the name of a field
FORM_HEADER: Final = "X-Form-Token"
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def hub_of(request: Request) -> Hub:
    """Give the hub that the application serves."""
    hub: Hub = request.app.state.hub
    return hub


def address_of(request: Request) -> str:
    """Give the address that the request came from."""
    return str(request.state.address)


def person(*roles: str) -> Any:
    """Depend on a person who has signed in and has at least one of these roles; the header proves the form."""

    def signed_in(request: Request) -> Person:
        found = require(request, roles)
        if request.method not in SAFE:
            require_form(found, request.headers.get(FORM_HEADER, ""))
        return found

    return Depends(signed_in)


def require(request: Request, roles: tuple[str, ...] = ()) -> Person:
    """Give the person of the session. Raises RefusedError 401 or 403."""
    found = people.who(hub_of(request), request.cookies.get(COOKIE, ""))
    if found is None:
        raise RefusedError(401, "not-signed-in", "Nobody is signed in.", "Sign in.")
    request.state.actor = f"person {found.name}"
    if roles and not found.roles & set(roles):
        raise forbidden("the role " + " or ".join(roles))
    return found


def require_form(found: Person, token: str) -> None:
    """Refuse a form that another site made: it cannot know the session's token."""
    if not hmac.compare_digest(token.encode("utf-8", "replace"), found.form_token.encode()):
        raise RefusedError(403, "form-token", "The form is not from this session.", "Open the page again.")

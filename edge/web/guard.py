"""What every request passes before a page sees it: host, rate, session, PIN, and for a change its origin and token."""

from __future__ import annotations

import hmac
import ipaddress
import json
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge.web.access import BrowserSession, Pairing, Pin, Rate, SessionBook

LARGEST_BODY: Final = 256 * 1024
COOKIE: Final = "leuko"

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "manifest-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}

_OPEN: Final = ("/login", "/pair", "/static/")
"""What a browser may see that has shown no PIN."""


@dataclass(slots=True)
class Door:
    """How the page is opened: to this machine alone, or to the network with a PIN, a pairing token, or both."""

    names: frozenset[str]
    open_to_network: bool = False
    pin: Pin | None = None
    pairing: Pairing | None = None
    secure: bool = False
    sessions: SessionBook = field(default_factory=SessionBook)
    # A page of a gallery asks for some hundred pictures at once.
    requests: Rate = field(default_factory=lambda: Rate(per_second=60, burst=900))
    changes: Rate = field(default_factory=lambda: Rate(per_second=2, burst=30))

    @property
    def guarded(self) -> bool:
        """Whether a browser has to show PIN or pairing token."""
        return self.open_to_network or self.pin is not None

    def knows(self, host: str) -> bool:
        """Whether a Host header names this machine.

        A page of a foreign site can make a browser ask us under a name that it controls (DNS rebinding), but not under
        an address or one of our own names.
        """
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        if name in self.names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return self.open_to_network or address.is_loopback


def names_of_this_machine(extra: Iterable[str] = ()) -> frozenset[str]:
    """The host names under which the page answers."""
    own = socket.gethostname().lower()
    return frozenset({"localhost", own, f"{own.partition('.')[0]}.local", *(name.lower() for name in extra)} - {""})


class Guard:
    """ASGI middleware. A page finds the browser's session at `request.state.session`."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        session, refusal, body = await self._examine(scope, receive)
        new = session is not None and _cookie(scope) != session.token

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                # A page may have changed the session: a login gives a new token.
                current = scope.get("state", {}).get("session", session)
                if current is not None and (new or current is not session):
                    headers.append("set-cookie", self._set_cookie(current))
            await send(message)

        if refusal is not None:
            await refusal(scope, receive, guarded)
            return
        scope.setdefault("state", {})["session"] = session
        scope["state"]["door"] = self._door
        await self._app(scope, receive if body is None else _replayed(body, receive), guarded)

    async def _examine(
        self, scope: Scope, receive: Receive
    ) -> tuple[BrowserSession | None, Response | None, bytes | None]:
        door, now, headers = self._door, time.monotonic(), Headers(scope=scope)
        client = scope["client"][0] if scope.get("client") else "local"
        if not door.knows(headers.get("host", "")):
            return None, PlainTextResponse("This page does not answer to that name.", 421), None
        if not door.requests.allows(client, now):
            return None, _too_many(), None
        session = door.sessions.get(_cookie(scope), now)
        if session is None:
            session = door.sessions.start(now, trusted=not door.guarded)
        path = scope["path"]
        if not session.trusted and not path.startswith(_OPEN):
            if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
                return session, RedirectResponse("/login", 303), None
            return session, PlainTextResponse("Show the PIN first.", 401), None
        if scope["method"] in {"GET", "HEAD"}:
            return session, None, None
        if not door.changes.allows(client, now):
            return session, _too_many(), None
        if not _same_origin(headers, scope):
            return session, PlainTextResponse("A change has to come from this page.", 403), None
        body = await _read(receive, headers)
        if body is None:
            return session, PlainTextResponse("That is too much at once.", 413), None
        if not hmac.compare_digest(_csrf(headers, body).encode("utf-8", "surrogatepass"), session.csrf.encode()):
            return (
                session,
                PlainTextResponse("This form is out of date. Go back, reload the page, try again.", 403),
                None,
            )
        return session, None, body

    def _set_cookie(self, session: BrowserSession) -> str:
        secure = "; Secure" if self._door.secure else ""
        return f"{COOKIE}={session.token}; Path=/; HttpOnly; SameSite=Strict{secure}"


def session_of(request: Request) -> BrowserSession:
    """The browser session of a request."""
    found: BrowserSession = request.state.session
    return found


async def form(request: Request) -> dict[str, str]:
    """The fields of a form, each once."""
    body = await request.body()
    return {
        name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True).items()
    }


async def json_body(request: Request) -> Mapping[str, Any]:
    """The JSON object that was sent; empty when it is none."""
    try:
        found = json.loads(await request.body())
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _cookie(scope: Scope) -> str:
    for part in Headers(scope=scope).get("cookie", "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return ""


def _same_origin(headers: Headers, scope: Scope) -> bool:
    """Whether the browser says that the change comes from a page of ours; an old browser may say nothing."""
    if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        return False
    origin = headers.get("origin")
    return origin is None or origin == f"{scope['scheme']}://{headers.get('host', '')}"


async def _read(receive: Receive, headers: Headers) -> bytes | None:
    if not headers.get("content-length", "0").isdecimal() or int(headers.get("content-length", "0")) > LARGEST_BODY:
        return None
    parts, size = [], 0
    while True:
        message = await receive()
        part = message.get("body", b"")
        size += len(part)
        if size > LARGEST_BODY:
            return None
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    given = False

    async def replay() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replay


def _csrf(headers: Headers, body: bytes) -> str:
    if (sent := headers.get("x-csrf")) is not None:
        return sent
    if headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return parse_qs(body.decode("utf-8", "replace")).get("csrf", [""])[0]
    return ""


def _too_many() -> Response:
    return PlainTextResponse("Too many requests. Wait a moment.", 429, {"retry-after": "5"})

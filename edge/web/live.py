"""The live page: start a session, watch it, pause, resume, finish."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from edge import app
from edge.control import run as control
from edge.core.errors import StoreError, UsageError
from edge.live.order import TARGETS, SessionOrder
from edge.web.guard import form, session_of
from edge.web.live_desk import STEPS, state_document
from edge.web.render import go, page
from edge.web.site import site_of

if TYPE_CHECKING:
    from edge.config import Config
    from edge.live.state import LiveState

INTERVAL_SECONDS: Final = 0.05
"""How often the state is looked at for a browser: twenty times a second, so that no field of twelve is missed."""

MOST_WATCHERS: Final = 6
"""Browsers that may watch at a time; each holds one connection."""

SIMULATED: Final = "simulated:seed={seed},cells=3,fields=endless,overlap=0.2,interval=0.4"
"""The camera of a demonstration: a slide that is drawn, at the pace of a person who moves the stage."""


def live(request: Request) -> Response:
    """The session that runs, or the form that starts one."""
    site = site_of(request)
    state = site.desk.state()
    if state is not None and not state.ended:
        return page(request, "live.html", data=state_document(state), sample=state.sample)
    return page(
        request,
        "start.html",
        cameras=_cameras(),
        targets=TARGETS,
        last=None if state is None else state_document(state),
        chosen=site.chosen,
        simulated=SIMULATED.format(seed=1 + secrets.randbelow(999)),
        interrupted=_interrupted(site.config),
        control=control.status(site.config),
        operator=session_of(request).operator or site.config.operator,
    )


def _cameras() -> list[tuple[str, str]]:
    """The cameras of this machine that a patient's slide may lie under, with what was seen of each."""
    return [
        (found.specification, found.evidence)
        for found in app.cameras()
        if found.usable and found.kind not in control.UNLOCKED_CAMERAS
    ]


def _interrupted(config: Config) -> list[LiveState]:
    """Sessions of this device that can be gone on with, the latest first, at most three."""
    try:
        found = [session.id for session, phase in app.sessions(config) if phase in {"interrupted", "failed"}]
    except StoreError:
        # Nothing is stored yet, or by an older version, whose sessions this one could not go on with.
        return []
    return [app.session_state(identifier, config) for identifier in found[:3]]


async def start(request: Request) -> Response:
    """Start a session, or go on with one that was interrupted."""
    sent = await form(request)
    site = site_of(request)
    if sent.get("session"):
        await run_in_threadpool(site.desk.go_on, sent["session"])
        return go(request, "/live")
    operator = sent.get("operator", "").strip()[:120]
    if not operator:
        raise UsageError("operator-missing", "Nobody is named who takes the count.", "Name the operator.")
    session_of(request).operator = operator
    target = sent.get("target", "200")
    camera = sent.get("settings", "").strip() if sent.get("camera") == "other" else sent.get("camera", "").strip()
    order = SessionOrder(
        sample=sent.get("sample", "").strip()[:120],
        camera=camera,
        operator=operator,
        target=int(target) if target.isdecimal() else 0,
    )
    await run_in_threadpool(site.desk.start, order)
    return go(request, "/live")


async def step(request: Request) -> Response:
    """Pause, resume, finish or abort; answers with the state as JSON."""
    name = request.path_params["step"]
    if name not in STEPS:
        raise UsageError("step-unknown", f"A session cannot {name}.", f"Use one of: {', '.join(STEPS)}.")
    desk = site_of(request).desk
    desk.step(name)
    state = desk.state()
    return JSONResponse(None if state is None else state_document(state))


async def now(request: Request) -> Response:
    """The present state as JSON."""
    state = site_of(request).desk.state()
    return JSONResponse(None if state is None else state_document(state))


async def frame(request: Request) -> Response:
    """The preview of the last field, with its boxes and labels drawn in."""
    state = site_of(request).desk.state()
    if state is None or state.last is None:
        return Response(status_code=404)
    return Response(state.last.jpeg, 200, {"x-frame-number": str(state.last.number)}, "image/jpeg")


async def events(request: Request) -> Response:
    """The state as it changes, as server-sent events. A slow browser misses states, and never slows the session."""
    watchers: set[object] = request.app.state.watchers
    if len(watchers) >= MOST_WATCHERS:
        return Response("Too many browsers watch.", 503, {"retry-after": "5"})
    desk, stopping = site_of(request).desk, request.app.state.stopping
    watcher = object()

    async def told() -> AsyncIterator[bytes]:
        watchers.add(watcher)
        sent, quiet = "", 0
        try:
            while not stopping.is_set():
                state = desk.state()
                # The running time alone is no news.
                document = None if state is None else state_document(state)
                text = json.dumps(document)
                news = text if document is None else json.dumps({**document, "seconds": int(document["seconds"])})
                if news != sent or quiet > 100:
                    sent, quiet = news, 0
                    yield f"data: {text}\n\n".encode()
                quiet += 1
                await asyncio.sleep(INTERVAL_SECONDS)
        finally:
            watchers.discard(watcher)

    return StreamingResponse(told(), 200, {"x-accel-buffering": "no"}, "text/event-stream")

"""The device: its checks, its quality control, its settings; and the way in."""

from __future__ import annotations

import time
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from edge.control import run as control
from edge.core import clock
from edge.core.errors import UsageError
from edge.health import doctor
from edge.health.check import WORST_FIRST, Check, worst
from edge.web.guard import form, session_of
from edge.web.render import go, page
from edge.web.site import Site, site_of


def device(request: Request) -> Response:
    """The device's checks, as they were last found, and its quality control."""
    site = site_of(request)
    when, checks = site.checks or _examined(site)
    return page(
        request,
        "device.html",
        when=when,
        checks=sorted(checks, key=lambda check: WORST_FIRST.index(check.verdict)),
        verdict=worst(checks),
        control=control.status(site.config),
        config=site.config,
    )


async def examine(request: Request) -> Response:
    """Check the device again."""
    await run_in_threadpool(_examined, site_of(request))
    return go(request, "/device", "The device was checked.")


async def control_run(request: Request) -> Response:
    """Run the reference set now."""
    sent = await form(request)
    operator = sent.get("operator", "").strip()[:120]
    session_of(request).operator = operator or session_of(request).operator
    site = site_of(request)
    event = await run_in_threadpool(control.run, site.config, operator)
    return go(request, "/device", "The control has passed." if event.passed else "The control has failed.")


async def control_override(request: Request) -> Response:
    """Open the patient mode although the control is overdue or has failed; written into its log."""
    sent = await form(request)
    operator = sent.get("operator", "").strip()[:120]
    session_of(request).operator = operator or session_of(request).operator
    site = site_of(request)
    hours = sent.get("hours", "")
    if not hours.isdecimal():
        raise UsageError("form-incomplete", "The form names no hours.", "Reload the page and try again.")
    await run_in_threadpool(control.override, site.config, operator, sent.get("reason", "")[:500], int(hours))
    return go(request, "/device", "The lock is overridden. This is in the log.")


def login(request: Request) -> Response:
    """Ask for the PIN."""
    if session_of(request).trusted:
        return RedirectResponse("/", 303)
    return _asked(request, pairing="")


def pair(request: Request) -> Response:
    """Ask whether this browser shall be let in: opening the address alone, as a preview does, uses nothing up."""
    return _asked(request, pairing=request.query_params.get("token", "")[:200])


async def enter(request: Request) -> Response:
    """Let a browser in that shows the PIN or the pairing token."""
    sent = await form(request)
    door, session, now = request.state.door, session_of(request), time.monotonic()
    token = sent.get("token", "")
    if token and door.pairing is not None and door.pairing.try_(token, now):
        request.state.session = door.sessions.start(now, trusted=True, like=session)
        return RedirectResponse("/", 303)
    if door.pin is not None and not token and await run_in_threadpool(door.pin.try_, sent.get("pin", ""), now):
        request.state.session = door.sessions.start(now, trusted=True, like=session)
        return RedirectResponse("/", 303)
    return _asked(request, pairing="", wrong=True)


async def leave(request: Request) -> Response:
    """Forget this browser."""
    door, session = request.state.door, session_of(request)
    door.sessions.end(session)
    request.state.session = door.sessions.start(time.monotonic(), trusted=not door.guarded)
    return RedirectResponse("/login" if door.guarded else "/", 303)


def _asked(request: Request, *, pairing: str, wrong: bool = False) -> Response:
    door = request.state.door
    wait = 0.0 if door.pin is None else door.pin.locked_for(time.monotonic())
    return page(
        request,
        "login.html",
        status=403 if wrong else 200,
        pairing=pairing,
        with_pin=door.pin is not None,
        wrong=wrong,
        wait=int(wait + 0.999),
    )


def _examined(site: Site) -> tuple[str, tuple[Check, ...]]:
    from edge.health import device as machine

    config = site.config
    bundle = Path(config.bundle).expanduser() if config.bundle else None
    profile = machine.chosen(config).profile
    found = tuple(doctor.examine(bundle, config.data_path, config.database_path, profile=profile))
    site.checks = (clock.read().wall, found)
    return site.checks

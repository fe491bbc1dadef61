"""The settings: of this browser, and what a health worker may choose for the device. The rest is the laboratory's."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from edge import app, choices
from edge.control import run as control
from edge.core.errors import StoreError, UsageError
from edge.live.order import TARGETS
from edge.sync import service as sync
from edge.sync.settings import Destination
from edge.web import words
from edge.web.access import Pin
from edge.web.guard import form, session_of
from edge.web.render import go, page
from edge.web.site import site_of


def show(request: Request) -> Response:
    """What this browser chose, what the device is set to, and what it is configured to."""
    config = site_of(request).config
    return page(
        request,
        "settings.html",
        config=config,
        chosen=choices.load(config),
        cameras=[found for found in app.cameras() if found.usable and found.kind not in control.UNLOCKED_CAMERAS],
        targets=TARGETS,
        control_hours=choices.control_hours(config),
        longest_control_hours=config.control.interval_hours or choices.LONGEST_CONTROL_HOURS,
        sent_to=[(each.name, _place(each)) for each in sync.destinations(config)],
        with_pin=request.state.door.pin is not None,
        bundle=str(app.bundle_folder(config)),
        configuration=os.environ.get("LEUKO_CONFIG", ""),
        defaults=str(Path(words.__file__).parent.parent / "default.toml"),
        languages=words.languages(),
        ranges=config.ranges.by_label(),
    )


async def browser(request: Request) -> Response:
    """Keep what this browser chose: the operator's name and the language."""
    sent = await form(request)
    session = session_of(request)
    session.operator = sent.get("operator", "").strip()[:120]
    session.language = sent.get("language", "") if sent.get("language", "") in words.languages() else ""
    return go(request, "/settings", "Kept for this browser.")


async def device(request: Request) -> Response:
    """Keep what was chosen for the device. Raises `UsageError` for what cannot be, and then changes nothing."""
    sent = await form(request)
    config = site_of(request).config
    changes = await run_in_threadpool(_checked, sent, config)
    site_of(request).chosen = await run_in_threadpool(lambda: choices.change(config, **changes))
    return go(request, "/settings", "Kept for this device.")


async def pin(request: Request) -> Response:
    """Set another PIN; the present one has to be shown. Every other browser has to show the new one."""
    sent = await form(request)
    door, session, now = request.state.door, session_of(request), time.monotonic()
    if door.pin is None:
        raise UsageError("no-pin", "The page was opened without a PIN.", "Start it with one: see leuko serve --help.")
    if sent.get("new", "") != sent.get("again", ""):
        raise UsageError("pin-differs", "The new PIN was not repeated alike.", "Type the same one twice.")
    if not await run_in_threadpool(door.pin.try_, sent.get("pin", ""), now):
        raise UsageError(
            "pin-wrong", "This is not the present PIN.", "Type the present PIN; wait if it was wrong often."
        )
    replaced, made = door.pin, Pin(sent.get("new", ""))
    config = site_of(request).config
    before = choices.load(config)
    # What the page was started with stays what the chosen one stands for, however often it is changed.
    started_with = before.replaced_pin if before.pin == replaced.text else replaced.text
    await run_in_threadpool(
        lambda: choices.change(config, pin=made.text, replaced_pin=started_with, changed_by=_who(sent, session))
    )
    door.pin = made
    door.sessions.keep_only(session)
    return go(request, "/settings", "The PIN was changed. Other browsers have to show it.")


def _checked(sent: Any, config: Any) -> dict[str, object]:
    camera, language = sent.get("camera", "").strip()[:300], sent.get("language", "")
    if camera:
        # Settings that cannot be are told now, not at the next count; nothing is opened.
        app.camera(camera, config)
    if language and language not in words.languages():
        raise UsageError("language-unknown", f"There is no language {language[:20]!r}.", "Choose one of the list.")
    target = sent.get("target", "") or "0"
    if target not in {"0", *map(str, TARGETS)}:
        raise UsageError("target", "The number of cells is none that can be chosen.", "Choose 100, 200 or 400.")
    hours = sent.get("control_hours", "").strip() or "0"
    try:
        number = float(hours)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number < 0:
        raise UsageError("control-interval", "The hours between two controls are no number.", "Type a number of hours.")
    operator = sent.get("operator", "").strip()[:120]
    if not operator:
        raise UsageError("operator-missing", "Nobody is named who changes the device.", "Name the operator.")
    return {
        "camera": camera,
        "language": language,
        "target": int(target),
        "control_hours": number,
        "changed_by": operator,
    }


def _place(destination: Destination) -> str:
    """Where a destination is, without anything secret."""
    kind = destination.__struct_config__.tag
    place = [str(getattr(destination, name)) for name in ("url", "host", "folder") if hasattr(destination, name)]
    return f"{kind}: {place[0]}"


def _who(sent: Any, session: Any) -> str:
    return str(sent.get("operator", "").strip()[:120] or session.operator)


def preferred(config: Any) -> choices.Choices:
    """What was chosen for the device, for pages that propose it: damage is told on the page of the settings alone."""
    try:
        return choices.load(config)
    except StoreError:
        return choices.Choices()

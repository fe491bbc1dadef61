"""Runs the page: routes, errors, and the server that listens."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio.to_thread
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from edge import app
from edge import choices as kept
from edge.choices import Choices
from edge.core.errors import LeukoError, UsageError
from edge.health.watchdog import Watchdog
from edge.web import device, live, results, settings
from edge.web.access import Pairing, Pin
from edge.web.guard import Door, Guard, names_of_this_machine
from edge.web.live_desk import LiveDesk
from edge.web.render import page, status_of
from edge.web.site import Site

if TYPE_CHECKING:
    from edge.config import Config

THREADS: Final = 6
"""Requests that read the store or run a check at a time: memory must not grow with the number of browsers."""


@dataclass(frozen=True, slots=True)
class Opening:
    """How to open the page. `pin` is None for none; `pair` makes a one-time token; `names` are further host names."""

    host: str = "127.0.0.1"
    port: int = 8765
    pin: str | None = None
    pair: bool = False
    names: tuple[str, ...] = ()
    certificate: Path | None = None
    key: Path | None = None


def pin_in_force(started_with: str, chosen: Choices) -> Pin:
    """The PIN set on the page, where it was set in place of the one that the page was started with; else the latter.

    So who has forgotten the former starts the page with another.
    """
    given = Pin(started_with)
    with contextlib.suppress(ValueError):
        if chosen.pin and Pin.kept(chosen.replaced_pin).try_(started_with, 0.0):
            return Pin.kept(chosen.pin)
    return given


def door(opening: Opening, choices: Choices | None = None) -> Door:
    """Judge an opening. Raises `UsageError`: `pin-missing` for the network without PIN or pairing, `pin-too-simple`."""
    to_network = not is_loopback(opening.host)
    if to_network and opening.pin is None and not opening.pair:
        raise UsageError(
            "pin-missing",
            f"The page is not opened to the network ({opening.host}) without a PIN or a pairing token.",
            "Set LEUKO_PIN or --pin-file, or use --pair. Without --host it opens for this machine alone.",
        )
    if (opening.certificate is None) != (opening.key is None):
        raise UsageError("certificate", "A certificate and its key belong together.", "Give --certificate and --key.")
    return Door(
        names=names_of_this_machine(opening.names),
        open_to_network=to_network,
        pin=None if opening.pin is None else pin_in_force(opening.pin, choices or Choices()),
        pairing=Pairing(time.monotonic()) if opening.pair else None,
        secure=opening.certificate is not None,
    )


def is_loopback(host: str) -> bool:
    """Whether a host to listen on is this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def application(config: Config, entrance: Door, desk: LiveDesk | None = None) -> Guard:
    """Make the page as an ASGI application; the guard stands before all of it, its error pages too."""
    site = Site(
        config,
        desk
        or LiveDesk(
            lambda order: app.start_session(order, config),
            lambda identifier: app.resume_session(identifier, config),
        ),
        chosen=settings.preferred(config),
    )

    @contextlib.asynccontextmanager
    async def lifespan(_application: Starlette) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        made.state.stopping = asyncio.Event()
        watchdog = Watchdog()
        watchdog.ready("the page is open")
        beating = asyncio.create_task(watchdog.beating())
        yield
        watchdog.stopping()
        beating.cancel()
        made.state.stopping.set()
        await asyncio.to_thread(site.desk.close)

    made = Starlette(
        routes=_routes(),
        exception_handlers={LeukoError: _problem, HTTPException: _missing, Exception: _failed},
        lifespan=lifespan,
    )
    made.state.site = site
    made.state.watchers = set()
    made.state.stopping = asyncio.Event()
    return Guard(made, entrance)


def run(config: Config, opening: Opening, on_ready: Callable[[Sequence[str]], None]) -> None:
    """Serve the page until the process is told to stop; `on_ready` hears the addresses once they can be opened.

    Raises `UsageError` as `door` does, `port-taken`, `address-unknown`, `certificate`.
    """
    entrance = door(opening, kept.load(config))
    listening = _listen(opening)
    with contextlib.closing(listening):
        port = int(listening.getsockname()[1])
        settings = uvicorn.Config(
            application(config, entrance),
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=True,
            proxy_headers=False,
            ws="none",
            http="h11",
            loop="asyncio",
            limit_concurrency=64,
            timeout_keep_alive=10,
            timeout_graceful_shutdown=3,
            ssl_certfile=opening.certificate,
            ssl_keyfile=opening.key,
        )
        try:
            settings.load()
        except OSError as error:
            raise UsageError(
                "certificate", f"The certificate cannot be used: {error}.", "Give a PEM certificate and its key."
            ) from None
        on_ready(_addresses(opening, entrance, port))
        uvicorn.Server(settings).run(sockets=[listening])


def _routes() -> list[Route | Mount]:
    cell = "/results/{id}/v{version:int}"
    return [
        Route("/", results.overview),
        Route("/results/{id}", results.result),
        Route("/results/{id}/review", results.review),
        Route("/results/{id}/relabel", results.relabel, methods=["POST"]),
        Route("/results/{id}/sign", results.sign, methods=["POST"]),
        Route("/results/{id}/file/{kind}", results.file),
        Route(cell + "/{kind:str}/{field:int}/{cell:int}.jpg", results.picture),
        Route("/live", live.live),
        Route("/live/start", live.start, methods=["POST"]),
        Route("/live/state", live.now),
        Route("/live/events", live.events),
        Route("/live/frame.jpg", live.frame),
        Route("/live/{step}", live.step, methods=["POST"]),
        Route("/device", device.device),
        Route("/device/check", device.examine, methods=["POST"]),
        Route("/device/control", device.control_run, methods=["POST"]),
        Route("/device/override", device.control_override, methods=["POST"]),
        Route("/settings", settings.show),
        Route("/settings", settings.browser, methods=["POST"]),
        Route("/settings/device", settings.device, methods=["POST"]),
        Route("/settings/pin", settings.pin, methods=["POST"]),
        Route("/login", device.login),
        Route("/login", device.enter, methods=["POST"]),
        Route("/pair", device.pair),
        Route("/leave", device.leave, methods=["POST"]),
        Mount("/static", StaticFiles(packages=[("edge.web", "static")])),
    ]


def _problem(request: Request, error: Exception) -> Response:
    """Answer with an error of ours: its message and its cure, to a person or to a script of ours."""
    assert isinstance(error, LeukoError)  # noqa: S101 - it is registered for no other
    if "text/html" not in request.headers.get("accept", ""):
        told = {"error": {"code": error.code, "message": error.message, "cure": error.cure}}
        return JSONResponse(told, status_of(error))
    return page(request, "error.html", status=status_of(error), problem=error)


def _missing(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for no other
    problem = UsageError("no-page", "There is no such page.", "Go back to the list of results.")
    if not hasattr(request.state, "session") or "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"error": {"code": problem.code, "message": problem.message}}, error.status_code)
    return page(request, "error.html", status=error.status_code, problem=problem)


def _failed(request: Request, error: Exception) -> Response:
    """Answer for an error that is ours to mend; the server logs where it came from."""
    problem = LeukoError(
        "internal",
        f"The page met an error of its own ({type(error).__name__}).",
        "Nothing that was saved is lost. Note what you did, and look into the log of “leuko serve”.",
    )
    return _problem(request, problem)


def _listen(opening: Opening) -> socket.socket:
    try:
        found = socket.getaddrinfo(opening.host.strip("[]"), opening.port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except socket.gaierror:
        raise UsageError(
            "address-unknown", f"This machine has no address {opening.host}.", "Use 127.0.0.1, or 0.0.0.0 for all."
        ) from None
    except OSError as error:
        raise UsageError(
            "port-taken",
            f"The page cannot listen on {opening.host}:{opening.port}: {error.strerror}.",
            "Close the other program, or choose another port: leuko serve --port 8766.",
        ) from None
    listening.listen(128)
    return listening


def _addresses(opening: Opening, entrance: Door, port: int) -> list[str]:
    scheme = "https" if entrance.secure else "http"
    if not entrance.open_to_network:
        host = f"[{opening.host}]" if ":" in opening.host else opening.host
        return [f"{scheme}://{host}:{port}/"]
    hosts = _own_addresses() if opening.host in {"0.0.0.0", "::"} else [opening.host]  # noqa: S104 - compared
    path = "" if entrance.pairing is None else f"pair?token={entrance.pairing.token}"
    return [f"{scheme}://{host}:{port}/{path}" for host in hosts]


def _own_addresses() -> list[str]:
    """The address that leads to other machines, found without sending anything, and this machine's name."""
    found = []
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        found.append(str(probe.getsockname()[0]))
    return [*found, f"{socket.gethostname().partition('.')[0]}.local"]

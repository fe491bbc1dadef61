"""The application: routes, errors as `Problem`s, and what every answer carries."""

from __future__ import annotations

import hmac
import json
import logging
import time
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

import anyio.to_thread
import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from edge import __version__
from edge.core.errors import LeukoError, StoreError
from edge.hub import core, log, metrics, pictures, releases
from edge.hub.core import Hub
from edge.hub.problems import HubError, RefusedError
from edge.hub.settings import Settings, is_loopback
from edge.hub.web import api_routes, device_routes, page_routes
from edge.hub.web.doors import hub_of
from edge.hub.web.schemas import schema
from edge.sync.messages import PREFIX, Problem

THREADS = 40
"""Requests that one worker works on at once; as many as it has connections to the database."""

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}
_log = logging.getLogger("edge.hub")


def from_environment() -> FastAPI:
    """Make the application of a worker process."""
    log.start()
    return application(core.open_hub(Settings.from_environment()))


def application(hub: Hub) -> FastAPI:
    """Make the application that serves a hub; it closes the hub when it ends."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        dropped = await run_in_threadpool(pictures.drop_old_parts, app.state.hub)
        _log.info("serving", extra={"facts": {"version": __version__, "old_parts_dropped": dropped}})
        yield
        app.state.hub.close()

    app = FastAPI(title="Leukoscope hub", version=__version__, lifespan=life, docs_url=None, redoc_url=None)
    app.state.hub = hub
    # The protocol's state is also the readiness of everything else.
    app.include_router(device_routes.router, prefix=PREFIX)
    app.include_router(api_routes.router, prefix=PREFIX)
    app.include_router(page_routes.router)
    _operations(app)
    if hub.settings.single_sign_on is not None:
        from edge.hub.web import sign_on

        sign_on.add(app, hub, hub.settings.single_sign_on)
    app.mount("/static", StaticFiles(packages=[("edge.hub", "static")]), name="static")
    _errors(app)
    app.add_middleware(_Around, hub=hub)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def openapi_text() -> str:
    """Give the OpenAPI document as it lies in docs/openapi.json. No database is needed."""
    app = FastAPI(title="Leukoscope hub", version=PREFIX.rpartition("/")[2], docs_url=None, redoc_url=None)
    app.include_router(device_routes.router, prefix=PREFIX)
    app.include_router(api_routes.router, prefix=PREFIX)
    return json.dumps(_openapi(app), indent=1, sort_keys=True) + "\n"


def _operations(app: FastAPI) -> None:
    @app.get("/health/live", include_in_schema=False)
    def live() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/health/ready", include_in_schema=False)
    def ready(request: Request) -> dict[str, str]:
        hub = hub_of(request)
        hub.database.require_current()
        hub.objects.check()
        return {"status": "ok"}

    @app.get("/metrics", include_in_schema=False)
    def figures(request: Request) -> Response:
        hub = hub_of(request)
        _require_metrics_right(request, hub.settings)
        return Response(metrics.text(hub), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/releases/{path:path}", include_in_schema=False)
    def release_file(request: Request, path: str) -> FileResponse:
        return FileResponse(releases.release_file(hub_of(request), path), media_type="application/octet-stream")

    @app.get("/favicon.ico", include_in_schema=False)
    def icon() -> Response:
        return Response(files("edge.hub").joinpath("static/icon.svg").read_bytes(), media_type="image/svg+xml")


def _require_metrics_right(request: Request, settings: Settings) -> None:
    """With a token, whoever has it; else this machine alone, and nobody whom a proxy sends."""
    if settings.metrics_token:
        given = request.headers.get("authorization", "").encode("utf-8", "replace")
        allowed = hmac.compare_digest(given, f"Bearer {settings.metrics_token}".encode())
    else:
        allowed = is_loopback(request.state.address) and "x-forwarded-for" not in request.headers
    if not allowed:
        raise RefusedError(
            403, "not-allowed", "The figures are not for you.", "Start the hub with --metrics-token-file."
        )


def _errors(app: FastAPI) -> None:
    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> Response:
        return _problem(request, error.status, error.problem, error.retry_after)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        code = {404: "not-found", 405: "method-unknown"}.get(error.status_code, "refused")
        answer = _problem(request, error.status_code, Problem(code, str(error.detail)[:400]))
        if error.headers:
            answer.headers.update(error.headers)
        return answer

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first.get("loc", ()))
        message = f"{where}: {first.get('msg', 'is not understood')}".encode("utf-8", "replace").decode()[:400]
        return _problem(request, 422, Problem("not-understood", message, "See the OpenAPI document."))

    @app.exception_handler(LeukoError)
    async def ours(request: Request, error: LeukoError) -> Response:
        status, retry = (422, None) if isinstance(error, HubError) else (507 if error.code == "disk-full" else 503, 60)
        if isinstance(error, StoreError) or error.code.startswith(("database", "objects")):
            _log.error(error.message, extra={"facts": {"code": error.code}})
            status, retry = 503, 60
            return _problem(request, status, Problem(error.code, "The hub cannot store anything now."), retry)
        return _problem(request, status, Problem(error.code, error.message[:400], error.cure[:400]), retry)

    @app.exception_handler(OperationalError)
    @app.exception_handler(PoolTimeoutError)
    async def database(request: Request, error: Exception) -> Response:
        _log.error("the database does not answer", exc_info=error)
        return _problem(request, 503, Problem("database-unusable", "The database does not answer."), 10)

    @app.exception_handler(OSError)
    async def disk(request: Request, error: OSError) -> Response:
        _log.error("the disk or a store does not do what it should", exc_info=error)
        return _problem(request, 503, Problem("storage-failed", "The hub cannot store anything now."), 60)

    @app.exception_handler(ClientDisconnect)
    async def gone(_request: Request, _error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # nobody reads it


class _Around:
    """Times and logs a request, and gives its answer the headers that protect the pages."""

    def __init__(self, app: ASGIApp, hub: Hub) -> None:
        self._app = app
        self._headers = {**_HEADERS}
        if hub.settings.secure:
            self._headers["Strict-Transport-Security"] = "max-age=31536000"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        state = scope.setdefault("state", {})
        state["address"] = scope["client"][0] if scope.get("client") else ""
        status = 0

        async def answered(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, answered)
        except Exception:  # noqa: BLE001  # nobody else answers
            _log.exception("a request failed", extra={"facts": {"method": scope["method"], "path": scope["path"]}})
            if not status:
                problem = Problem("failed", "The hub failed. The failure is in its log.")
                await _problem(Request(scope), 500, problem)(scope, receive, answered)
        route = getattr(scope.get("route"), "path", "other")
        seconds = time.perf_counter() - began
        metrics.REQUESTS.labels(scope["method"], route, status).inc()
        metrics.SECONDS.labels(route).observe(seconds)
        facts = {
            "method": scope["method"],
            "route": route,
            "status": status,
            "milliseconds": round(1000 * seconds, 1),
            "actor": state.get("actor"),
            "address": state["address"],
        }
        _log.log(logging.WARNING if status >= 500 else logging.INFO, "request", extra={"facts": facts})


def _problem(request: Request, status: int, problem: Problem, retry_after: int | None = None) -> Response:
    if page_routes.is_page(request):
        return page_routes.problem_page(request, status, problem, retry_after)
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(msgspec.json.encode(problem), status, headers, media_type="application/json")


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        found = get_openapi(
            title=app.title,
            version=PREFIX.rpartition("/")[2],
            routes=app.routes,
            description="Devices: see docs/sync-protocol.md. Every 4xx and 5xx has a Problem as body.",
        )
        parts = found.setdefault("components", {}).setdefault("schemas", {})
        parts["Problem"] = schema(Problem)
        for name in ("HTTPValidationError", "ValidationError"):
            parts.pop(name, None)
        problem = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
        found["components"]["securitySchemes"] = {
            "device": {"type": "http", "scheme": "bearer"},
            "session": {"type": "apiKey", "in": "cookie", "name": "leuko_session"},
        }
        for path, methods in found["paths"].items():
            for method, operation in methods.items():
                for status in ("400", "401", "403", "404", "409", "422", "429"):
                    operation["responses"].setdefault(status, {"description": "Refused"})["content"] = problem
                if path not in {f"{PREFIX}/enrolments"} and (path, method) != (f"{PREFIX}/session", "post"):
                    operation["security"] = [{"device" if "device" in operation["tags"] else "session": []}]
        app.openapi_schema = found
    return app.openapi_schema

"""Asks an ASGI application directly, as a browser would through a server: cookies, forms, headers. No packages."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8")

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


@dataclass
class Browser:
    """Keeps the cookie and the token of the last page, and sends both with a form."""

    app: Any
    host: str = "127.0.0.1:8765"
    client: str = "127.0.0.1"
    cookie: str = ""
    csrf: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def get(self, path: str, **headers: str) -> Answer:
        answer = self.ask("GET", path, b"", {"accept": "text/html", **headers})
        if found := re.search(r'name="csrf" content="([^"]+)"', answer.body.decode("utf-8", "replace")):
            self.csrf = found[1]
        return answer

    def post(self, path: str, form: dict[str, str] | None = None, **headers: str) -> Answer:
        body = urlencode({"csrf": self.csrf, **(form or {})}).encode()
        kind = {"content-type": "application/x-www-form-urlencoded", "accept": "text/html"}
        return self.ask("POST", path, body, {**kind, **headers})

    def send(self, path: str, value: Any, **headers: str) -> Answer:
        sent = {"content-type": "application/json", "x-csrf": self.csrf, "accept": "application/json"}
        return self.ask("POST", path, json.dumps(value).encode(), {**sent, **headers})

    def ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        name, _, query = path.partition("?")
        sent = {"host": self.host, "content-length": str(len(body)), **self.headers, **headers}
        if self.cookie:
            sent["cookie"] = self.cookie
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": name,
            "raw_path": name.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(key.replace("_", "-").encode(), value.encode()) for key, value in sent.items()],
            "client": (self.client, 40000),
            "server": ("127.0.0.1", 8765),
        }
        answer = asyncio.run(_asked(self.app, scope, body))
        if cookie := answer.header("set-cookie"):
            self.cookie = cookie.partition(";")[0]
        return answer


async def _asked(app: Any, scope: dict[str, Any], body: bytes) -> Answer:
    messages: list[dict[str, Any]] = []
    given = False

    async def receive() -> dict[str, Any]:
        nonlocal given
        if given:
            await asyncio.sleep(3600)
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    try:
        await app(scope, receive, send)
    except Exception:  # the application answers, then raises for the server to log
        if not messages:
            raise
    start = messages[0]
    headers = [(key.decode(), value.decode()) for key, value in start["headers"]]
    return Answer(start["status"], headers, b"".join(message.get("body", b"") for message in messages[1:]))

"""A hub of a few lines for the tests of the device's side: docs/sync-protocol.md in memory, with faults on request.

It is written from the page, apart from the product's hub, and checks what a hub must check.
"""

from __future__ import annotations

import gzip
import json
import random
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

from edge.sync import messages

FAULTS = ("drop", "lost-answer", "half-answer", "cut-body", "500", "503", "twice", "slow")
NOW = "2026-11-24T10:00:00.000+00:00"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing of connections that a killed device leaves behind."""


class Hub:
    """What the hub knows. `fault` names the fault for a request, or gives None."""

    def __init__(self, fault: Callable[[str, str], str | None] | None = None) -> None:
        self.lock = threading.RLock()
        self.fault = fault or (lambda _method, _path: None)
        self.codes = {"CODE-1": None}
        self.devices: dict[str, set[str]] = {}
        self.results: dict[tuple[str, int], bytes] = {}
        self.owner: dict[str, str] = {}
        self.pictures: dict[str, bytes] = {}
        self.parts: dict[str, bytearray] = {}
        self.changes: list[tuple[str, bytes]] = []
        self.anchors: dict[str, Any] = {}
        self.health: list[Any] = []
        self.epoch = "epoch-1"
        self.requests: list[tuple[str, str, int]] = []
        self.log: list[str] = []
        self.server = _Server(("127.0.0.1", 0), self._handler())
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Hub:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def newest(self, identifier: str) -> int:
        return max((version for name, version in self.results if name == identifier), default=0)

    def decoded(self, identifier: str, version: int) -> messages.ResultVersion:
        return messages.decode(self.results[identifier, version], messages.ResultVersion)

    def lose(self, keep: Callable[[str, int], bool]) -> None:
        """Be restored from a backup: only some versions are left."""
        with self.lock:
            self.results = {key: body for key, body in self.results.items() if keep(*key)}
            self.epoch += "+"

    def review(self, identifier: str, *, status: str = "final", operator: str = "Dr Far", **document: Any) -> bytes:
        """Sign or change a result here, as a reviewer would."""
        with self.lock:
            newest = self.newest(identifier)
            seen = self.decoded(identifier, newest)
            event = "signed" if status == "final" else "corrected"
            made = msgspec.structs.replace(
                seen,
                version=newest + 1,
                status=status,
                operator=operator,
                document={**seen.document, **document},
                audit=msgspec.structs.replace(seen.audit, event=event, operator=operator, reason="seen from afar"),
            )
            body = messages.encode(made)
            self.results[identifier, newest + 1] = body
            self.changes.append((messages.sha256(body), body))
            return body

    def answer(self, method: str, path: str, headers: Any, body: bytes) -> tuple[int, dict[str, str], bytes]:
        with self.lock:
            return self._answer(method, path, headers, body)

    def _answer(self, method: str, path: str, headers: Any, body: bytes) -> tuple[int, dict[str, str], bytes]:
        assert path.startswith(messages.PREFIX), path
        route, _, query = path.removeprefix(messages.PREFIX).partition("?")
        if headers.get("Content-Encoding") == "gzip":
            try:
                body = gzip.decompress(body)
            except (OSError, EOFError):
                return _problem(400, "not-gzip")
        if (method, route) == ("POST", "/enrolments"):
            return self._enrol(messages.decode(body, messages.EnrolmentRequest))
        identity, _, secret = headers.get("Authorization", "").removeprefix("Bearer ").partition(".")
        if messages.credential_sha256(secret) not in self.devices.get(identity, set()):
            return _problem(401, "not-signed-in")
        if len(self.devices[identity]) == 2:
            self.devices[identity] = {messages.credential_sha256(secret)}
        if (method, route) == ("GET", "/device"):
            return _ok(200, messages.DeviceState(identity, "scope", self.epoch, NOW))
        if (method, route) == ("POST", "/device/credential"):
            self.devices[identity].add(messages.decode(body, messages.RotationRequest).credential_sha256)
            return 204, {}, b""
        if route.startswith("/device/clock-anchors/"):
            known = route in self.anchors
            self.anchors.setdefault(route, messages.decode(body, messages.ClockAnchor))
            return (200 if known else 201), {}, b""
        if route == "/device/health":
            self.health.append(messages.decode(body, messages.HealthReport))
            return 204, {}, b""
        if route == "/device/changes":
            after = int(dict(pair.split("=") for pair in query.split("&")).get("after") or 0)
            found = self.changes[after : after + 2]
            sent = [
                messages.Change(str(after + i + 1), digest, msgspec.Raw(raw)) for i, (digest, raw) in enumerate(found)
            ]
            cursor = str(after + len(found))
            raw = msgspec.json.encode(messages.Changes(tuple(sent), cursor, after + len(found) < len(self.changes)))
            return 200, {}, raw
        if route.startswith("/results/"):
            return self._result(route, headers, body, identity)
        return self._picture(method, route, headers, body)

    def _enrol(self, asked: messages.EnrolmentRequest) -> tuple[int, dict[str, str], bytes]:
        if asked.code not in self.codes:
            return _problem(403, "code-unknown")
        used = self.codes[asked.code]
        if used is None:
            identity = f"0193a7c2-5b1e-7c44-9d2e-{len(self.devices):012x}"
            self.devices[identity] = {asked.credential_sha256}
            self.codes[asked.code] = (identity, asked.credential_sha256)
            return _ok(201, messages.Enrolment(identity, asked.name, NOW))
        if used[1] != asked.credential_sha256:
            return _problem(409, "code-used")
        return _ok(200, messages.Enrolment(used[0], asked.name, NOW))

    def _result(self, route: str, headers: Any, body: bytes, device: str) -> tuple[int, dict[str, str], bytes]:
        _, _, identifier, _, number = route.split("/")
        version = int(number)
        digest = messages.sha256(body)
        if headers.get(messages.CONTENT_HASH) != digest:
            return _problem(422, "other-hash")
        try:
            sent = messages.decode(body, messages.ResultVersion)
        except msgspec.MsgspecError as error:
            return _problem(422, "not-a-result", str(error))
        assert (sent.id, sent.version) == (identifier, version)
        if self.owner.setdefault(identifier, device) != device:
            return _problem(409, "not-yours")
        held = self.results.get((identifier, version))
        if held is not None and messages.sha256(held) != digest:
            return _problem(409, "other-content", content_sha256=messages.sha256(held))
        if held is None and version > self.newest(identifier) + 1:
            return _problem(412, "version-gap", newest=self.newest(identifier))
        self.results[identifier, version] = body
        missing = tuple(
            messages.MissingPicture(each, len(self.parts.get(each, b"")))
            for each in dict.fromkeys(picture.sha256 for picture in sent.pictures)
            if each not in self.pictures
        )
        said = messages.Acknowledgement(identifier, version, digest, NOW, self.epoch, missing)
        return _ok(200 if held is not None else 201, said)

    def _picture(self, method: str, route: str, headers: Any, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if (method, route) == ("POST", "/pictures/missing"):
            asked = messages.decode(body, messages.PictureQuestion).pictures
            lacking = [each for each in asked if each not in self.pictures]
            found = tuple(messages.MissingPicture(each, len(self.parts.get(each, b""))) for each in lacking)
            return _ok(200, messages.PictureAnswer(found))
        if (method, route) == ("POST", "/pictures"):
            assert len(body) <= messages.MAX_BATCH_BYTES
            held, refused = [], []
            for digest, jpeg in messages.unpack(body):
                (held if messages.sha256(jpeg) == digest else refused).append(digest)
                if digest in held:
                    self.pictures[digest] = jpeg
            return _ok(200, messages.PicturesReceived(tuple(held), tuple(refused)))
        digest = route.removeprefix("/pictures/")
        if method == "HEAD":
            if digest in self.pictures:
                return 200, _offset(len(self.pictures[digest]), True), b""
            if digest in self.parts:
                return 200, _offset(len(self.parts[digest]), False), b""
            return 404, {}, b""
        unit, _, rest = headers["Content-Range"].partition(" ")
        assert unit == "bytes"
        span, _, total = rest.partition("/")
        first = int(span.partition("-")[0])
        if digest in self.pictures:
            return 200, _offset(len(self.pictures[digest]), True), b""
        part = self.parts.setdefault(digest, bytearray())
        if first != len(part):
            status, more, raw = _problem(409, "other-offset", offset=len(part))
            return status, {**more, **_offset(len(part), False)}, raw
        part += body
        if len(part) < int(total):
            return 202, _offset(len(part), False), b""
        whole = bytes(self.parts.pop(digest))
        if messages.sha256(whole) != digest:
            return _problem(422, "other-hash")
        self.pictures[digest] = whole
        return 201, _offset(len(whole), True), b""

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                return

            def handle_any(self) -> None:
                fault = hub.fault(self.command, self.path)
                length = int(self.headers.get("Content-Length", 0))
                if fault == "drop":
                    return self.cut()
                if fault == "cut-body":
                    part = self.rfile.read(length // 2)
                    if (self.command == "PUT" and "/pictures/" in self.path) or (
                        self.command == "POST" and self.path.endswith("/pictures")
                    ):
                        hub.answer(self.command, self.path, self.headers, part)
                    return self.cut()
                body = self.rfile.read(length)
                if len(body) < length:
                    return self.cut()
                if fault in {"500", "503"}:
                    more = {"Retry-After": "0"} if fault == "503" else {}
                    return self.reply(int(fault), {**more, **_problem(500, "broken")[1]}, b'{"code":"broken"}')
                if fault == "slow":
                    threading.Event().wait(0.02)
                status, headers, raw = hub.answer(self.command, self.path, self.headers, body)
                if fault == "twice":
                    status, headers, raw = hub.answer(self.command, self.path, self.headers, body)
                with hub.lock:
                    hub.requests.append((self.command, self.path, status))
                if fault == "lost-answer":
                    return self.cut()
                return self.reply(status, headers, raw, half=fault == "half-answer")

            def reply(self, status: int, headers: dict[str, str], raw: bytes, half: bool = False) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if status != 204:
                    self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                if half and len(raw) > 1:
                    self.wfile.write(raw[: len(raw) // 2])
                    return self.cut()
                self.wfile.write(raw)
                return None

            def cut(self) -> None:
                self.close_connection = True
                try:
                    self.connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    return

            do_GET = do_PUT = do_POST = do_HEAD = handle_any

        return Handler


def random_faults(seed: int, share: float) -> Callable[[str, str], str | None]:
    """Let a share of all requests go wrong, in every way."""
    chance = random.Random(seed)
    return lambda _method, _path: chance.choice(FAULTS) if chance.random() < share else None


def _offset(offset: int, whole: bool) -> dict[str, str]:
    return {messages.UPLOAD_OFFSET: str(offset), messages.UPLOAD_COMPLETE: "?1" if whole else "?0"}


def _ok(status: int, message: msgspec.Struct) -> tuple[int, dict[str, str], bytes]:
    return status, {"Content-Type": "application/json"}, messages.encode(message)


def _problem(status: int, code: str, message: str = "said no", **more: Any) -> tuple[int, dict[str, str], bytes]:
    raw = json.dumps({"code": code, "message": message, **more}).encode()
    return status, {"Content-Type": "application/json"}, raw

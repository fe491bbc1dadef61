"""A small HTTPS client for bad networks: one connection, a deadline for every request, a bandwidth limit, no redirects.

On the standard library: it imports in a few hundredths of a second, and gives the socket, which a deadline over a whole
request needs.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import logging
import socket
import ssl
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

from edge.core import clock
from edge.sync import policy
from edge.sync.trouble import BlockedError, UnreachableError

_CHUNK: Final = 16 * 1024
_MAX_ANSWER: Final = 64 * 1024 * 1024
_CONNECT_SECONDS: Final = 20.0
_SILENCE_SECONDS: Final = 60.0
_TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_NOT_YET_VALID, _EXPIRED = 9, 10  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Response:
    """An answer. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def problem(self) -> Mapping[str, Any]:
        """The JSON object of the body; empty when it is none."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def complaint(self) -> str:
        """What the server says is wrong: as a hub says it, or a FHIR server (OperationOutcome)."""
        problem = self.problem()
        issues = problem.get("issue")
        listed = "; ".join(filter(None, map(_diagnostics, issues if isinstance(issues, list) else [])))
        return str(problem.get("message") or listed or problem.get("code") or "")[:400]


def _diagnostics(issue: object) -> str:
    if not isinstance(issue, dict):
        return ""
    details = issue.get("details")
    text = details.get("text") if isinstance(details, dict) else ""
    return str(issue.get("diagnostics") or text or issue.get("code") or "")


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def tls_context(ca_file: str) -> ssl.SSLContext:
    """Make a context that checks certificates against the system's authorities, and those in `ca_file`.

    Raises `BlockedError` `certificate-file`.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file:
        try:
            context.load_verify_locations(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            raise BlockedError(
                "certificate-file", f"{ca_file} cannot be used ({error}).", "Name a PEM file with the authority."
            ) from None
    return context


def certificate_problem(host: str, error: ssl.SSLCertVerificationError) -> BlockedError:
    """Say what is wrong with a certificate, and whether this device's clock is what is wrong."""
    now = clock.read()
    number = error.verify_code
    doubtful = number == _NOT_YET_VALID or (number == _EXPIRED and now.tier == "unknown")
    if doubtful:
        how = "not valid yet" if number == _NOT_YET_VALID else "no longer valid"
        return BlockedError(
            "certificate-clock",
            f"The certificate of {host} is {how} by this device's clock, which reads {now.wall} (trust: {now.tier}); "
            "the clock is probably wrong.",
            "Set the clock (a time server, or: sudo date --utc --set 'YYYY-MM-DD HH:MM'), then run it again.",
        )
    return BlockedError(
        "certificate",
        f"The certificate of {host} is not accepted: {error.verify_message} (this device's clock reads {now.wall}, "
        f"trust: {now.tier}).",
        "Check the address; a hub with its own authority needs `ca_file`.",
    )


class _SecureConnection(http.client.HTTPConnection):
    """TLS whose handshake can be cut by a deadline, also behind a proxy: the socket is known before the handshake."""

    default_port = 443

    def __init__(self, host: str, port: int, server: str, context: ssl.SSLContext) -> None:
        super().__init__(host, port, timeout=_CONNECT_SECONDS)
        self._server = server
        self._context = context

    def connect(self) -> None:
        super().connect()
        self.sock = self._context.wrap_socket(self.sock, server_hostname=self._server, do_handshake_on_connect=False)
        self.sock.do_handshake()


class Client:
    """Talks to one server. The connection is made at the first request and closed by the `with` block."""

    def __init__(self, url: str, *, ca_file: str = "", bandwidth: policy.Bandwidth | None = None) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise BlockedError("address", f"{url!r} is not the address of a server.", "Write https://HOST or so.")
        if parts.username or parts.password:
            raise BlockedError("address", "The address holds a password.", "Keep secrets out of the configuration.")
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise BlockedError(
                "not-encrypted", f"{url} is not encrypted.", "Use https; plain http is for this machine itself only."
            )
        self.host = parts.hostname
        self._secure = parts.scheme == "https"
        self._port = parts.port or (443 if self._secure else 80)
        self._root = parts.path.rstrip("/")
        self._ca_file = ca_file
        self._bandwidth = bandwidth or policy.Bandwidth()
        self._open: http.client.HTTPConnection | None = None
        self._used = False

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        connection, self._open = self._open, None
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.close()

    def request(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Response:
        """Send one request and read its answer. Only for requests that may be repeated.

        Raises `UnreachableError` when there is no whole answer, or one that says to try again later; `BlockedError`
        for a certificate that is not accepted.
        """
        reused = self._open is not None and self._used
        try:
            response = self._attempt(method, path, body, headers or {})
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            # A connection that stood idle may have been closed meanwhile; that says nothing about the server.
            self.close()
            if not reused:
                raise self._unreachable("the connection was closed") from None
            response = self._guarded(method, path, body, headers or {})
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._translated(error) from error
        _log.debug("%s %s: %d", method, path, response.status)
        if response.status in _TRANSIENT:
            wait = policy.retry_after(response.headers.get("retry-after"), time.time())
            said = response.complaint() or http.client.responses.get(response.status, "")
            raise UnreachableError(
                f"http-{response.status}", f"{self.host} answered {response.status}: {str(said)[:200]}.", "", wait
            )
        return response

    def _guarded(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Response:
        try:
            return self._attempt(method, path, body, headers)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._translated(error) from error

    def _translated(self, error: Exception) -> UnreachableError | BlockedError:
        self.close()
        if isinstance(error, ssl.SSLCertVerificationError):
            return certificate_problem(self.host, error)
        if isinstance(error, TimeoutError):
            return self._unreachable("it did not answer in time")
        return self._unreachable(str(error) or type(error).__name__)

    def _unreachable(self, why: str) -> UnreachableError:
        return UnreachableError(
            "unreachable", f"{self.host} could not be reached: {why}.", "It is tried again; nothing is lost."
        )

    def _attempt(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Response:
        connection = self._open or self._new()
        with _deadline(connection, policy.deadline(len(body), self._bandwidth.rate)):
            if self._open is None:
                self._open, self._used = connection, False
                connection.connect()
                connection.sock.settimeout(_SILENCE_SECONDS)
            connection.putrequest(method, self._root + path, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            if body or method in {"PUT", "POST"}:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders()
            self._send(connection, body)
            answer = connection.getresponse()
            found = answer.read(_MAX_ANSWER + 1)
            stated = answer.getheader("Content-Length")
            if method != "HEAD" and answer.status not in {204, 304}:
                # Without a length an answer that was cut off, even among its headers, looks like a whole one.
                if stated is None and not answer.chunked:
                    raise http.client.HTTPException("the answer does not say how long it is")
                if stated is not None and stated.isdigit() and len(found) < int(stated):
                    raise http.client.IncompleteRead(found, int(stated) - len(found))
            if len(found) > _MAX_ANSWER:
                raise http.client.HTTPException("the answer is too long")
            self._used = True
            if answer.will_close:
                self.close()
        return Response(answer.status, {name.lower(): value for name, value in answer.getheaders()}, found)

    def _send(self, connection: http.client.HTTPConnection, body: bytes) -> None:
        start = time.monotonic()
        for place in range(0, len(body), _CHUNK):
            connection.send(body[place : place + _CHUNK])
            pause = self._bandwidth.pause(min(place + _CHUNK, len(body)), time.monotonic() - start)
            if pause > 0:
                time.sleep(pause)

    def _new(self) -> http.client.HTTPConnection:
        proxy = None if is_loopback(self.host) else urllib.request.getproxies().get("https" if self._secure else "http")
        through = urllib.parse.urlsplit(proxy) if proxy and not urllib.request.proxy_bypass(self.host) else None
        host, port = (through.hostname or "", through.port or 3128) if through else (self.host, self._port)
        made: http.client.HTTPConnection
        if self._secure:
            made = _SecureConnection(host, port, self.host, tls_context(self._ca_file))
        else:
            made = http.client.HTTPConnection(host, port, timeout=_CONNECT_SECONDS)
        if through:
            made.set_tunnel(self.host, self._port)
        return made


@contextlib.contextmanager
def _deadline(connection: http.client.HTTPConnection, seconds: float) -> Iterator[None]:
    """Cut the connection when the block takes longer: a partner that sends a byte a minute never times out itself."""
    late = threading.Event()

    def cut() -> None:
        late.set()
        found = connection.sock
        if found is not None:
            with contextlib.suppress(OSError, ValueError):
                # Of the plain socket: the encrypted one would wait for its partner.
                socket.socket.shutdown(found, socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError):
        if late.is_set():
            raise TimeoutError from None
        raise
    else:
        if late.is_set():
            raise TimeoutError
    finally:
        timer.cancel()

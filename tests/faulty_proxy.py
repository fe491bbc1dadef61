"""A way to a hub on which everything goes wrong that can: it ends TLS, and hands each request on, or does worse.

Its faults: `drop`, `delay`, `cut-body`, `cut-answer`, `lost-answer`, `twice`, `reorder`, `500`, `503`, `broken-after`
(handed on, and answered with 500), `slow` (a few bytes at a time, in both directions), and of the encryption `garbage`,
`cut-handshake` and `wrong-certificate`.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import ssl
import threading
import time
from collections import Counter
from pathlib import Path

from certificates import authority

FAULTS = (
    *("drop", "delay", "cut-body", "cut-answer", "lost-answer", "twice", "reorder"),
    *("500", "503", "broken-after", "slow"),
)
TLS_FAULTS = ("garbage", "cut-handshake", "cut-handshake", "garbage", "wrong-certificate")
_HOP = {"connection", "transfer-encoding", "keep-alive"}


class Proxy:
    """Listens at `url`, for those who trust `ca_file`, and hands on to the hub at a port of this machine.

    A share `faults` of all requests, and a quarter of that of all connections, go wrong, while `broken` is true;
    `applied` counts how. `lorises` connections to the hub stay open all the time and send a byte now and then.
    """

    def __init__(self, port: int, folder: Path, *, seed: int, faults: float, lorises: int = 0) -> None:
        self._port, self._share, self._lorises = port, faults, lorises
        self._chance, self._lock = random.Random(seed), threading.Lock()
        good, bad = folder / "good", folder / "bad"
        good.mkdir(parents=True)
        bad.mkdir()
        self.ca_file, key = authority(good)
        self._context, self._wrong = (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) for _ in range(2))
        self._context.load_cert_chain(self.ca_file, key)
        self._wrong.load_cert_chain(*authority(bad))
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self._ended = threading.Event()
        self.broken = False
        self.requests = 0
        self.applied: Counter[str] = Counter()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, daemon=True).start()
        for _ in range(self._lorises):
            threading.Thread(target=self._loris, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._listener.close()

    def _accept(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(OSError):
                accepted, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(accepted,), daemon=True).start()

    def _choose(self, among: tuple[str, ...], share: float) -> str | None:
        with self._lock:
            if not self.broken or self._chance.random() >= share:
                return None
            chosen = self._chance.choice(among)
            self.applied[chosen] += 1
            return chosen

    def _serve(self, accepted: socket.socket) -> None:
        with accepted, contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            accepted.settimeout(60)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            fault = self._choose(TLS_FAULTS, self._share / 4)
            if fault == "garbage":
                accepted.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                return
            if fault == "cut-handshake":
                accepted.recv(100)
                return
            context = self._wrong if fault == "wrong-certificate" else self._context
            with context.wrap_socket(accepted, server_side=True) as client:
                upstream = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
                try:
                    with client.makefile("rb") as reader:
                        while self._request(client, reader, upstream):
                            pass
                finally:
                    upstream.close()

    def _request(self, client: ssl.SSLSocket, reader: object, upstream: http.client.HTTPConnection) -> bool:
        """Hand one request on; returns whether the connection stays open."""
        line = reader.readline().decode("latin-1").split()  # type: ignore[attr-defined]
        if len(line) != 3:
            return False
        method, path, _ = line
        headers = http.client.parse_headers(reader)  # type: ignore[arg-type]
        length = int(headers.get("Content-Length", 0))
        fault = self._choose(FAULTS, self._share)
        with self._lock:
            self.requests += 1
        if fault == "drop":
            return False
        if fault == "cut-body" and length:
            part = reader.read(length // 2)  # type: ignore[attr-defined]
            self._send(upstream, method, path, headers, part)
            return False
        body = reader.read(length)  # type: ignore[attr-defined]
        if len(body) < length:
            return False
        if fault in {"500", "503"}:
            again = "Retry-After: 0\r\n" if fault == "503" else ""
            client.sendall(f"HTTP/1.1 {fault} No\r\n{again}Content-Length: 0\r\n\r\n".encode())
            return True
        if fault == "delay":
            time.sleep(self._chance.uniform(0.05, 0.5))
        if fault == "reorder":
            threading.Thread(target=self._later, args=(method, path, headers, body), daemon=True).start()
            return False
        if fault == "twice":
            other = threading.Thread(target=self._alone, args=(method, path, headers, body))
            other.start()  # at the same time, on a connection of its own
        try:
            self._send(upstream, method, path, headers, body, slowly=fault == "slow")
            answer = upstream.getresponse()
            raw = answer.read()
        except OSError:
            time.sleep(0.3)  # the hub is down: devices that come at once would take the time that it needs to start
            return False
        finally:
            if fault == "twice":
                other.join()
        if fault == "lost-answer":
            return False
        if fault == "broken-after":
            client.sendall(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
            return True
        lines = [f"HTTP/1.1 {answer.status} {answer.reason}"]
        lines += [f"{name}: {value}" for name, value in answer.getheaders() if name.lower() not in _HOP]
        whole = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + raw
        if fault == "cut-answer":
            client.sendall(whole[: self._chance.randrange(1, len(whole))])
            return False
        self._say(client, whole, slowly=fault == "slow")
        return True

    def _send(
        self,
        upstream: http.client.HTTPConnection,
        method: str,
        path: str,
        headers: http.client.HTTPMessage,
        body: bytes,
        *,
        slowly: bool = False,
    ) -> None:
        upstream.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            if name.lower() not in _HOP:
                upstream.putheader(name, value)
        upstream.endheaders()
        self._say(upstream, body, slowly=slowly)

    @staticmethod
    def _say(to: object, data: bytes, *, slowly: bool) -> None:
        send = to.send if isinstance(to, http.client.HTTPConnection) else to.sendall  # type: ignore[attr-defined]
        if not slowly:
            if data:
                send(data)
            return
        step = max(1, len(data) // 12)
        for start in range(0, len(data), step):
            send(data[start : start + step])
            time.sleep(0.03)

    def _alone(self, method: str, path: str, headers: http.client.HTTPMessage, body: bytes) -> None:
        """Hand a request on, and keep its answer from everyone."""
        upstream = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        with contextlib.suppress(OSError, http.client.HTTPException):
            self._send(upstream, method, path, headers, body)
            upstream.getresponse().read()
        upstream.close()

    def _later(self, method: str, path: str, headers: http.client.HTTPMessage, body: bytes) -> None:
        """Hand a request on after others that came later, its own repetition among them."""
        number, end = self.requests, time.monotonic() + 5
        while self.requests < number + 40 and time.monotonic() < end:
            time.sleep(0.02)
        self._alone(method, path, headers, body)

    def _loris(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 10) as opened:
                opened.sendall(b"PUT /api/v1/results/x HTTP/1.1\r\nHost: hub\r\nX-Slow: ")
                while not self._ended.wait(1):
                    opened.sendall(b"a")
            self._ended.wait(1)

"""A receiver of HL7 v2 over MLLP: one message for each version, each answered before the next."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from types import TracebackType
from typing import Final

from edge.store.incoming import Exchange
from edge.sync import hl7
from edge.sync.destinations.base import Site, Work
from edge.sync.http import certificate_problem, is_loopback, tls_context
from edge.sync.settings import Hl7Destination
from edge.sync.trouble import BlockedError, RefusedError, UnreachableError

_CONNECT_SECONDS: Final = 20.0
_ANSWER_SECONDS: Final = 60.0
_MAX_ANSWER: Final = 64 * 1024


class Hl7Sender:
    """Sends messages over one connection."""

    ordered = False
    replaces = True

    def __init__(self, destination: Hl7Destination, site: Site) -> None:
        self._destination = destination
        self._site = site
        self._open: socket.socket | None = None
        if destination.ca_file or not is_loopback(destination.host):
            self._context: ssl.SSLContext | None = tls_context(destination.ca_file)
        else:
            self._context = None

    def __enter__(self) -> Hl7Sender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def begin(self, exchange: Exchange) -> None:
        """Connect: with TLS, unless the receiver is this machine."""
        del exchange
        host, port = self._destination.host, self._destination.port
        try:
            plain = socket.create_connection((host, port), timeout=_CONNECT_SECONDS)
            self._open = plain if self._context is None else self._context.wrap_socket(plain, server_hostname=host)
        except ssl.SSLCertVerificationError as error:
            raise certificate_problem(host, error) from error
        except ssl.SSLError as error:
            raise BlockedError(
                "not-encrypted",
                f"{host}:{port} does not speak TLS ({error.reason or error}).",
                "Results leave this machine encrypted only: let the receiver speak TLS, or run a TLS tunnel here.",
            ) from error
        except OSError as error:
            raise self._lost(str(error)) from error

    def send(self, work: Work) -> bool:
        """Send a version and wait for its acknowledgement."""
        record = work.parcel.record
        body = hl7.message(work, self._site, self._destination)
        try:
            answer = self._exchange(hl7.START + body + hl7.END)
        except OSError as error:
            self._close()
            raise self._lost(str(error) or "no answer in time") from error
        said = hl7.read_acknowledgement(answer)
        if said is None:
            raise self._lost("the answer is no acknowledgement")
        if said.control_id != hl7.control_id(record.id, record.version):
            # An answer to something else: what comes after it could be taken for the wrong message as well.
            self._close()
            raise self._lost("the acknowledgement is of another message")
        if said.code in {"AA", "CA"}:
            return True
        message = f"{self._destination.host} answered {said.code or '?'}: {said.text[:200] or 'no reason given'}"
        raise RefusedError("hl7-refused", message, "Ask the receiver's administrator; then: leuko sync retry.")

    def complete(self, work: Work) -> None:
        """Do nothing: pictures do not go over HL7 v2."""

    def end(self, exchange: Exchange) -> None:
        """Do nothing: nothing comes back."""

    def _exchange(self, frame: bytes) -> bytes:
        opened = self._open
        if opened is None:
            raise OSError("not connected")
        opened.settimeout(_ANSWER_SECONDS)
        opened.sendall(frame)
        deadline = time.monotonic() + _ANSWER_SECONDS
        answer = b""
        while hl7.END not in answer:
            left = deadline - time.monotonic()
            if left <= 0 or len(answer) > _MAX_ANSWER:
                raise TimeoutError("no acknowledgement in time")
            opened.settimeout(left)
            part = opened.recv(4096)
            if not part:
                raise ConnectionResetError("the connection was closed before the acknowledgement")
            answer += part
        return answer[answer.find(hl7.START) + 1 : answer.index(hl7.END)]

    def _close(self) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            with contextlib.suppress(OSError):
                opened.close()

    def _lost(self, why: str) -> UnreachableError:
        where = f"{self._destination.host}:{self._destination.port}"
        return UnreachableError("unreachable", f"{where} could not be reached: {why}.", "It is tried again.")

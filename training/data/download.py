"""Downloads that go on where they broke off and are not believed before their checksum fits.

Only `https`, or `http` to this machine. The bytes are collected in `NAME.partial`; the file appears under its name
when it is complete and right.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import ipaddress
import json
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlsplit

from edge.core.errors import LeukoError, StoreError, UsageError
from training.data.storage import writing

MAX_BYTES: Final = 8 * 1024**3
"""No public set of single cells is larger; an endless answer ends here."""

_CHUNK: Final = 1 << 18
_DIGITS: Final = {"md5": 32, "sha1": 40, "sha256": 64}
_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_LONGEST_WAIT: Final = 60.0


class DownloadError(LeukoError):
    """A file could not be downloaded, or is not the file that was meant."""


class _BrokenOffError(Exception):
    """The connection ended too early; `wait` is what the server asked for, in seconds."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Checksum:
    """A published checksum: `method` md5, sha1 or sha256 and its hexadecimal `digits`."""

    method: str
    digits: str

    @classmethod
    def parse(cls, text: str) -> Checksum:
        """Read `sha256:abc...`; the method may be left out. Raises UsageError `bad-checksum`."""
        method, _, digits = text.strip().rpartition(":")
        digits = digits.casefold()
        method = method.casefold() or next((name for name, n in _DIGITS.items() if n == len(digits)), "")
        if _DIGITS.get(method) != len(digits) or set(digits) - set("0123456789abcdef"):
            raise UsageError("bad-checksum", f"{text!r} is no checksum.", "Write it as sha256:... or md5:...")
        return cls(method, digits)

    def fits(self, path: Path) -> bool:
        """Whether a file has this checksum."""
        # MD5 is what some publishers give: it finds damage, and whoever could forge it could forge the page as well.
        digest = hashlib.new(self.method, usedforsecurity=False)
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
        return digest.hexdigest() == self.digits


def require_safe(url: str) -> None:
    """Raise UsageError `unsafe-address` unless the address is https, or http on this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        parts, host = urlsplit(""), ""
    here = host == "localhost"
    with contextlib.suppress(ValueError):
        here = here or ipaddress.ip_address(host).is_loopback
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and here)):
        raise UsageError(
            "unsafe-address", f"{url!r} is not an https address.", "On the way, anyone could change what http brings."
        )


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(  # noqa: PLR0917  # the library's own signature
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        require_safe(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    # The default handlers would also open file: and ftp: addresses, were one redirected to.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _SafeRedirects(),
    ):
        opener.add_handler(handler)
    return opener


@dataclass(frozen=True, slots=True)
class _Partial:
    """A file in the making, and beside it which version of which address its bytes belong to."""

    path: Path

    @property
    def note(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def validator(self, url: str) -> str | None:
        """Give the version that the bytes are of, empty when the server named none, None when they are not of `url`."""
        try:
            known = json.loads(self.note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        fits = isinstance(known, dict) and known.get("url") == url
        return str(known.get("validator", "")) if fits else None

    def remember(self, url: str, validator: str) -> None:
        self.note.write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")

    def remove(self) -> None:
        for path in (self.path, self.note):
            path.unlink(missing_ok=True)


def _validator(headers: Any) -> str:
    tag = str(headers.get("ETag", ""))
    # A weak tag promises the same meaning, not the same bytes.
    return tag if tag and not tag.startswith("W/") else str(headers.get("Last-Modified", ""))


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


@contextlib.contextmanager
def _alone(partial: _Partial) -> Iterator[None]:
    """Let no second process write into the same partial file."""
    with writing(partial.path):
        partial.path.parent.mkdir(parents=True, exist_ok=True)
        lock = partial.path.with_name(partial.path.name + ".lock").open("w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DownloadError(
                "download-running", f"{partial.path} is being downloaded by another process.", "Wait for it."
            ) from error
        try:
            yield
        finally:
            Path(lock.name).unlink(missing_ok=True)


def fetch(  # noqa: PLR0917  # the last ones are for tests
    url: str,
    target: Path,
    checksum: Checksum,
    limit: int = MAX_BYTES,
    report: Callable[[int, int | None], None] | None = None,
    attempts: int = 6,
    timeout: float = 30.0,
    wait: Callable[[float], None] = time.sleep,
) -> Path:
    """Download `url` to `target`, unless the right file is there already; returns `target`.

    A download that broke off goes on (HTTP Range, RFC 9110 section 14), also in a later call. After a broken
    connection or an overloaded server it waits 1, 2, 4 ... seconds, or what the server asks for, and tries again.
    `report` is told the bytes so far and, where the server says so, of how many.

    Raises:
        UsageError: `unsafe-address`.
        DownloadError: `download-refused` (the server's answer is final), `download-failed` (no attempt got through),
            `checksum-mismatch`, `too-large` (more than `limit` bytes), `download-running`.
        StoreError: `disk-full`, `read-only` or `write-failed`; what has arrived is kept.
    """
    require_safe(url)
    if target.is_file() and checksum.fits(target):
        return target
    partial = _Partial(target.with_name(target.name + ".partial"))
    with _alone(partial):
        problem = ""
        for attempt in range(attempts):
            resumed = partial.size() > 0
            try:
                _attempt(url, partial, limit, report, timeout)
            except _BrokenOffError as error:
                problem = str(error)
                if attempt + 1 < attempts:
                    wait(min(_LONGEST_WAIT, max(error.wait, 2.0**attempt)))
                continue
            if checksum.fits(partial.path):
                with writing(target):
                    partial.path.replace(target)
                    partial.remove()
                return target
            partial.remove()
            problem = "its checksum did not fit"
            if not resumed:
                raise DownloadError(
                    "checksum-mismatch",
                    f"{url} is not the file with the {checksum.method} {checksum.digits}.",
                    "It has changed or was tampered with: compare the checksum with the publisher's page.",
                )
    raise DownloadError(
        "download-failed", f"{url} could not be downloaded: {problem}.", "Run it again: it goes on where it stopped."
    )


def _attempt(
    url: str, partial: _Partial, limit: int, report: Callable[[int, int | None], None] | None, timeout: float
) -> None:
    start, validator = partial.size(), partial.validator(url)
    headers = {"Accept-Encoding": "identity", "User-Agent": "leukoscope"}
    if start and validator is not None:
        headers["Range"] = f"bytes={start}-"
        # Without a version to ask for, the checksum alone finds out whether both halves belong together.
        if validator:
            headers["If-Range"] = validator
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  (only safe addresses come here)
    try:
        with _opener().open(request, timeout=timeout) as answer:
            if answer.status == 206:
                unit, _, rest = answer.headers.get("Content-Range", "").partition(" ")
                if unit != "bytes" or not rest.startswith(f"{start}-"):
                    partial.remove()
                    raise _BrokenOffError("the server went on at the wrong place")
            else:
                start = 0
            length = _number(answer.headers.get("Content-Length"))
            total = start + length if length is not None else None
            _require_room(url, partial, start, total, limit)
            with writing(partial.path), partial.path.open("ab" if start else "wb") as stream:
                partial.remember(url, _validator(answer.headers))
                _receive(url, answer, stream, start, total, limit, report)
    except urllib.error.HTTPError as error:
        _judge(url, error, partial)
    except (http.client.HTTPException, ConnectionError, TimeoutError, urllib.error.URLError) as error:
        raise _BrokenOffError(str(getattr(error, "reason", error)) or type(error).__name__) from error
    if partial.size() > limit:
        partial.remove()
        raise _too_large(url, limit)


def _receive(  # noqa: PLR0917
    url: str,
    answer: http.client.HTTPResponse,
    stream: IO[bytes],
    start: int,
    total: int | None,
    limit: int,
    report: Callable[[int, int | None], None] | None,
) -> None:
    done = start
    while done <= limit:
        try:
            chunk = answer.read(_CHUNK)
        except http.client.IncompleteRead as error:
            stream.write(error.partial)
            raise
        except OSError as error:  # of the network; those of the disk come from `write`
            raise _BrokenOffError(str(error)) from error
        if not chunk:
            break
        stream.write(chunk)
        done += len(chunk)
        if report is not None:
            report(done, total)
    stream.flush()
    os.fsync(stream.fileno())
    if total is not None and done < total:
        raise _BrokenOffError(f"the connection ended after {done} of {total} bytes")


def _too_large(url: str, limit: int) -> DownloadError:
    return DownloadError("too-large", f"{url} is larger than {limit} bytes.", "Check that it is the right address.")


def _require_room(url: str, partial: _Partial, start: int, total: int | None, limit: int) -> None:
    if total is None:
        return
    if total > limit:
        partial.remove()
        raise _too_large(url, limit)
    free = shutil.disk_usage(partial.path.parent).free
    if total - start > free:
        raise StoreError(
            "disk-full",
            f"{url} needs {total - start} bytes in {partial.path.parent}, of which {free} are free.",
            "Free space on that disk and run it again.",
        )


def _judge(url: str, error: urllib.error.HTTPError, partial: _Partial) -> None:
    """Raise for a refusal; return when the file turns out to be complete already."""
    if error.code == 416:
        if error.headers.get("Content-Range", "") == f"bytes */{partial.size()}":
            return
        partial.remove()
        raise _BrokenOffError("the server has a shorter file than before")
    if error.code in _AGAIN:
        raise _BrokenOffError(
            f"the server answered {error.code}", float(_number(error.headers.get("Retry-After")) or 0)
        )
    raise DownloadError(
        "download-refused", f"{url} cannot be had: the server answered {error.code}.", "Check the address."
    )

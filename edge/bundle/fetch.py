"""Where releases come from: a folder, as on a USB stick, or a web server that may be slow, endless or hostile."""

from __future__ import annotations

import contextlib
import queue
import re
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import urllib3
from tuf.api.exceptions import DownloadError, DownloadHTTPError, SlowRetrievalError
from tuf.ngclient import FetcherInterface
from tuf.ngclient.urllib3_fetcher import Urllib3Fetcher

from edge.bundle import archive, files
from edge.core.errors import BundleError

SCHEME: Final = "release://"
"""What a folder's files are called inside The Update Framework, which asks for URLs."""

GAP_SECONDS: Final = 30
_CHUNK: Final = 64 << 10
_PLAIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,254}")


class FolderFetcher(FetcherInterface):
    """Reads a repository in a folder: plain names, regular files, no links."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _fetch(self, url: str) -> Iterator[bytes]:
        names = url.removeprefix(SCHEME).split("/")
        if not all(_PLAIN.fullmatch(name) for name in names):
            raise DownloadError(f"{url} is not a plain name")
        path = self._folder.joinpath(*names)
        if path.is_symlink() or not path.exists():
            raise DownloadHTTPError(f"{path} is missing", 404)
        return self._chunks(path)

    @staticmethod
    def _chunks(path: Path) -> Iterator[bytes]:
        try:
            yield from files.chunks(path, archive.MAX_ARCHIVE_BYTES)
        except BundleError as error:
            raise DownloadError(error.message) from error
        except OSError as error:
            raise DownloadError(f"{path} cannot be read: {error.strerror}") from error


class _OwnAuthorityFetcher(FetcherInterface):
    """Downloads from a server whose certificate an authority of its own has signed; no proxy, no redirects."""

    def __init__(self, ca_file: str) -> None:
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_verify_locations(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            raise DownloadError(f"{ca_file} is no file of a certificate authority ({error})") from None
        self._pool = urllib3.PoolManager(ssl_context=context, headers={"User-Agent": "leukoscope"})

    def _fetch(self, url: str) -> Iterator[bytes]:
        answer = self._pool.request(
            "GET", url, preload_content=False, redirect=False, timeout=urllib3.Timeout(GAP_SECONDS)
        )
        if answer.status != 200:
            answer.release_conn()
            raise DownloadHTTPError(f"{url} was answered with {answer.status}", answer.status)
        return answer.stream(_CHUNK)


class WebFetcher(FetcherInterface):
    """Downloads with one deadline over everything: names, connection, headers and each byte of every file.

    The work is done by a thread that is left behind when the time is up, because no timeout of a socket covers a server
    that sends one byte now and then.
    """

    def __init__(self, seconds: float, ca_file: str = "") -> None:
        self._end = time.monotonic() + seconds
        self._fetcher: FetcherInterface = (
            _OwnAuthorityFetcher(ca_file)
            if ca_file
            else Urllib3Fetcher(socket_timeout=GAP_SECONDS, chunk_size=_CHUNK, app_user_agent="leukoscope")
        )

    def _fetch(self, url: str) -> Iterator[bytes]:
        chunks: queue.Queue[bytes | BaseException | None] = queue.Queue(maxsize=4)
        stopped = threading.Event()

        def put(item: bytes | BaseException | None) -> None:
            while not stopped.is_set():
                with contextlib.suppress(queue.Full):
                    chunks.put(item, timeout=1)
                    return

        def work() -> None:
            try:
                for chunk in self._fetcher.fetch(url):
                    put(chunk)
                    if stopped.is_set():
                        return
                put(None)
            except BaseException as error:  # noqa: BLE001  # handed over to the thread that waits
                put(error)

        threading.Thread(target=work, name="fetch", daemon=True).start()
        try:
            first = self._next(chunks, url)
        except BaseException:
            stopped.set()
            raise
        return self._rest(first, chunks, stopped, url)

    def _rest(
        self,
        first: bytes | None,
        chunks: queue.Queue[bytes | BaseException | None],
        stopped: threading.Event,
        url: str,
    ) -> Iterator[bytes]:
        try:
            chunk = first
            while chunk is not None:
                yield chunk
                chunk = self._next(chunks, url)
        finally:
            stopped.set()

    def _next(self, chunks: queue.Queue[bytes | BaseException | None], url: str) -> bytes | None:
        try:
            item = chunks.get(timeout=max(0.0, self._end - time.monotonic()))
        except queue.Empty:
            raise SlowRetrievalError(f"{url} was not complete when the time was up") from None
        if isinstance(item, DownloadError):
            raise item
        if isinstance(item, BaseException):
            raise DownloadError(f"{url}: {item}") from item
        return item

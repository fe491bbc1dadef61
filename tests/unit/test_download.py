"""Downloads against a real server on this machine that misbehaves in every way a server can."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from edge.cli.main import app
from edge.core.errors import LeukoError, StoreError, UsageError
from training.data import download, storage
from training.data.download import Checksum, DownloadError, fetch
from training.data.public import DOWNLOADS
from training.data.sources import read_manifest

BODY = np.random.default_rng(0).bytes(700_000)
SUM = Checksum("sha256", hashlib.sha256(BODY).hexdigest())

Answer = Callable[[BaseHTTPRequestHandler, int], None]


class Server:
    """Answers request number n with the n-th answer, the last one for all further requests."""

    def __init__(self, *answers: Answer) -> None:
        self.ranges: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                number = len(outer.ranges)
                outer.ranges.append(self.headers.get("Range"))
                start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client has had enough
                    answers[min(number, len(answers) - 1)](self, start)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/set.npz"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(*answers: Answer) -> Server:
        servers.append(Server(*answers))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def send(handler: BaseHTTPRequestHandler, code: int, body: bytes, length: int | None = None, **headers: str) -> None:
    handler.send_response(code)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def whole(handler: BaseHTTPRequestHandler, start: int) -> None:
    """A server that knows Range."""
    if start == 0:
        return send(handler, 200, BODY, ETag='"1"')
    if start >= len(BODY):
        return send(handler, 416, b"", Content_Range=f"bytes */{len(BODY)}")
    return send(handler, 206, BODY[start:], ETag='"1"', Content_Range=f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")


def dropped(handler: BaseHTTPRequestHandler, start: int) -> None:
    """Announces everything, sends 300 kB, hangs up."""
    send(handler, 200, BODY[:300_000], len(BODY), ETag='"1"')
    handler.connection.close()


def ignoring_range(handler: BaseHTTPRequestHandler, start: int) -> None:
    send(handler, 200, BODY, ETag='"1"')


def endless(handler: BaseHTTPRequestHandler, start: int) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(bytes(100_000))


def status(code: int, **headers: str) -> Answer:
    return lambda handler, start: send(handler, code, b"no", **headers)


def get(server: Server, folder: Path, checksum: Checksum = SUM, **more: object) -> tuple[Path, list[float]]:
    waits: list[float] = []
    path = fetch(server.url, folder / "set.npz", checksum, wait=waits.append, timeout=5, **more)  # type: ignore[arg-type]
    return path, waits


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_once_and_is_not_asked_for_again(serve: Callable[..., Server], tmp_path: Path) -> None:
    server, told = serve(whole), []
    path, waits = get(server, tmp_path, report=lambda done, total: told.append((done, total)))
    assert path.read_bytes() == BODY
    assert (waits, left(tmp_path), told[-1]) == ([], ["set.npz"], (len(BODY), len(BODY)))
    get(server, tmp_path)
    assert len(server.ranges) == 1


def test_a_dropped_connection_goes_on_where_it_broke(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(dropped, whole)
    path, waits = get(server, tmp_path)
    assert path.read_bytes() == BODY
    assert server.ranges == [None, "bytes=300000-"]
    assert waits == [1.0]


def test_a_later_call_goes_on_too(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(dropped, whole)
    with pytest.raises(DownloadError, match="300000 of 700000") as caught:
        get(server, tmp_path, attempts=1)
    assert caught.value.code == "download-failed"
    assert "set.npz.partial" in left(tmp_path)
    path, _ = get(server, tmp_path)
    assert path.read_bytes() == BODY
    assert server.ranges[-1] == "bytes=300000-"
    assert left(tmp_path) == ["set.npz"]


def test_a_server_that_ignores_range_starts_again(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(dropped, ignoring_range)
    assert get(server, tmp_path)[0].read_bytes() == BODY


def test_a_complete_partial_file_needs_no_byte_more(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(whole)
    (tmp_path / "set.npz.partial").write_bytes(BODY)
    (tmp_path / "set.npz.partial.json").write_text(f'{{"url": "{server.url}", "validator": "\\"1\\""}}')
    assert get(server, tmp_path)[0].read_bytes() == BODY
    assert server.ranges == [f"bytes={len(BODY)}-"]


def test_a_spoilt_partial_file_is_fetched_anew(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(whole)
    (tmp_path / "set.npz.partial").write_bytes(bytes(1000))
    (tmp_path / "set.npz.partial.json").write_text(f'{{"url": "{server.url}", "validator": ""}}')
    assert get(server, tmp_path)[0].read_bytes() == BODY
    assert server.ranges == ["bytes=1000-", None]


def test_the_partial_file_of_another_address_is_not_gone_on_with(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(whole)
    (tmp_path / "set.npz.partial").write_bytes(bytes(1000))
    (tmp_path / "set.npz.partial.json").write_text('{"url": "https://elsewhere.example/set.npz"}')
    get(server, tmp_path)
    assert server.ranges == [None]


def test_the_wrong_file_is_not_kept(serve: Callable[..., Server], tmp_path: Path) -> None:
    with pytest.raises(DownloadError) as caught:
        get(serve(whole), tmp_path, Checksum("md5", "0" * 32))
    assert caught.value.code == "checksum-mismatch"
    assert left(tmp_path) == []


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_a_refusal_is_final(serve: Callable[..., Server], tmp_path: Path, code: int) -> None:
    server = serve(status(code))
    with pytest.raises(DownloadError, match=str(code)) as caught:
        get(server, tmp_path)
    assert caught.value.code == "download-refused"
    assert len(server.ranges) == 1


def test_a_busy_server_is_given_the_time_it_asks_for(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(status(503, Retry_After="7"), status(429, Retry_After="99999"), status(500), whole)
    path, waits = get(server, tmp_path)
    assert path.read_bytes() == BODY
    assert waits == [7.0, 60.0, 4.0]


def test_a_server_that_never_works_is_given_up(serve: Callable[..., Server], tmp_path: Path) -> None:
    with pytest.raises(DownloadError) as caught:
        get(serve(status(503)), tmp_path, attempts=3)
    assert caught.value.code == "download-failed"


def test_an_endless_or_too_long_body_ends_at_the_limit(serve: Callable[..., Server], tmp_path: Path) -> None:
    for server in (serve(endless), serve(whole)):
        with pytest.raises(DownloadError) as caught:
            get(server, tmp_path, limit=500_000)
        assert caught.value.code == "too-large"
        assert "set.npz.partial" not in left(tmp_path)


def test_a_redirect_to_an_unsafe_place_is_not_followed(serve: Callable[..., Server], tmp_path: Path) -> None:
    for place in ("http://example.org/set.npz", "file:///etc/passwd", "ftp://127.0.0.1/x"):
        with pytest.raises(LeukoError):
            get(serve(status(302, Location=place)), tmp_path)
        assert "set.npz" not in left(tmp_path)


def test_a_redirect_on_this_machine_is_followed(serve: Callable[..., Server], tmp_path: Path) -> None:
    end = serve(whole)
    assert get(serve(status(302, Location=end.url)), tmp_path)[0].read_bytes() == BODY


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.org/a", "file:///etc/passwd", "ftp://example.org/a", "https://", ""),
        *("http://127.0.0.1.evil.org/a", "http://[::1", "https://example.org:99999999/a"),
    ],
)
def test_only_https_or_this_machine(tmp_path: Path, url: str) -> None:
    with pytest.raises(UsageError) as caught:
        fetch(url, tmp_path / "a", SUM)
    assert caught.value.code == "unsafe-address"


def test_a_full_disk_is_said_before_and_while_writing(
    serve: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(whole)
    usage = download.shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(download.shutil, "disk_usage", lambda _: usage._replace(free=1000))
        with pytest.raises(StoreError) as caught:
            get(server, tmp_path)
        assert caught.value.code == "disk-full"
    # /dev/full is a disk on which no byte finds room.
    (tmp_path / "set.npz.partial").symlink_to("/dev/full")
    with pytest.raises(StoreError) as caught:
        get(server, tmp_path)
    assert caught.value.code == "disk-full"


def test_a_folder_that_may_not_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught, storage.writing(tmp_path):
        raise PermissionError(13, "Permission denied")
    assert caught.value.code == "read-only"


def test_checksums_are_read_or_refused() -> None:
    assert Checksum.parse("A" * 32) == Checksum("md5", "a" * 32)
    assert Checksum.parse("sha256:" + "0" * 64).method == "sha256"
    for wrong in ("", "sha256:00", "z" * 32, "crc32:" + "0" * 8, "md5:" + "0" * 64):
        with pytest.raises(UsageError) as caught:
            Checksum.parse(wrong)
        assert caught.value.code == "bad-checksum"


def test_every_public_download_is_https_with_a_whole_checksum() -> None:
    for file in DOWNLOADS.values():
        download.require_safe(file.url)
        assert Checksum.parse(f"{file.checksum.method}:{file.checksum.digits}") == file.checksum


def test_the_command_downloads_unpacks_splits_and_does_not_download_twice(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    rng, arrays, body = np.random.default_rng(0), {}, io.BytesIO()
    for split in ("train", "val", "test"):
        coarse = rng.integers(0, 256, (8, 14, 14, 3), dtype=np.uint8)
        arrays[f"{split}_images"] = coarse.repeat(2, axis=1).repeat(2, axis=2)
        arrays[f"{split}_labels"] = np.arange(8, dtype=np.uint8)[:, None]
    np.savez_compressed(body, **arrays)
    data = body.getvalue()
    server = serve(lambda handler, start: send(handler, 200, data))
    words = ["train", "data", "--download", server.url, "--checksum", hashlib.sha256(data).hexdigest()]
    words += ["--layout", "bloodmnist", "--out", str(tmp_path / "out"), "--published-splits", "--json"]
    for _ in range(2):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
        summary = json.loads(result.stdout)
        assert summary["splits"] == {"test": 8, "train": 8, "validation": 8}
        assert summary["sources"]["bloodmnist"]["licence"] == "CC-BY-4.0"
        assert set(summary["sources"]["bloodmnist"]["counts"]) >= {"basophil", "erythroblast", "platelet"}
    assert len(server.ranges) == 1
    samples = read_manifest(tmp_path / "out")
    assert all((tmp_path / "out" / sample.file).is_file() for sample in samples)

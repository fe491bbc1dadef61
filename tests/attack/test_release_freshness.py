"""Releases made to harm: old, stale, mixed, endless and slow ones.

Each is refused with an error of ours, and the device's disk is as it was, byte for byte.
"""

from __future__ import annotations

import contextlib
import http.server
import shutil
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from releases import Device, Lab, copy, force_publication, signed_by

pytest.importorskip("tuf")
pytest.importorskip("ai_edge_litert")

from edge.bundle.release import repository
from edge.core import clock
from edge.core.errors import BundleError, UsageError
from edge.core.types import ClockReading

# Old, stale and mixed releases.


def test_rollback_to_a_release_before_the_one_that_was_seen(lab: Lab, device: Device, tmp_path: Path) -> None:
    old = copy(lab.repo, tmp_path / "old")
    lab.release("1.2.0")
    device.install(lab.repo)
    with device.refusing("release-rollback"):
        device.install(old)


def test_rollback_of_the_list_by_one_who_holds_the_online_keys(lab: Lab, device: Device) -> None:
    from tuf.api.metadata import MetaFile

    device.install(lab.repo)
    metadata = lab.repo / "metadata"
    shutil.copy(metadata / "2.snapshot.json", metadata / "3.snapshot.json")
    described = MetaFile.from_data(1, (metadata / "1.targets.json").read_bytes(), ["sha256"])

    def older(snapshot: Any) -> None:
        snapshot.version = 3
        snapshot.meta["targets.json"] = described

    signed_by(metadata / "3.snapshot.json", older, *lab.keys["snapshot"])

    def newer(timestamp: Any) -> None:
        timestamp.version = 3
        timestamp.snapshot_meta = MetaFile.from_data(3, (metadata / "3.snapshot.json").read_bytes(), ["sha256"])

    signed_by(metadata / "timestamp.json", newer, *lab.keys["timestamp"])
    with device.refusing("release-rollback"):
        device.install(lab.repo)


EARLIER = datetime(2026, 2, 1, tzinfo=timezone.utc)


def expired(monkeypatch: pytest.MonkeyPatch, role: str) -> None:
    """Let what the lab makes for one role have expired in the past."""
    usual = repository.Repository.expiry
    monkeypatch.setattr(
        repository.Repository, "expiry", lambda self, made: EARLIER if made == role else usual(self, made)
    )


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "root"])
def test_freeze_what_has_expired(lab: Lab, device: Device, role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expired(monkeypatch, role)
    if role == "root":
        repository.renew(lab.opened, "root")
        lab.sign()
        lab.publish()
        # It is properly signed and therefore kept, but leads to nothing.
        device.slots.trust.keep_root(lab.root_file(2).read_bytes())
    else:
        lab.release("1.2.0")
    with device.refusing("release-expired"):
        device.install(lab.repo)


def reading(wall: datetime, tier: Any) -> ClockReading:
    return ClockReading(wall.isoformat(timespec="milliseconds"), 1.0, "boot", tier)


@pytest.mark.parametrize(
    ("tier", "said"), [("unknown", "nothing vouches for"), ("rtc", "hardware clock"), ("network", "time server")]
)
def test_expiry_names_a_wrong_clock(
    lab: Lab, device: Device, monkeypatch: pytest.MonkeyPatch, tier: Any, said: str
) -> None:
    expired(monkeypatch, "timestamp")
    lab.publish()
    with device.refusing("release-expired"):
        try:
            device.install(lab.repo, now=reading(datetime.now(timezone.utc), tier))
        except BundleError as error:
            assert said in error.message
            raise


@pytest.mark.parametrize("wall", [datetime(1970, 1, 1, tzinfo=timezone.utc), datetime(2025, 6, 1, tzinfo=timezone.utc)])
def test_freeze_with_a_clock_that_starts_in_the_past(lab: Lab, device: Device, wall: datetime) -> None:
    with device.refusing("clock-behind"):
        device.install(lab.repo, now=reading(wall, "unknown"))


def test_freeze_with_the_clock_set_back(lab: Lab, device: Device) -> None:
    now = datetime.now(timezone.utc)
    device.install(lab.repo, now=reading(now, "network"))
    lab.release("1.2.0")
    with device.refusing("clock-behind"):
        device.install(lab.repo, now=reading(now - timedelta(days=30), "unknown"))
    assert device.install(lab.repo, now=reading(now + timedelta(days=1), "unknown")).bundle == "small@1.2.0"


def test_a_clock_that_nothing_vouches_for_sets_no_mark(lab: Lab, device: Device) -> None:
    device.install(lab.repo, now=reading(datetime(2099, 1, 1, tzinfo=timezone.utc), "unknown"))
    assert device.slots.trust.latest() == clock.EARLIEST_PLAUSIBLE


@pytest.mark.parametrize("name", ["snapshot", "targets"])
def test_mix_and_match(lab: Lab, device: Device, name: str) -> None:
    lab.release("1.2.0")
    metadata = lab.repo / "metadata"
    shutil.copy(metadata / f"2.{name}.json", metadata / f"3.{name}.json")
    with device.refusing("release-altered", "release-rollback"):
        device.install(lab.repo)


def test_an_old_archive_under_a_new_name(lab: Lab, device: Device) -> None:
    (old,) = (lab.repo / "targets").glob("*small-1.0.0.tar")
    (new,) = (lab.repo / "targets").glob("*small-1.1.0.tar")
    shutil.copy(old, new)
    with device.refusing("release-altered"):
        device.install(lab.repo)


def test_replay_of_a_revoked_key(lab: Lab, device: Device) -> None:
    revoked = lab.keys["targets"][0]
    repository.rotate(lab.opened, "targets", [], [revoked.public_key.keyid])
    lab.keys["targets"] = lab.keys["targets"][1:]
    lab.sign()
    lab.publish()
    device.install(lab.repo)
    # The thief has the revoked key, and the online keys as well.
    repository.add(lab.opened, lab.bundle("6.6.6"))
    drafted = lab.opened.drafted("targets")
    assert drafted is not None
    drafted.sign(revoked)
    lab.opened.save_draft("targets", drafted)
    with pytest.raises(UsageError):
        repository.sign(lab.opened, [revoked])
    force_publication(lab)
    with device.refusing("signature-invalid"):
        device.install(lab.repo)


def test_hiding_the_root_that_revokes_a_key(lab: Lab, device: Device) -> None:
    revoked = lab.keys["timestamp"][0]
    lab.keys["timestamp"] = [lab.new_key("timestamp-new")]
    new = [lab.keys["timestamp"][0].public_key]
    repository.rotate(lab.opened, "timestamp", new, [revoked.public_key.keyid])
    lab.sign()
    lab.publish()
    device.install(lab.repo)
    lab.root_file(2).unlink()
    signed_by(lab.repo / "metadata" / "timestamp.json", lambda made: setattr(made, "version", 99), revoked)
    with device.refusing("signature-invalid"):
        device.install(lab.repo)


def test_fast_forward_is_recovered_from_by_new_keys(lab: Lab, device: Device) -> None:
    stolen = lab.keys["timestamp"][0]
    signed_by(lab.repo / "metadata" / "timestamp.json", lambda made: setattr(made, "version", 2**31), stolen)
    device.install(lab.repo)
    lab.keys["timestamp"] = [lab.new_key("timestamp-new")]
    repository.rotate(lab.opened, "timestamp", [lab.keys["timestamp"][0].public_key], [stolen.public_key.keyid])
    lab.sign()
    (lab.repo / "metadata" / "timestamp.json").unlink()
    lab.publish()
    lab.release("1.2.0")
    assert device.install(lab.repo).bundle == "small@1.2.0"


# Endless and slow.


@pytest.mark.parametrize("name", ["2.root.json", "timestamp.json", "2.snapshot.json", "2.targets.json"])
def test_endless_metadata(lab: Lab, device: Device, name: str) -> None:
    with (lab.repo / "metadata" / name).open("ab") as stream:
        stream.truncate(900 << 20)
    started = time.monotonic()
    with device.refusing("release-too-large"):
        device.install(lab.repo)
    assert time.monotonic() - started < 60


def test_endless_archive(lab: Lab, device: Device) -> None:
    (path,) = (lab.repo / "targets").glob("*small-1.1.0.tar")
    with path.open("ab") as stream:
        stream.truncate(900 << 20)
    with device.refusing("release-too-large"):
        device.install(lab.repo)


class _Hostile(http.server.BaseHTTPRequestHandler):
    """Serves a folder; what `trick` names is served without an end, or a byte at a time, or with headers like that."""

    folder: Path
    trick: tuple[str, str]

    def do_GET(self) -> None:
        name, way = self.trick
        path = self.folder / self.path.lstrip("/")
        with contextlib.suppress(OSError):
            if name in self.path and way == "refused":
                return self.send_error(500)
            if name in self.path and way == "slow headers":
                for _ in range(600):
                    self.wfile.write(b"H")
                    self.wfile.flush()
                    time.sleep(0.05)
                return None
            if not path.is_file():
                return self.send_error(404)
            self.send_response(200)
            self.end_headers()
            data = path.read_bytes()
            if name in self.path and way == "endless":
                while True:
                    self.wfile.write(data)
            elif name in self.path and way == "slow":
                for byte in data:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    time.sleep(0.05)
            else:
                self.wfile.write(data)
        return None

    def log_message(self, *_: Any) -> None:
        return None


@contextlib.contextmanager
def served(folder: Path, trick: tuple[str, str] = ("nothing", "")) -> Iterator[str]:
    handler = type("Handler", (_Hostile,), {"folder": folder, "trick": trick})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def test_a_web_server_will_do(lab: Lab, device: Device) -> None:
    with served(lab.repo) as url:
        assert device.install(url).bundle == "small@1.1.0"


@pytest.mark.parametrize("name", ["timestamp.json", "1.1.0.tar"])
def test_endless_data_from_a_server(lab: Lab, device: Device, name: str) -> None:
    with served(lab.repo, (name, "endless")) as url, device.refusing("release-too-large"):
        device.install(url)


@pytest.mark.parametrize("way", ["slow", "slow headers"])
@pytest.mark.parametrize("name", ["timestamp.json", "1.1.0.tar"])
def test_a_slow_server(lab: Lab, device: Device, name: str, way: str) -> None:
    started = time.monotonic()
    with served(lab.repo, (name, way)) as url, device.refusing("release-too-slow"):
        device.install(url, deadline=1)
    assert time.monotonic() - started < 20


def test_a_server_that_fails_or_is_not_there(lab: Lab, device: Device) -> None:
    with served(lab.repo, ("timestamp", "refused")) as url, device.refusing("release-incomplete"):
        device.install(url)
    with device.refusing("release-unreachable", "release-too-slow"):
        device.install(url, deadline=5)

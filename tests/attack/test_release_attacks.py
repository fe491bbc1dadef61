"""Releases made to harm: each is refused with an error of ours, and the device's disk is as it was, byte for byte."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import io
import json
import os
import shutil
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import bundles
import pytest
from releases import Device, Lab, copy

pytest.importorskip("tuf")
pytest.importorskip("ai_edge_litert")

from edge.bundle import archive, update
from edge.bundle.release import publishing, repository
from edge.core import clock
from edge.core.errors import BundleError, UsageError
from edge.core.types import ClockReading


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A lab that has released 1.0.0, a device that uses it, and then 1.1.0 in the repository, unknown to the device."""
    folder = tmp_path_factory.mktemp("origin")
    lab = Lab.start(folder / "lab")
    lab.release("1.0.0")
    device = Device.provisioned(folder / "models", lab.root_file())
    device.install(lab.repo)
    device.activate()
    lab.release("1.1.0")
    _LABS[folder / "lab"] = lab
    return folder / "lab", folder / "models"


_LABS: dict[Path, Lab] = {}


@pytest.fixture
def lab(origin: tuple[Path, Path], tmp_path: Path) -> Lab:
    return Lab(copy(origin[0], tmp_path / "lab"), dict(_LABS[origin[0]].keys))


@pytest.fixture
def device(origin: tuple[Path, Path], tmp_path: Path) -> Device:
    from edge.bundle.slots import Slots

    return Device(Slots(copy(origin[1], tmp_path / "models")))


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change metadata without signing them again."""
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))


def signed_by(path: Path, change: Callable[[Any], object], *signers: Any) -> None:
    """Change metadata and sign them with these keys alone."""
    from tuf.api.metadata import Metadata

    metadata = Metadata.from_bytes(path.read_bytes())
    change(metadata.signed)
    metadata.signatures.clear()
    for signer in signers:
        metadata.sign(signer, append=True)
    path.write_bytes(metadata.to_bytes())


def test_what_is_attacked_here_would_otherwise_be_installed(lab: Lab, device: Device) -> None:
    assert device.active == "small@1.0.0"
    assert device.install(lab.repo).bundle == "small@1.1.0"
    assert device.install(lab.repo) is None
    device.activate()
    assert device.active == "small@1.1.0"


# Signatures.


@pytest.mark.parametrize("name", ["timestamp.json", "2.snapshot.json", "2.targets.json"])
def test_unsigned(lab: Lab, device: Device, name: str) -> None:
    edit(lab.repo / "metadata" / name, lambda found: found["signatures"].clear())
    with device.refusing("signature-invalid", "release-altered"):
        device.install(lab.repo)


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_signed_by_a_key_of_no_role(lab: Lab, device: Device, role: str) -> None:
    thief = lab.new_key("thief")
    name = "timestamp.json" if role == "timestamp" else f"2.{role}.json"
    signed_by(lab.repo / "metadata" / name, lambda _: None, thief)
    with device.refusing("signature-invalid", "release-altered"):
        device.install(lab.repo)


def test_a_key_of_one_role_does_not_sign_for_another(lab: Lab, device: Device) -> None:
    signed_by(lab.repo / "metadata" / "timestamp.json", lambda _: None, *lab.keys["snapshot"], *lab.keys["root"])
    with device.refusing("signature-invalid"):
        device.install(lab.repo)


def test_a_root_of_strangers(lab: Lab, device: Device, tmp_path: Path) -> None:
    stranger = Lab.start(tmp_path / "stranger")
    stranger.release("9.0.0")
    shutil.copy(stranger.root_file(), lab.root_file(2))
    with device.refusing("signature-invalid", "release-rollback"):
        device.install(lab.repo)
    with device.refusing("signature-invalid"):
        device.install(stranger.repo)


@pytest.mark.parametrize("signers", [0, 1])
def test_a_root_below_its_threshold(lab: Lab, device: Device, signers: int) -> None:
    repository.renew(lab.opened, "root")
    if signers:
        repository.sign(lab.opened, lab.keys["root"][:signers])
    with pytest.raises(BundleError, match="signatures") as caught:
        lab.publish()
    assert caught.value.code == "below-threshold"
    shutil.copy(lab.repo / "draft" / "root.json", lab.root_file(2))
    with device.refusing("signature-invalid"):
        device.install(lab.repo)


def test_a_root_that_only_its_own_keys_have_signed(lab: Lab, device: Device) -> None:
    new = [lab.new_key(f"new-{number}") for number in range(2)]
    removed = [key.public_key.keyid for key in lab.keys["root"]]
    repository.rotate(lab.opened, "root", [key.public_key for key in new], removed)
    repository.sign(lab.opened, new)
    shutil.copy(lab.repo / "draft" / "root.json", lab.root_file(2))
    with device.refusing("signature-invalid"):
        device.install(lab.repo)


def test_targets_below_their_threshold(tmp_path: Path) -> None:
    lab = Lab.start(tmp_path / "lab", targets_threshold=2)
    lab.release("1.0.0")
    device = Device.provisioned(tmp_path / "models", lab.root_file())
    device.install(lab.repo)
    repository.add(lab.opened, lab.bundle("1.1.0"))
    repository.sign(lab.opened, lab.keys["targets"][:1])
    with pytest.raises(BundleError) as caught:
        lab.publish()
    assert caught.value.code == "below-threshold"
    # Whoever holds one targets key and both online keys goes on by himself.
    force_publication(lab)
    with device.refusing("signature-invalid"):
        device.install(lab.repo)


def force_publication(lab: Lab) -> None:
    """Publish the draft of the targets without looking whether it may be."""
    opened = lab.opened
    targets = opened.newest("targets")
    snapshot, timestamp = publishing._online(
        opened, opened.root(), targets, [*lab.keys["snapshot"], *lab.keys["timestamp"]]
    )
    for target, described in targets.signed.targets.items():
        waiting = lab.repo / "draft" / target
        if waiting.exists():
            shutil.copy(waiting, lab.repo / "targets" / f"{described.hashes['sha256']}.{target}")
    (lab.repo / "metadata" / f"{targets.signed.version}.targets.json").write_bytes(targets.to_bytes())
    (lab.repo / "metadata" / f"{snapshot.signed.version}.snapshot.json").write_bytes(snapshot.to_bytes())
    (lab.repo / "metadata" / "timestamp.json").write_bytes(timestamp.to_bytes())


def test_the_same_signature_twice_counts_once(lab: Lab, device: Device) -> None:
    repository.renew(lab.opened, "root")
    repository.sign(lab.opened, lab.keys["root"][:1])
    path = lab.root_file(2)
    shutil.copy(lab.repo / "draft" / "root.json", path)
    edit(path, lambda found: found["signatures"].append(found["signatures"][0]))
    with device.refusing("signature-invalid", "release-damaged"):
        device.install(lab.repo)


# Altered files.


def test_one_byte_flipped_in_each_file(lab: Lab, device: Device) -> None:
    repository.renew(lab.opened, "root")
    lab.sign()
    lab.publish()
    read = [lab.root_file(2), lab.repo / "metadata" / "timestamp.json", lab.repo / "metadata" / "3.snapshot.json"]
    read += [lab.repo / "metadata" / "2.targets.json", *(lab.repo / "targets").glob("*small-1.1.0.tar")]
    for path in read:
        good = path.read_bytes()
        for place in (0, len(good) // 3, len(good) // 2, len(good) - 2):
            bad = bytearray(good)
            bad[place] ^= 1
            path.write_bytes(bytes(bad))
            fresh = Device(type(device.slots)(copy(device.slots.folder, lab.folder / f"d-{path.name[:20]}-{place}")))
            if path != lab.root_file(2):
                # The new root is properly signed, and kept at once: it is taken over before the attack.
                fresh.slots.trust.keep_root(lab.root_file(2).read_bytes())
            with fresh.refusing("signature-invalid", "release-altered", "release-damaged", "release-rollback"):
                fresh.install(lab.repo)
        path.write_bytes(good)
    assert device.install(lab.repo).bundle == "small@1.1.0"


def test_each_file_missing(lab: Lab, device: Device) -> None:
    for path in [
        lab.repo / "metadata" / "timestamp.json",
        lab.repo / "metadata" / "2.snapshot.json",
        lab.repo / "metadata" / "2.targets.json",
        *(lab.repo / "targets").glob("*small-1.1.0.tar"),
    ]:
        path.rename(path.with_suffix(".away"))
        with device.refusing("release-incomplete"):
            device.install(lab.repo)
        path.with_suffix(".away").rename(path)


@pytest.mark.parametrize("text", [b"", b"null", b"[" * 100_000, b'{"signed": 1, "signatures": []}', b"\xff" * 100])
@pytest.mark.parametrize("name", ["2.root.json", "timestamp.json", "2.snapshot.json"])
def test_metadata_that_are_none(lab: Lab, device: Device, name: str, text: bytes) -> None:
    (lab.repo / "metadata" / name).write_bytes(text)
    with device.refusing("release-damaged", "release-altered", "release-too-large"):
        device.install(lab.repo)


def test_truncated_archive(lab: Lab, device: Device) -> None:
    (path,) = (lab.repo / "targets").glob("*small-1.1.0.tar")
    path.write_bytes(path.read_bytes()[:-700])
    with device.refusing("release-altered"):
        device.install(lab.repo)


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


# Whose bundle it is.


def test_wrong_device_class_in_the_list(lab: Lab, device: Device) -> None:
    lab.release("1.2.0", classes=["raspberry-pi-5"])
    with device.refusing("wrong-device-class"):
        device.install(lab.repo, "1.2.0")
    # Without a version, the newest that is for this device.
    assert device.install(lab.repo).bundle == "small@1.1.0"


def test_wrong_device_class_in_the_bundle_alone(lab: Lab, device: Device) -> None:
    folder = lab.bundle("1.2.0", lambda values: values.update(device_classes=["raspberry-pi-5"]))
    found = archive.write(folder, lab.folder / "made.tar")
    data = (lab.folder / "made.tar").read_bytes()
    lab.release_bytes(data, "1.2.0", manifest_sha256=found.manifest.sha256)
    with device.refusing("wrong-device-class"):
        device.install(lab.repo)


def test_an_archive_of_another_bundle_than_was_signed(lab: Lab, device: Device) -> None:
    archive.write(lab.bundle("1.2.0"), lab.folder / "made.tar")
    lab.release_bytes((lab.folder / "made.tar").read_bytes(), "1.3.0")
    with device.refusing("release-altered"):
        device.install(lab.repo)


def test_a_bundle_that_is_not_released(lab: Lab, device: Device) -> None:
    with device.refusing("not-released"):
        device.install(lab.repo, "7.7.7")


def test_a_device_that_trusts_nobody(lab: Lab, tmp_path: Path) -> None:
    device = Device(type(Device.provisioned(tmp_path / "x", lab.root_file()).slots)(tmp_path / "models"))
    with device.slots.locked():
        pass
    with device.refusing("no-trust"):
        device.install(lab.repo)


def test_another_root_is_not_trusted_by_the_way(lab: Lab, device: Device, tmp_path: Path) -> None:
    stranger = Lab.start(tmp_path / "stranger")
    stranger.release("9.0.0")
    before = device.slots.trust.root()
    with device.slots.locked(), pytest.raises(UsageError):
        device.slots.trust.pin(stranger.root_file())
    with device.refusing("root-invalid"):
        device.slots.trust.pin(stranger.root_file(), "0" * 64, replace=True)
    with device.refusing("root-invalid"):
        device.slots.trust.pin(lab.repo / "metadata" / "timestamp.json", replace=True)
    assert device.slots.trust.root() == before


def test_a_list_whose_descriptions_are_not_ours_is_passed_over(lab: Lab, device: Device) -> None:
    lab.release_bytes(b"x", "8.0.0", version="../../8.0.0")
    lab.release_bytes(b"x", "8.0.1", unknown="key")
    lab.release_bytes(b"x", "8.0.2", schema=2)
    assert device.install(lab.repo).bundle == "small@1.1.0"


# What stands in the folder, and what in the archive. These archives are properly signed.


@pytest.mark.parametrize("name", ["../../../escaped.tar", "/escaped.tar", "a/../../escaped.tar", "..%2fescaped.tar"])
def test_path_traversal_by_a_target_s_name(lab: Lab, device: Device, name: str) -> None:
    lab.release_bytes(b"x" * 600, "1.2.0", name)
    with device.refusing("release-unreachable", "release-incomplete", "archive-invalid"):
        device.install(lab.repo)


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "device"])
def test_what_is_no_file_in_the_repository(lab: Lab, device: Device, kind: str) -> None:
    (path,) = (lab.repo / "targets").glob("*small-1.1.0.tar")
    kept = path.rename(path.with_suffix(".kept"))
    if kind == "link":
        path.symlink_to(kept)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with device.refusing("release-incomplete", "release-unreachable"):
        device.install(lab.repo)


def entry(name: str, **values: Any) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.mode = 0o644
    for key, value in values.items():
        setattr(made, key, value)
    return made


def rebuilt(
    lab: Lab, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], object], form: int = tarfile.USTAR_FORMAT
) -> bytes:
    """The archive of a bundle with its entries changed."""
    folder = lab.bundle("1.2.0")
    archive.write(folder, lab.folder / "made.tar")
    with tarfile.open(lab.folder / "made.tar") as opened:
        entries = [(member, opened.extractfile(member).read()) for member in opened.getmembers()]  # type: ignore[union-attr]
    change(entries)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as made:
        for member, data in entries:
            made.addfile(member, io.BytesIO(data) if member.isreg() else None)
    return buffer.getvalue()


Entries = list[tuple[tarfile.TarInfo, bytes]]


def _rename(place: int, name: str) -> Callable[[Entries], object]:
    return lambda entries: setattr(entries[place][0], "name", name)


def _swap(place: int, **values: Any) -> Callable[[Entries], object]:
    return lambda entries: entries.__setitem__(place, (entry(entries[place][0].name, size=0, **values), b""))


HOSTILE: dict[str, Callable[[Entries], object]] = {
    "path traversal": _rename(1, "../../escaped"),
    "absolute path": _rename(1, "/tmp/escaped"),
    "path inside": _rename(1, "./golden.npz"),
    "symbolic link": _swap(1, type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "hard link": _swap(1, type=tarfile.LNKTYPE, linkname="manifest.json"),
    "device": _swap(1, type=tarfile.CHRTYPE, devmajor=1, devminor=5),
    "pipe": _swap(1, type=tarfile.FIFOTYPE),
    "folder": lambda entries: entries.insert(0, (entry("x/", type=tarfile.DIRTYPE), b"")),
    "one file more": lambda entries: entries.append((entry("extra.bin", size=3), b"abc")),
    "a file twice": lambda entries: entries.append(entries[1]),
    "manifest twice": lambda entries: entries.insert(1, entries[0]),
    "manifest last": lambda entries: entries.append(entries.pop(0)),
    "a file missing": lambda entries: entries.pop(2),
    "other order": lambda entries: entries.insert(1, entries.pop(2)),
    "executable": lambda entries: setattr(entries[1][0], "mode", 0o4755),
    "owned by someone": lambda entries: setattr(entries[1][0], "uid", 1000),
    "long name in an extended header": _rename(1, "a" * 300),
    "content changed": lambda entries: entries.__setitem__(1, (entries[1][0], b"x" * entries[1][0].size)),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=list(HOSTILE))
def test_a_signed_archive_with_something_in_it(lab: Lab, device: Device, change: Any, tmp_path: Path) -> None:
    form = tarfile.GNU_FORMAT if change is HOSTILE["long name in an extended header"] else tarfile.USTAR_FORMAT
    lab.release_bytes(rebuilt(lab, change, form), "1.2.0")
    with device.refusing("archive-invalid"):
        device.install(lab.repo)
    assert not list(tmp_path.rglob("*escaped*")) and not Path("/tmp/escaped").exists()


def test_extended_headers_are_refused(lab: Lab, device: Device) -> None:
    def change(entries: Entries) -> None:
        entries[1][0].pax_headers = {"path": "../../escaped"}

    lab.release_bytes(rebuilt(lab, change, tarfile.PAX_FORMAT), "1.2.0")
    with device.refusing("archive-invalid"):
        device.install(lab.repo)


def _made(lab: Lab) -> bytes:
    archive.write(lab.bundle("1.2.0"), lab.folder / "made.tar")
    return (lab.folder / "made.tar").read_bytes()


def _zip_bomb(_: Lab) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        for number in range(8):
            made.writestr(f"{number}.npy", bytes(32 << 20))
    return buffer.getvalue()


def _huge_claim(lab: Lab) -> bytes:
    header = entry("manifest.json", size=8**11 - 1).tobuf(tarfile.USTAR_FORMAT)
    return header + _made(lab)[512:]


def _binary_size(lab: Lab) -> bytes:
    header = entry("manifest.json", size=1 << 62).tobuf(tarfile.GNU_FORMAT)
    return header + _made(lab)[512:]


SHAPES: dict[str, Callable[[Lab], bytes]] = {
    "zip bomb": _zip_bomb,
    "compressed": lambda lab: gzip.compress(_made(lab)),
    "compressed zeros": lambda _: gzip.compress(bytes(64 << 20)),
    "truncated in a header": lambda lab: _made(lab)[:700],
    "truncated in a file": lambda lab: _made(lab)[:-5000],
    "truncated at its end": lambda lab: _made(lab)[:-1],
    "without its end": lambda lab: _made(lab)[:-1024],
    "something after its end": lambda lab: _made(lab) + b"\0",
    "two archives": lambda lab: _made(lab) * 2,
    "something between files": lambda lab: _made(lab).replace(b"\0" * 512, b"\0" * 511 + b"x", 1),
    "a size of eight gigabytes": _huge_claim,
    "a size in binary": _binary_size,
    "one byte": lambda _: b"x",
    "zeros": lambda _: bytes(10_240),
    "text": lambda _: b"#!/bin/sh\nrm -rf /\n" * 100,
}


@pytest.mark.parametrize("make", SHAPES.values(), ids=list(SHAPES))
def test_signed_bytes_that_are_no_archive(lab: Lab, device: Device, make: Callable[[Lab], bytes]) -> None:
    lab.release_bytes(make(lab), "1.2.0")
    with device.refusing("archive-invalid", "manifest-invalid"):
        device.install(lab.repo)


MANIFESTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "unknown key": lambda m: m.update(execute="rm"),
    "unknown key inside": lambda m: m["golden"].update(url="http://example.org"),
    "absurd size": lambda m: m["variants"][0].update(size=1 << 62),
    "size of another file": lambda m: m["variants"][0].update(size=m["variants"][0]["size"] + 1),
    "negative size": lambda m: m["variants"][0].update(size=-5),
    "path for a name": lambda m: m["golden"].update(file="../golden.npz"),
    "another schema": lambda m: m.update(schema_version=2),
    "device class with a path": lambda m: m.update(device_classes=["../x"]),
    "forty device classes": lambda m: m.update(device_classes=[f"d{number}" for number in range(40)]),
    "envelope without its texts": lambda m: m.update(envelope={"recall_drop": 0.1}),
    "envelope beyond 1": lambda m: m.update(
        envelope={
            **dict.fromkeys(("modifications", "protocol", "impact"), "x"),
            "recall_drop": 2,
            "balanced_accuracy_drop": 0,
        }
    ),
}


@pytest.mark.parametrize("change", MANIFESTS.values(), ids=list(MANIFESTS))
def test_a_signed_archive_with_a_hostile_manifest(lab: Lab, device: Device, change: Any) -> None:
    def damage(entries: Entries) -> None:
        values = json.loads(entries[0][1])
        change(values)
        data = json.dumps(values).encode()
        entries[0] = (entry("manifest.json", size=len(data)), data)

    lab.release_bytes(rebuilt(lab, damage), "1.2.0")
    with device.refusing("manifest-invalid", "archive-invalid"):
        device.install(lab.repo)


def test_a_signed_bomb_in_the_golden_vectors(lab: Lab, device: Device) -> None:
    folder = lab.bundle("1.2.0")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        for name in ("inputs.npy", "logits.npy"):
            made.writestr(name, bytes(160 << 20))
    bundles.replace_golden(folder, buffer.getvalue())
    lab.release("1.2.0")

    def trial(unpacked: Path) -> None:
        from edge.bundle import golden, manifest

        golden.load(manifest.load(unpacked), unpacked)

    with device.refusing("golden-damaged"):
        device.install(lab.repo, trial=trial)


def test_a_signed_network_that_does_not_reproduce_its_vectors(lab: Lab, device: Device) -> None:
    from edge.inference import trial

    folder = lab.bundle("1.2.0")
    with zipfile.ZipFile(folder / "golden.npz") as found:
        members = {name: found.read(name) for name in found.namelist()}
    buffer = io.BytesIO()
    body = bytearray(members["logits.npy"])
    body[-24:] = body[-48:-24]
    with zipfile.ZipFile(buffer, "w") as made:
        made.writestr("inputs.npy", members["inputs.npy"])
        made.writestr("logits.npy", bytes(body))
    bundles.replace_golden(folder, buffer.getvalue())
    lab.release("1.2.0")
    with device.refusing("trial-failed"):
        device.install(lab.repo, trial=trial.prove)


def test_versions_are_ordered_as_semantic_versioning_says() -> None:
    # Section 11 of https://semver.org, and build metadata last.
    ordered = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11"]
    ordered += ["1.0.0-rc.1", "1.0.0", "1.0.0+site-1", "1.0.1", "1.2.0", "1.10.0", "2.0.0"]
    assert sorted(set(ordered), key=update.precedence) == ordered

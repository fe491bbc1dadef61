"""What a device does around sending: encryption, clocks and certificates, room on the disk, and the command."""

from __future__ import annotations

import dataclasses
import json
import logging
import sqlite3
import ssl
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from certificates import DAY, authority
from commands import leuko
from hubs import Hub
from sent_results import Device, made

from edge import app, recording
from edge.core.errors import StoreError
from edge.core.types import ClockReading
from edge.store import retention
from edge.store.incoming import Exchange
from edge.store.results import ResultStore
from edge.sync import http, secrets, service
from edge.sync.http import Client
from edge.sync.trouble import BlockedError, UnreachableError
from edge.sync.worker import Worker


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as opened:
        yield opened


@pytest.fixture
def device(tmp_path: Path, hub: Hub) -> Device:
    made_device = Device(tmp_path / "device")
    made_device.enrol(hub.url)
    return made_device


@pytest.mark.parametrize("url", ["http://hub.example.org", "http://10.0.0.7:8080", "http://192.168.1.4"])
def test_plain_http_is_for_this_machine_alone(url: str) -> None:
    with pytest.raises(BlockedError) as caught:
        Client(url)
    assert caught.value.code == "not-encrypted"


@pytest.mark.parametrize(
    "url", ["ftp://a", "hub.example.org", "https://", "https://ann:secret@hub.example.org", "https://h?a=1"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(BlockedError) as caught:
        Client(url)
    assert caught.value.code == "address" and "secret" not in caught.value.message


def secure(hub: Hub, pem: Path, private: Path) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, private)
    hub.server.socket = context.wrap_socket(hub.server.socket, server_side=True)
    return hub.url.replace("http:", "https:")


@pytest.mark.parametrize(
    ("begins", "ends", "tier", "code"),
    [
        (-DAY, DAY, "network", None),
        (DAY, 3 * DAY, "network", "certificate-clock"),
        (-3 * DAY, -DAY, "unknown", "certificate-clock"),
        (-3 * DAY, -DAY, "network", "certificate"),
    ],
)
def test_a_certificate_error_that_comes_from_a_wrong_clock_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begins: Any, ends: Any, tier: Any, code: str | None
) -> None:
    now = ClockReading("2026-11-24T10:00:00.000+00:00", 1.0, "boot", tier)
    monkeypatch.setattr(http.clock, "read", lambda: now)
    pem, private = authority(tmp_path, begins, ends)
    hub = Hub()
    url = secure(hub, pem, private)
    with hub, Client(url, ca_file=str(pem)) as client:
        if code is None:
            assert client.request("GET", "/api/v1/device").status == 401
            return
        with pytest.raises(BlockedError) as caught:
            client.request("GET", "/api/v1/device")
    assert caught.value.code == code
    assert now.wall in caught.value.message
    assert ("clock is probably wrong" in caught.value.message) is (code == "certificate-clock")


def test_a_certificate_of_nobody_is_refused(tmp_path: Path) -> None:
    pem, private = authority(tmp_path, -DAY, DAY)
    hub = Hub()
    url = secure(hub, pem, private)
    with hub, Client(url) as client, pytest.raises(BlockedError) as caught:
        client.request("GET", "/api/v1/device")
    assert caught.value.code == "certificate"


def test_a_partner_that_trickles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr(http.policy, "deadline", lambda *_: 0.4)
    listener, done = socket.create_server(("127.0.0.1", 0)), threading.Event()

    def trickle() -> None:
        opened, _ = listener.accept()
        opened.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        try:
            while not done.wait(0.05):
                opened.sendall(b"a")
        except OSError:
            return

    threading.Thread(target=trickle, daemon=True).start()
    with Client(f"http://127.0.0.1:{listener.getsockname()[1]}") as client, pytest.raises(UnreachableError) as caught:
        client.request("GET", "/")
    done.set()
    listener.close()
    assert "in time" in caught.value.message


def test_retry_after_is_obeyed_and_remembered_between_runs(hub: Hub, device: Device) -> None:
    device.save(made())
    answers = {"Retry-After": "3600"}
    real = hub.answer
    hub.answer = lambda *_: (429, answers, b"{}")  # type: ignore[method-assign]
    tally = device.run(patience=0)["hub"]
    assert isinstance(tally.trouble, UnreachableError) and tally.trouble.retry_after == 3600
    hub.answer = real  # type: ignore[method-assign]
    before = len(hub.requests)
    device.run(patience=0)
    assert len(hub.requests) == before, "asked again before its time"
    service.retry(device.config)
    device.run(patience=0)
    assert device.counts() == {"delivered": 1}


def test_pictures_are_let_go_only_when_every_destination_has_them(hub: Hub, device: Device, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    record = made()
    device.save(record)
    from edge.sync.settings import FolderDestination

    both = msgspec.structs.replace(device.config, destinations=(FolderDestination("usb", str(stick)),))
    device.config = both
    device.run("hub")
    assert service.release(both, only_as_needed=False).pictures == 0
    with sqlite3.connect(both.database_path) as connection, pytest.raises(sqlite3.DatabaseError, match="append-only"):
        connection.execute("INSERT INTO released_pictures SELECT sha256, 'now' FROM pictures")
    connection.close()
    stick.mkdir()
    service.retry(both)
    device.run()
    assert service.release(both, only_as_needed=False).pictures == 3
    with ResultStore(both.database_path) as store:
        assert store.verify_audit().intact
        kept = store.get(record.id)
        assert kept == dataclasses.replace(record, pictures=())
        signed = store.sign(record.id, "Dr Cho")
        store.save(dataclasses.replace(signed, version=3, status="corrected", operator="Dr Cho"), "a smudge")
        assert store.verify_audit().intact
    device.run()
    # The new versions still name the pictures, which the hub has.
    assert device.counts() == {"delivered": 3}
    assert len(hub.decoded(record.id, 3).pictures) == 3


def test_pictures_go_when_room_is_needed_and_not_before(hub: Hub, device: Device) -> None:
    device.save(*[made(f"S-{n}", n) for n in range(3)])
    device.run()
    assert service.release(device.config, only_as_needed=True).pictures == 0
    storage = msgspec.structs.replace(device.config.storage, release_below_megabytes=1e9)
    needy = msgspec.structs.replace(device.config, storage=storage)
    assert service.release(needy, only_as_needed=True).pictures == 9


def test_a_new_sample_is_refused_before_an_old_one_is_lost(device: Device) -> None:
    storage = msgspec.structs.replace(device.config.storage, refuse_below_megabytes=1e9)
    full = msgspec.structs.replace(device.config, storage=storage)
    with pytest.raises(StoreError) as caught:
        app.analyse([], "S-1", full)
    assert caught.value.code == "disk-nearly-full"
    retention.require_space(device.config.database_path, 1)


def test_without_a_destination_nothing_counts_as_delivered(tmp_path: Path) -> None:
    device = Device(tmp_path / "d")
    device.save(made())
    with Exchange(device.config.database_path) as exchange:
        assert exchange.close_outbox([]) == 0
    assert service.release(device.config, only_as_needed=False).pictures == 0


def test_a_moment_of_an_unset_clock_is_dated_at_the_first_contact(
    hub: Hub, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge.core import clock

    unset = clock.read()
    unset = dataclasses.replace(unset, tier="unknown", wall="1970-01-01T00:00:00.000+00:00")
    monkeypatch.setattr(clock, "read", lambda: dataclasses.replace(unset, monotonic=unset.monotonic + 1))
    device.save(made(created=unset))
    device.run()
    (anchor,) = hub.anchors.values()
    assert anchor.source == "hub" and anchor.device.boot_id == unset.boot_id and anchor.trusted.startswith("2026-11-24")
    device.run()
    assert len(hub.anchors) == 1
    with device.store() as store:
        kept = store.latest("S-1")
    assert kept is not None and kept.created == unset


def test_a_person_sends_from_the_command_line(hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    settings = {"LEUKO_DATA_FOLDER": str(tmp_path / "data")}
    refused = leuko(tmp_path, "sync", "run", **settings)
    assert refused.code == 2 and "[no-destination]" in refused.err and "enrol" in refused.err
    wrong = leuko(tmp_path, "sync", "enrol", hub.url, "CODE-9", **settings)
    assert wrong.code == 3 and "[code-unknown]" in wrong.err
    enrolled = leuko(tmp_path, "sync", "enrol", hub.url, "CODE-1", "--json", **settings)
    assert enrolled.document["destination"] == "hub"
    with ResultStore(tmp_path / "data" / "results.sqlite3") as store:
        store.save(made("S-1"))
    waiting = leuko(tmp_path, "sync", "status", "--json", **settings).document["destinations"][0]
    assert (waiting["name"], waiting["kind"], waiting["waiting"]) == ("hub", "hub", 1)
    sent = leuko(tmp_path, "sync", "run", "--json", **settings)
    assert sent.code == 0, sent.err
    assert sent.document == {
        "release": None,
        "destinations": [{"destination": "hub", "delivered": 1, "waiting": 0, "in_trouble": 0, "error": None}],
    }
    checked = leuko(tmp_path, "sync", "destinations", "--check", "--json", **settings)
    assert checked.document["destinations"][0]["problem"] is None
    assert "Nothing waits" in leuko(tmp_path, "sync", "conflicts", **settings).out
    secret = secrets.load_credential(tmp_path / "data", "hub").secret
    assert secret not in enrolled.out + enrolled.err + sent.out + sent.err + json.dumps(waiting)
    assert leuko(tmp_path, "sync", "release", "--json", **settings).document["pictures"] == 3
    hub.devices.clear()
    with ResultStore(tmp_path / "data" / "results.sqlite3") as store:
        store.save(made("S-2", 2))
    stopped = leuko(tmp_path, "sync", "run", **settings)
    assert stopped.code == 3 and "[not-signed-in]" in stopped.err


def test_a_patient_is_a_salted_reference_that_is_the_same_on_this_device_only(tmp_path: Path) -> None:
    one, other = Device(tmp_path / "one"), Device(tmp_path / "other")
    first = recording.with_person(made(), " 12345678 ", True, one.config)
    assert first.document["patient"] == secrets.patient_reference(one.folder, "12345678")
    assert first.document["patient"] != secrets.patient_reference(other.folder, "12345678")
    assert first.document["training_consent"] is True and "12345678" not in json.dumps(first.document)
    plain = made()
    assert recording.with_person(plain, "", False, one.config) is plain
    assert (one.folder / "secrets" / "patient-salt").stat().st_mode & 0o077 == 0


def test_a_metered_network_gets_the_numbers_alone(tmp_path: Path, hub: Hub) -> None:
    device = Device(tmp_path / "d")
    device.enrol(hub.url)
    device.save(made())
    free = device.config
    device.config = msgspec.structs.replace(free, sync=msgspec.structs.replace(free.sync, metered="yes"))
    device.run()
    assert device.counts() == {"accepted": 1} and not hub.pictures
    with device.store() as store:
        assert len(store.outbox()) == 1
    device.config = free
    device.run()
    assert device.counts() == {"delivered": 1} and len(hub.pictures) == 3


def test_nothing_is_read_into_memory_that_need_not_be(hub: Hub, device: Device) -> None:
    """A backlog of 16 MB of pictures is sent with a fraction of that."""
    for n in range(8):
        device.save(made(f"S-{n}", n, pictures=8, size=250_000))
    tracemalloc.start()
    device.run(patience=60)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    held = sum(len(each) for each in hub.pictures.values())
    assert held > 15_000_000
    # The hub of this test holds what it got in the same process.
    assert peak - held < 10_000_000, (peak, held)


def test_a_watching_worker_sends_what_is_saved_meanwhile(hub: Hub, device: Device) -> None:
    class StopError(Exception):
        pass

    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 1:
            device.save(made("S-2", 2))
        if len(naps) > 2:
            raise StopError

    destinations = service.destinations(device.config)
    with pytest.raises(StopError):
        Worker(destinations, service.site(device.config), sleep=nap).run(patience=0, watch=True)
    assert device.counts() == {"delivered": 1}
    assert all(0 < seconds <= 5 for seconds in naps)

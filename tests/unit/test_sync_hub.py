"""The device's side of docs/sync-protocol.md, against a hub over real sockets."""

from __future__ import annotations

import dataclasses
import json
import logging
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hubs import Hub, random_faults
from sent_results import Device, jpeg, made

from edge.core.errors import StoreError, UsageError
from edge.core.types import Picture, ResultRecord
from edge.store.incoming import Exchange
from edge.sync import content, messages, returning, secrets, service
from edge.sync.trouble import BlockedError, SyncError
from edge.sync.worker import alone


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as opened:
        yield opened


@pytest.fixture
def device(tmp_path: Path, hub: Hub) -> Device:
    made_device = Device(tmp_path / "device")
    made_device.enrol(hub.url)
    return made_device


def corrected(record: ResultRecord, sample: str) -> ResultRecord:
    return dataclasses.replace(record, version=2, sample=sample)


def test_every_result_arrives_once_whole_and_the_outbox_is_empty(hub: Hub, device: Device) -> None:
    records = [made(f"S-{n}", n) for n in range(5)]
    device.save(*records)
    assert device.run()["hub"].trouble is None
    assert sorted(hub.results) == sorted((record.id, 1) for record in records)
    for record in records:
        sent = hub.decoded(record.id, 1)
        assert (sent.sample, sent.status, sent.bundle_sha256) == (record.sample, "preliminary", "ab" * 32)
        assert [hub.pictures[each.sha256] for each in sent.pictures] == [each.jpeg for each in record.pictures]
        with device.store() as store:
            assert store.trail(record.id)[0].link == sent.audit.link
            assert store.outbox() == ()
    before = len(hub.requests)
    device.run()
    assert not [each for each in hub.requests[before:] if each[1].startswith("/api/v1/results")]


def test_numbers_of_all_results_go_before_any_picture(hub: Hub, device: Device) -> None:
    device.save(*[made(f"S-{n}", n) for n in range(3)])
    device.run()
    kinds = [path.split("/")[3] for _, path, _ in hub.requests if "/device" not in path]
    assert kinds[:4] == ["enrolments", "results", "results", "results"]
    assert set(kinds[4:]) == {"pictures"}


def test_file_names_and_messages_stay_on_the_device(hub: Hub, device: Device) -> None:
    device.save(made())
    device.run()
    sent = b"".join(hub.results.values()).decode()
    assert "Okafor" not in sent and "media" not in sent
    assert "truncated" in sent and "field-1" in sent


def test_a_picture_is_sent_once_however_many_results_show_it(hub: Hub, device: Device) -> None:
    record = made()
    device.save(record, corrected(record, "S-2"))
    device.run()
    assert len(hub.pictures) == 3
    assert hub.newest(record.id) == 2


def test_a_large_picture_goes_in_parts_and_on_from_where_it_was_cut(tmp_path: Path) -> None:
    cuts = iter([None, "cut-body", None, "cut-body"])

    def fault(method: str, path: str) -> str | None:
        return next(cuts, None) if method == "PUT" and "/pictures/" in path else None

    with Hub(fault) as hub:
        device = Device(tmp_path / "d")
        device.enrol(hub.url)
        device.save(made(pictures=0), made("S-2", pictures=1, size=1_500_000))
        with device.store() as store:
            kept = store.latest("S-2")
        assert kept is not None
        large = kept.pictures[0].jpeg
        device.run()
        assert hub.pictures[messages.sha256(large)] == large
        parts = [status for method, path, status in hub.requests if method == "PUT" and "/pictures/" in path]
        assert parts.count(201) == 1 and parts.count(202) >= 4


@pytest.mark.parametrize("fault", ["drop", "lost-answer", "half-answer", "cut-body", "500", "503", "twice", "slow"])
def test_each_fault_alone_loses_and_doubles_nothing(tmp_path: Path, fault: str) -> None:
    asked: dict[str, int] = {}

    def every_first(method: str, path: str) -> str | None:
        asked[method + path] = asked.get(method + path, 0) + 1
        return fault if asked[method + path] == 1 else None

    with Hub(every_first) as hub:
        device = Device(tmp_path / "d")
        for _ in range(3):
            try:
                device.enrol(hub.url)
                break
            except SyncError:
                assert fault not in {"twice", "slow"}
        record = made(pictures=4, size=300_000)
        device.save(record, made("S-2", 2))
        tally = device.run()["hub"]
        assert tally.trouble is None and device.counts() == {"delivered": 2}
        assert len(hub.results) == 2 and len(hub.pictures) == 7


def test_many_faults_lose_and_double_nothing(tmp_path: Path) -> None:
    with Hub() as hub:
        device = Device(tmp_path / "d")
        device.enrol(hub.url)
        hub.fault = random_faults(11, 0.35)
        records = [made(f"S-{n}", n) for n in range(12)]
        device.save(*records)
        device.run(patience=60)
        assert device.counts() == {"delivered": 12}
        assert {key[0] for key in hub.results} == {record.id for record in records}
        for record in records:
            assert all(hub.pictures[messages.sha256(each.jpeg)] == each.jpeg for each in record.pictures)


def test_the_same_contents_there_already_are_success(hub: Hub, device: Device) -> None:
    record = made()
    device.save(record)
    hub.fault = lambda _method, path: "lost-answer" if "/results/" in path else None
    device.run(patience=0.0)
    assert (record.id, 1) in hub.results and device.counts() == {"pending": 1}
    hub.fault = lambda *_: None
    device.run()
    assert device.counts() == {"delivered": 1}


def test_the_bytes_of_an_attempt_are_those_of_every_later_one(
    hub: Hub, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.save(made())
    hub.fault = lambda _method, path: "lost-answer" if "/results/" in path else None
    device.run(patience=0.0)
    hub.fault = lambda *_: None
    # As after an update of the software that writes a version differently.
    monkeypatch.setattr("edge.sync.content.version", lambda *_: pytest.fail("made anew"))
    device.run()
    assert device.counts()["delivered"] == 1


def test_other_contents_there_become_a_conflict_that_a_person_sees(hub: Hub, device: Device) -> None:
    record, other = made(), made("S-2", 2)
    device.save(record, corrected(record, "S-9"), other)
    foreign = messages.encode(as_sent(device, record, sample="another"))
    hub.results[record.id, 1] = foreign
    hub.owner[record.id] = next(iter(hub.devices))
    device.run()
    # The version after it waits; other results go on.
    assert device.counts() == {"conflict": 1, "pending": 1, "delivered": 1}
    stuck, _ = service.conflicts(device.config)
    assert [(each.id, each.version, each.code) for each in stuck] == [(record.id, 1, "other-content")]
    assert hub.results[record.id, 1] == foreign


def as_sent(device: Device, record: ResultRecord, **changes: str) -> messages.ResultVersion:
    with Exchange(device.config.database_path) as exchange:
        version = content.version(exchange.parcel(record.id, 1), exchange.picture)
    return msgspec.structs.replace(version, **changes)


def test_a_hub_that_lost_versions_gets_those_between(hub: Hub, device: Device) -> None:
    record = made()
    device.save(record)
    device.run()
    hub.results.clear()  # without a new epoch: it does not even know
    device.save(corrected(record, "S-2"))
    device.run()
    assert sorted(hub.results) == [(record.id, 1), (record.id, 2)]


def test_a_hub_restored_from_a_backup_gets_everything_again(hub: Hub, device: Device) -> None:
    records = [made(f"S-{n}", n) for n in range(4)]
    device.save(*records)
    device.run()
    hub.review(records[0].id)
    device.run()
    whole = dict(hub.results)
    hub.lose(lambda identifier, version: identifier == records[1].id or (identifier == records[0].id and version == 1))
    device.run()
    assert set(hub.results) == set(whole)
    assert device.counts() == {"delivered": 5}
    assert all(hub.results[key] == whole[key] for key in whole if key != (records[0].id, 2))


def test_a_sign_off_comes_back_with_the_devices_own_file_names(hub: Hub, device: Device) -> None:
    record = made()
    device.save(record)
    device.run()
    hub.review(record.id)
    hub.review(record.id, status="corrected", operator="Dr Second")
    device.run()
    with device.store() as store:
        history = store.history(record.id)
        assert [(each.version, each.status, each.operator) for each in history] == [
            *((1, "preliminary", "Ann"), (2, "final", "Dr Far"), (3, "corrected", "Dr Second"))
        ]
        assert history[2].document == record.document
        assert history[2].pictures == record.pictures
        assert [entry.event for entry in store.trail(record.id)] == ["saved", "signed", "corrected"]
        assert store.verify_audit().intact
        assert store.outbox() == ()
    assert device.counts() == {"delivered": 3}
    before = dict(hub.results)
    device.run()
    assert hub.results == before


def test_a_relabelled_document_comes_back(hub: Hub, device: Device) -> None:
    record = made()
    device.save(record)
    device.run()
    hub.review(record.id, status="preliminary", runtime="litert-int8", differential={"counted": 7})
    device.run()
    with device.store() as store:
        latest = store.get(record.id)
    assert latest is not None
    assert latest.document["differential"] == {"counted": 7}
    assert latest.document["fields"] == record.document["fields"]


@pytest.mark.parametrize("keep", ["hub", "device"])
def test_a_conflict_of_both_sides_is_decided_by_a_person(hub: Hub, device: Device, keep: str) -> None:
    record = made()
    device.save(record)
    device.run()
    with device.store() as store:
        store.sign(record.id, "Dr Near")
    hub.review(record.id, operator="Dr Far")
    hub.review(record.id, status="corrected", operator="Dr Far")
    device.run()
    stuck, incoming = service.conflicts(device.config)
    assert [(each.version, each.state) for each in stuck] == [(2, "conflict")]
    assert [each.version for each in incoming] == [2, 3]
    with pytest.raises(UsageError):
        returning.resolve(record.id, "hub", keep, " ", device.config.database_path)
    decided = returning.resolve(record.id, "hub", keep, "Dr Head", device.config.database_path)
    assert (decided.version, decided.status) == (4, "corrected")
    device.run()
    assert service.conflicts(device.config) == ((), ())
    assert hub.newest(record.id) == 4
    assert hub.decoded(record.id, 4).operator == "Dr Head"
    with device.store() as store:
        assert store.verify_audit().intact and store.outbox() == ()


def test_a_version_that_a_hub_refuses_holds_up_no_other(hub: Hub, device: Device) -> None:
    record, other = made(), made("S-2", 2)
    device.save(record, other)
    hub.owner[record.id] = "another-device"
    device.run()
    assert device.counts() == {"conflict": 1, "delivered": 1}
    hub.owner.clear()
    assert service.retry(device.config) == 1
    device.run()
    assert device.counts() == {"delivered": 2}


def test_a_revoked_device_stops_and_says_so(hub: Hub, device: Device) -> None:
    device.save(made())
    hub.devices.clear()
    tally = device.run()["hub"]
    assert isinstance(tally.trouble, BlockedError) and tally.trouble.code == "not-signed-in"
    assert device.counts() == {"pending": 1}


def test_the_hub_learns_how_the_device_is(hub: Hub, device: Device) -> None:
    device.save(made(), made("S-2", 2))
    device.run()
    report = hub.health[-1]
    assert report.recent.results == 2 and report.recent.cells == 406 and report.recent.other == 6
    assert report.backlog.results == 0 and {check.id for check in report.checks} == {"clock", "disk"}
    device.run()
    assert hub.health[-1].sequence == report.sequence + 1


def test_enrolling_again_with_the_same_code_after_a_lost_answer(tmp_path: Path, hub: Hub) -> None:
    device = Device(tmp_path / "d")
    hub.fault = lambda _method, path: "lost-answer" if path.endswith("/enrolments") else None
    with pytest.raises(Exception, match="could not be reached"):
        device.enrol(hub.url)
    hub.fault = lambda *_: None
    device.enrol(hub.url)
    assert len(hub.devices) == 1
    with pytest.raises(Exception, match="403"):
        device.enrol(hub.url, "CODE-9")
    assert device.run()["hub"].trouble is None, "a refused code must not spoil the credential in use"


@pytest.mark.parametrize("lost", [False, True])
def test_a_secret_is_replaced_also_when_the_answer_is_lost(hub: Hub, device: Device, lost: bool) -> None:
    before = secrets.load_credential(device.folder, "hub")
    if lost:
        hub.fault = lambda _method, path: "lost-answer" if path.endswith("/credential") else None
        with pytest.raises(Exception, match="could not be reached"):
            service.rotate(device.config, "hub")
        hub.fault = lambda *_: None
    else:
        service.rotate(device.config, "hub")
    assert device.run()["hub"].trouble is None
    after = secrets.load_credential(device.folder, "hub")
    assert after.secret not in {before.secret, ""} and after.pending == ""
    assert hub.devices[after.device_id] == {messages.credential_sha256(after.secret)}


def test_secrets_are_private_and_never_in_a_log_or_an_answer(
    hub: Hub, device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    device.save(made())
    hub.fault = random_faults(3, 0.3)
    device.run()
    path = secrets.credential_path(device.folder, "hub")
    known = secrets.load_credential(device.folder, "hub")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert len(known.secret) >= 43
    said = caplog.text + repr(known) + repr(service.status(device.config)) + json.dumps(device.counts())
    for file in device.folder.rglob("*"):
        if file.is_file() and file != path:
            assert known.secret.encode() not in file.read_bytes(), file
    assert known.secret not in said
    assert "PUT" in caplog.text
    path.chmod(0o644)
    tally = device.run()["hub"]
    assert tally.trouble is not None and tally.trouble.code == "secret-exposed"


def test_one_worker_at_a_time(hub: Hub, device: Device) -> None:
    with alone(device.folder), pytest.raises(StoreError, match="Another"):
        device.run()


def test_an_altered_result_is_not_sent(hub: Hub, device: Device) -> None:
    record, other = made(), made("S-2", 2)
    device.save(record, other)
    connection = sqlite3.connect(device.config.database_path)
    connection.executescript(
        "DROP TRIGGER results_never_updated; UPDATE results SET operator = 'Mallory' WHERE sample = 'S-1'"
    )
    connection.close()
    device.run()
    assert device.counts() == {"refused": 1, "delivered": 1}
    assert (record.id, 1) not in hub.results


def test_pictures_with_metadata_leave_without_it(hub: Hub, device: Device) -> None:
    exif = b"\xff\xe1\x00\x15Exif\0\0Okafor Ann 71"
    plain = jpeg(5)
    record = made(pictures=1)
    record = dataclasses.replace(record, pictures=(Picture("field", 0, None, plain[:2] + exif + plain[2:]),))
    device.save(record)
    device.run()
    assert hub.pictures == {messages.sha256(plain): plain}
    assert device.counts() == {"delivered": 1}

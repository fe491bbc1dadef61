"""The store through its public door: what is saved, signed, corrected and read, and who did it."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import sqlite3
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.core.clock import read
from edge.core.errors import StoreError
from edge.core.identifiers import uuid7
from edge.core.types import ClockReading, Picture, ResultRecord
from edge.store.results import ResultStore

PICTURES = (Picture("field", 0, None, b"\xff\xd8field"), Picture("cell", 0, 0, b"\xff\xd8cell"))


def made(sample: str = "S-1", **changes: Any) -> ResultRecord:
    record = ResultRecord(
        id=uuid7(),
        version=1,
        sample=sample,
        operator="Ann",
        device="scope-7",
        created=read(),
        status="preliminary",
        bundle="student@1",
        bundle_sha256="ab" * 32,
        runtime="litert-int8",
        calibration=None,
        throttle_bits=None,
        document={"sample": sample, "differential": {"counted": 200, "flags": []}, "fields": [{"file": "a b/ü.png"}]},
        pictures=PICTURES,
    )
    return dataclasses.replace(record, **changes)


def corrected(record: ResultRecord, **changes: Any) -> ResultRecord:
    return dataclasses.replace(record, **{"version": record.version + 1, "status": "corrected", **changes})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ResultStore]:
    with ResultStore(tmp_path / "results.db") as opened:
        yield opened


def code(error: pytest.ExceptionInfo[StoreError]) -> str:
    assert error.value.cure
    assert error.value.exit_code == 3
    return error.value.code


def test_what_is_saved_is_read_back_whole(store: ResultStore) -> None:
    record = made(calibration="flat-9", throttle_bits=0x50005, created=ClockReading("2026-02-03", 12.5, "b", "rtc"))
    store.save(record)
    assert store.get(record.id) == record
    assert store.get(record.id, 1) == record
    assert store.latest("S-1") == record
    assert store.history(record.id) == (record,)
    with ResultStore(store.path) as another:
        assert another.latest("S-1") == record


def test_what_was_never_saved_is_not_found(store: ResultStore) -> None:
    assert store.get(uuid7()) is None
    assert store.latest("S-1") is None
    assert store.history(uuid7()) == ()
    assert store.samples() == ()
    assert store.outbox() == ()
    assert store.trail(uuid7()) == ()
    record = made()
    store.save(record)
    assert store.get(record.id, 2) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_any_json_document_is_read_back(tmp_path_factory: pytest.TempPathFactory, document: dict[str, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "any-document.db"
    with ResultStore(path) as store:
        record = made(document=types.MappingProxyType(document))
        store.save(record)
        found = store.get(record.id)
        assert found is not None
        assert found.document == document
        assert json.dumps(found.document, sort_keys=True) == json.dumps(document, sort_keys=True)


def test_saving_the_same_again_changes_nothing(store: ResultStore) -> None:
    record = made()
    store.save(record)
    head = store.verify_audit().head
    store.save(record)
    assert store.verify_audit().head == head
    assert len(store.outbox()) == 1


@pytest.mark.parametrize(
    "change",
    [{"sample": "S-2"}, {"document": {}}, {"pictures": ()}, {"pictures": PICTURES[::-1]}, {"operator": "Bob"}],
)
def test_a_saved_version_is_never_replaced(store: ResultStore, change: dict[str, Any]) -> None:
    record = made()
    store.save(record)
    with pytest.raises(StoreError) as caught:
        store.save(dataclasses.replace(record, **change))
    assert code(caught) == "version-conflict"
    assert store.history(record.id) == (record,)


@pytest.mark.parametrize("version", [2, 3])
def test_versions_leave_no_gap(store: ResultStore, version: int) -> None:
    record = made()
    if version == 3:
        store.save(record)
    with pytest.raises(StoreError) as caught:
        store.save(dataclasses.replace(record, version=version, status="corrected"))
    assert code(caught) == "version-conflict"


def test_a_correction_is_a_new_version(store: ResultStore) -> None:
    first = made()
    second = corrected(first, document={"differential": {"counted": 199}}, operator="Bob")
    store.save(first)
    store.save(second, "one cell was a smudge")
    assert store.get(first.id) == store.latest("S-1") == second
    assert store.history(first.id) == (first, second)
    assert [(entry.event, entry.operator, entry.reason) for entry in store.trail(first.id)] == [
        ("saved", "Ann", ""),
        ("corrected", "Bob", "one cell was a smudge"),
    ]


def test_a_result_corrected_to_another_sample_leaves_the_first(store: ResultStore) -> None:
    older, mistaken = made("S-1"), made("S-1")
    store.save(older)
    store.save(mistaken)
    store.save(corrected(mistaken, sample="S-2"))
    assert store.latest("S-1") == older
    assert store.samples() == ("S-2", "S-1")


def test_signing_makes_a_final_version_and_keeps_the_pictures(store: ResultStore) -> None:
    record = made()
    store.save(record)
    signed = store.sign(record.id, "Dr Cho", "agrees with the film", version=1)
    assert signed == dataclasses.replace(record, version=2, operator="Dr Cho", status="final")
    assert store.latest("S-1") == signed
    entry = store.trail(record.id)[-1]
    assert (entry.event, entry.operator, entry.reason) == ("signed", "Dr Cho", "agrees with the film")
    assert entry.recorded.wall >= record.created.wall
    assert [(each.id, each.version) for each in store.outbox()] == [(record.id, 1), (record.id, 2)]


def test_who_signs_has_seen_the_latest_version(store: ResultStore) -> None:
    record = made()
    store.save(record)
    store.save(corrected(record))
    with pytest.raises(StoreError) as caught:
        store.sign(record.id, "Dr Cho", version=1)
    assert code(caught) == "version-conflict"
    assert store.sign(record.id, "Dr Cho", version=2).version == 3


def test_what_cannot_be_signed(store: ResultStore) -> None:
    record = made()
    store.save(record)
    for identifier, operator, expected in ((uuid7(), "Dr Cho", "no-result"), (record.id, " ", "operator-missing")):
        with pytest.raises(StoreError) as caught:
            store.sign(identifier, operator)
        assert code(caught) == expected
    store.sign(record.id, "Dr Cho")
    with pytest.raises(StoreError) as caught:
        store.sign(record.id, "Dr Cho")
    assert code(caught) == "already-signed"
    assert len(store.history(record.id)) == 2


def test_only_a_person_makes_a_result_final(store: ResultStore) -> None:
    record = made()
    for status in ("final", "corrected"):
        with pytest.raises(StoreError) as caught:
            store.save(dataclasses.replace(record, status=status))
        assert code(caught) == "status-conflict"
    store.save(record)
    store.sign(record.id, "Dr Cho")
    for status in ("final", "preliminary"):
        with pytest.raises(StoreError) as caught:
            store.save(dataclasses.replace(record, version=3, status=status))
        assert code(caught) == "status-conflict"
    store.save(dataclasses.replace(record, version=3, status="corrected"))
    assert store.sign(record.id, "Dr Cho").version == 4


def test_the_latest_is_what_was_saved_last_whatever_the_clock_said(store: ResultStore) -> None:
    before, after = made(), made(id="00000000-0000-7000-8000-000000000000")
    store.save(before)
    store.save(made("S-0"))
    store.save(after)
    assert store.latest("S-1") == after
    # Signing an older analysis does not make it the newest.
    store.sign(before.id, "Dr Cho")
    assert store.latest("S-1") == after
    assert store.samples() == ("S-1", "S-0")


def test_pictures_shared_by_versions_are_kept_once(store: ResultStore) -> None:
    picture = Picture("field", 0, None, bytes(300_000))
    record = made(pictures=(picture, dataclasses.replace(picture, field=1)))
    store.save(record)
    store.sign(record.id, "Dr Cho")
    store.save(corrected(record, version=3))
    assert [each.pictures for each in store.history(record.id)] == [record.pictures] * 3
    with sqlite3.connect(store.path) as raw:
        assert raw.execute("SELECT SUM(LENGTH(jpeg)) FROM pictures").fetchone()[0] == 300_000
    raw.close()


@pytest.mark.parametrize(
    "change",
    [
        {"id": "17"},
        {"id": "0190B1F0-0000-7000-8000-000000000000"},
        {"id": ""},
        {"sample": " "},
        {"version": 0},
        {"document": {"focus": float("nan")}},
        {"document": {"focus": float("inf")}},
        {"document": {"when": read}},
        {"sample": "\udcff"},
        {"throttle_bits": 2**70},
        {"created": ClockReading("2026-02-03", float("nan"), "b", "rtc")},
    ],
)
def test_what_cannot_be_a_result_is_refused(store: ResultStore, change: dict[str, Any]) -> None:
    with pytest.raises(StoreError) as caught:
        store.save(made(**change))
    assert code(caught) in {"result-invalid", "store-conflict"}
    good = made()
    store.save(good)
    assert store.latest("S-1") == good
    assert store.verify_audit().entries == 1


def test_names_of_files_that_are_not_text_can_be_in_the_document(store: ResultStore) -> None:
    record = made(document={"fields": [{"file": "smear-\udcff.png"}]})
    store.save(record)
    assert store.get(record.id) == record


def test_a_commit_waits_for_the_disk(store: ResultStore) -> None:
    settings = store.settings()
    assert settings["journal_mode"] == "wal"
    assert settings["synchronous"] == "2", "2 is FULL: the log is synced at each commit"
    assert settings["foreign_keys"] == "1"
    assert int(settings["busy_timeout"]) >= 5_000


def test_a_store_is_used_inside_its_block(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "results.db")
    assert not store.path.exists()
    with store:
        store.save(made())
    with pytest.raises(StoreError) as caught:
        store.samples()
    assert code(caught) == "store-closed"
    with store:
        assert store.samples() == ("S-1",)


def test_several_writers_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    ready = threading.Barrier(6)

    def work(number: int) -> None:
        ready.wait()
        with ResultStore(path) as store:
            for _ in range(15):
                store.save(made(f"S-{number}"))

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        for each in [pool.submit(work, number) for number in range(6)]:
            each.result()
    with ResultStore(path) as store:
        verdict = store.verify_audit()
        assert (verdict.entries, verdict.problems) == (90, ())
        assert len(store.outbox()) == 90
        assert sorted(store.samples()) == [f"S-{number}" for number in range(6)]


def test_a_store_that_is_being_made_is_not_taken_for_another_program(tmp_path: Path) -> None:
    def work(path: Path, ready: threading.Barrier) -> None:
        ready.wait()
        with ResultStore(path):
            pass

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        for turn in range(60):
            ready = threading.Barrier(6)
            for each in [pool.submit(work, tmp_path / f"{turn}.db", ready) for _ in range(6)]:
                each.result()


def test_a_reader_needs_no_right_to_write(store: ResultStore) -> None:
    record = made()
    store.save(record)
    with ResultStore(store.path, read_only=True) as reader:
        assert reader.latest("S-1") == record
        assert reader.verify_audit().intact
        with pytest.raises(StoreError) as caught:
            reader.save(made())
        assert code(caught) == "store-read-only"
        with pytest.raises(StoreError) as caught:
            reader.sign(record.id, "Dr Cho")
        assert code(caught) == "store-read-only"

"""The audit chain: whatever is changed, taken out or slipped in afterwards is found, and never shown as a result."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from test_store import made

from edge.core.errors import StoreError
from edge.store.results import ResultStore

GUARDED = ("results", "pictures", "result_pictures", "audit")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with three results, the second of them signed: four links."""
    path = tmp_path / "results.db"
    with ResultStore(path) as store:
        for number in range(3):
            record = made(f"S-{number}")
            store.save(record)
            if number == 1:
                store.sign(record.id, "Dr Cho", "reviewed")
        assert store.verify_audit().intact
    return path


def tamper(path: Path, *statements: str) -> None:
    raw = sqlite3.connect(path)
    for table in GUARDED:
        raw.execute(f"DROP TRIGGER {table}_never_updated")
        raw.execute(f"DROP TRIGGER {table}_never_deleted")
    for statement in statements:
        assert raw.execute(statement).rowcount != 0, statement
    raw.commit()
    raw.close()


def copied(new: str, version: str) -> str:
    return (
        f"INSERT INTO results SELECT '{new}', {version}, sample, operator, device, wall, monotonic, boot_id, tier, "
        "'final', bundle, bundle_sha256, runtime, calibration, throttle_bits, document FROM results LIMIT 1"
    )


@pytest.mark.parametrize("table", GUARDED)
def test_the_file_itself_refuses_edits(path: Path, table: str) -> None:
    raw = sqlite3.connect(path)
    column = raw.execute(f"SELECT name FROM pragma_table_info('{table}') LIMIT 1").fetchone()[0]
    for statement in (f"UPDATE {table} SET {column} = {column}", f"DELETE FROM {table}"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            raw.execute(statement)
    raw.close()


COLUMNS = (
    *("sample", "operator", "device", "wall", "boot_id", "bundle", "bundle_sha256", "runtime", "calibration"),
    *("throttle_bits", "monotonic"),
)


@pytest.mark.parametrize(
    "statement",
    [
        *(f"UPDATE results SET {column} = 7 WHERE sample = 'S-1' AND version = 2" for column in COLUMNS),
        "UPDATE results SET document = replace(document, '200', '201') WHERE sample = 'S-0'",
        "UPDATE results SET document = document || ' ' WHERE sample = 'S-0'",
        "UPDATE results SET status = 'final' WHERE sample = 'S-2'",
        "UPDATE results SET tier = CASE tier WHEN 'network' THEN 'rtc' ELSE 'network' END WHERE sample = 'S-2'",
        "UPDATE results SET version = 9 WHERE sample = 'S-2'",
        "UPDATE pictures SET jpeg = x'00'",
        "UPDATE pictures SET jpeg = 'text'",
        "DELETE FROM pictures",
        "DELETE FROM result_pictures WHERE position = 0",
        "UPDATE result_pictures SET field = 1 WHERE position = 0",
        "UPDATE result_pictures SET cell = 1 WHERE position = 1",
        "DELETE FROM results WHERE sample = 'S-0'",
        "UPDATE audit SET operator = 'Dr Who' WHERE event = 'signed'",
        "UPDATE audit SET reason = '' WHERE event = 'signed'",
        "UPDATE audit SET wall = '2020-01-01' WHERE sequence = 1",
        "UPDATE audit SET event = 'saved' WHERE event = 'signed'",
        "UPDATE audit SET link = 'x' WHERE sequence = 2",
        "UPDATE audit SET previous = 'x' WHERE sequence = 2",
        "DELETE FROM audit WHERE sequence = 1",
        "DELETE FROM audit WHERE sequence = 2",
        "DELETE FROM audit WHERE sequence = 4",
        "DELETE FROM audit",
        copied("0190b1f0-0000-7000-8000-000000000000", "1"),
    ],
)
def test_tampering_is_found(path: Path, statement: str) -> None:
    tamper(path, statement)
    with ResultStore(path) as store:
        verdict = store.verify_audit()
    assert not verdict.intact
    assert all(verdict.problems)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE results SET document = replace(document, '200', '201')",
        "UPDATE results SET status = 'final'",
        "UPDATE pictures SET jpeg = x'00'",
        "DELETE FROM pictures",
        "DELETE FROM result_pictures WHERE position = 0",
        "DELETE FROM audit",
        "UPDATE audit SET operator = 'Dr Who'",
    ],
)
def test_an_altered_result_is_not_shown_and_cannot_be_signed(path: Path, statement: str) -> None:
    tamper(path, statement)
    with ResultStore(path) as store:
        identifier = store.outbox()[0].id if statement != "DELETE FROM audit" else None
        with pytest.raises(StoreError) as caught:
            if identifier is None:
                store.latest("S-0")
            else:
                store.get(identifier)
        assert caught.value.code == "result-altered"
        assert caught.value.cure
        if identifier is not None:
            with pytest.raises(StoreError) as caught:
                store.sign(identifier, "Dr Cho")
            assert caught.value.code == "result-altered"


def test_whole_results_taken_from_the_end_are_missed_by_the_count(path: Path) -> None:
    tamper(
        path,
        "DELETE FROM audit WHERE sequence = 4",
        "DELETE FROM outbox WHERE id = (SELECT id FROM results WHERE sample = 'S-2')",
        "DELETE FROM result_pictures WHERE id = (SELECT id FROM results WHERE sample = 'S-2')",
        "DELETE FROM results WHERE sample = 'S-2'",
    )
    with ResultStore(path) as store:
        assert store.verify_audit().problems == ("links after 3 are missing",)


def test_a_link_kept_elsewhere_reveals_an_older_copy(path: Path) -> None:
    backup = path.with_name("backup.db")
    shutil.copy(path, backup)
    with ResultStore(path) as store:
        store.save(made())
        known = store.verify_audit().head
        assert store.verify_audit(known).intact
    with ResultStore(backup) as store:
        assert store.verify_audit().intact
        assert store.verify_audit(known).problems == ("the known link is not part of the chain",)


def test_a_link_kept_elsewhere_stays_good_while_the_chain_grows(path: Path) -> None:
    with ResultStore(path) as store:
        known = store.verify_audit().head
        store.save(made())
        assert store.verify_audit(known).intact
        assert store.verify_audit().head != known


def test_the_chain_can_be_recomputed_without_this_program(path: Path) -> None:
    raw = sqlite3.connect(path)
    raw.row_factory = sqlite3.Row
    previous = "0" * 64
    for link in raw.execute("SELECT * FROM audit ORDER BY sequence").fetchall():
        key = (link["id"], link["version"])
        bound = {
            **{name: link[name] for name in ("sequence", "event", "operator", "reason")},
            "recorded": [link["wall"], link["monotonic"], link["boot_id"], link["tier"]],
            "result": dict(raw.execute("SELECT * FROM results WHERE id = ? AND version = ?", key).fetchone()),
            "pictures": [
                [row["kind"], row["field"], row["cell"], hashlib.sha256(row["jpeg"]).hexdigest()]
                for row in raw.execute(
                    "SELECT * FROM result_pictures JOIN pictures USING (sha256) "
                    "WHERE id = ? AND version = ? ORDER BY position",
                    key,
                )
            ],
        }
        text = previous + json.dumps(bound, sort_keys=True, separators=(",", ":"))
        previous = hashlib.sha256(text.encode()).hexdigest()
        assert link["link"] == previous
    raw.close()
    with ResultStore(path) as store:
        assert store.verify_audit().head == previous

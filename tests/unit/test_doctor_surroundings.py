"""The doctor's checks of what a device stands on: cameras, picamera2, what waits to be sent, permissions."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from devices.profiles.reading import load
from edge.health import surroundings

NOW = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)
PI, PC = load("raspberry_pi_5"), load("generic")


@dataclass
class Seen:
    kind: str
    specification: str
    usable: bool
    evidence: str = "seen"
    cure: str = ""


TEST_PICTURE = Seen("gstreamer", "gstreamer:test", True)
SIMULATED = Seen("simulated", "simulated", True)


@pytest.mark.parametrize(
    ("found", "verdict", "words"),
    [
        ([Seen("picamera2", "picamera2:0", True, "imx477")], "ok", "imx477"),
        ([Seen("uvc", "uvc:/dev/video0", True)], "warn", "uvc:/dev/video0"),
        ([SIMULATED, TEST_PICTURE], "warn", "no camera"),
        ([Seen("picamera2", "picamera2", False, "it sees no camera", "Check the ribbon cable.")], "warn", "sees no"),
    ],
)
def test_the_camera_of_the_profile_is_looked_for(found: list[Seen], verdict: str, words: str) -> None:
    check = surroundings.camera(PI, [*found, SIMULATED])
    assert check.verdict == verdict
    assert words in check.evidence
    assert bool(check.cure) == bool(check.command) == (verdict != "ok")


ABSENT = Seen("picamera2", "picamera2", False, "No module named 'libcamera'")


@pytest.mark.parametrize(
    ("profile", "found", "system", "shadow", "verdict", "command"),
    [
        (PI, Seen("picamera2", "picamera2:0", True), None, None, "ok", ""),
        (PI, Seen("picamera2", "picamera2", False, "picamera2 works, but sees no camera"), None, None, "ok", ""),
        (PI, ABSENT, False, None, "fail", "apt-get install"),
        (PI, ABSENT, True, None, "fail", "--system-site-packages"),
        (PI, ABSENT, True, "/venv/lib/picamera2", "fail", "pip uninstall -y picamera2"),
        (PC, ABSENT, False, None, "ok", ""),
        (PC, ABSENT, None, "/venv/lib/picamera2", "warn", "pip uninstall -y picamera2"),
    ],
)
def test_picamera2_must_be_the_system_s_and_be_reached(
    profile: object, found: Seen, system: bool | None, shadow: str | None, verdict: str, command: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(surroundings.sys, "prefix", "/venv")
    check = surroundings.picamera2(profile, [found], in_system=system, in_environment=shadow)
    assert check.verdict == verdict
    assert command in check.command
    assert bool(check.command) == (verdict != "ok")


# What waits to be sent.


@pytest.fixture
def store(tmp_path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(tmp_path / "results.sqlite3")
    connection.execute("CREATE TABLE outbox (id TEXT, version INTEGER, queued TEXT, delivered TEXT)")
    return connection


def queue(store: sqlite3.Connection, number: int, age: timedelta) -> None:
    store.execute("INSERT INTO outbox (id, version, queued) VALUES (?, 1, ?)", (str(number), (NOW - age).isoformat()))
    store.commit()


def deliveries(store: sqlite3.Connection, state: str, failures: int = 0) -> None:
    store.executescript(
        "CREATE TABLE IF NOT EXISTS deliveries (destination TEXT, id TEXT, version INTEGER, state TEXT);"
        "CREATE TABLE IF NOT EXISTS destinations (destination TEXT, failures INTEGER, message TEXT);"
    )
    store.execute("DELETE FROM deliveries")
    store.execute("INSERT INTO deliveries SELECT 'hub', id, version, ? FROM outbox", (state,))
    store.execute("INSERT INTO destinations VALUES ('hub', ?, 'no route to host')", (failures,))
    store.commit()


def test_without_a_place_to_send_to_nothing_waits(store: sqlite3.Connection, tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite3"
    assert surroundings.sync(tmp_path / "absent.sqlite3").verdict == "ok"
    queue(store, 1, timedelta(days=90))
    check = surroundings.sync(path, NOW)
    assert check.verdict == "ok"
    assert "1 results are kept here" in check.evidence


@pytest.mark.parametrize(
    ("age", "verdict", "words"),
    [(timedelta(hours=3), "ok", "3 hours"), (timedelta(days=4), "warn", "4 days"), (timedelta(days=30), "fail", "30")],
)
def test_what_waits_long_is_named_with_its_age(
    store: sqlite3.Connection, tmp_path: Path, age: timedelta, verdict: str, words: str
) -> None:
    queue(store, 1, age)
    queue(store, 2, timedelta(minutes=1))
    deliveries(store, "pending", failures=3)
    check = surroundings.sync(tmp_path / "results.sqlite3", NOW)
    assert check.verdict == verdict
    assert "2 results wait" in check.evidence
    assert words in check.evidence
    assert "no route to host" in check.evidence
    deliveries(store, "delivered")
    assert surroundings.sync(tmp_path / "results.sqlite3", NOW).evidence == "everything is sent"


def test_a_damaged_store_is_the_database_s_check(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite3"
    path.write_bytes(b"hello" * 1000)
    assert surroundings.sync(path, NOW).verdict == "warn"


# Permissions.


def test_a_data_folder_that_others_may_enter_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "my data"
    folder.mkdir(0o755)
    folder.chmod(0o755)
    check = surroundings.permissions(folder, PC)
    assert check.verdict == "warn"
    assert os.system(check.command) == 0
    assert surroundings.permissions(folder, PC).verdict != "warn"


def test_the_store_is_made_closed_to_others(tmp_path: Path) -> None:
    from edge import app, config

    folder = tmp_path / "new" / "data"
    with app.open_store(config.load(environment={"LEUKO_DATA_FOLDER": str(folder)})):
        pass
    assert folder.stat().st_mode & 0o007 == 0
    assert surroundings.permissions(folder, PC).verdict == "ok"


def test_the_store_as_it_really_is_can_be_asked(tmp_path: Path) -> None:
    from edge import app, config

    settings = config.load(environment={"LEUKO_DATA_FOLDER": str(tmp_path)})
    with app.open_store(settings):
        pass
    check = surroundings.sync(settings.database_path, NOW)
    assert check.verdict == "ok"
    assert "0 results are kept here" in check.evidence
    with sqlite3.connect(settings.database_path) as connection:
        connection.execute("INSERT INTO destinations (destination, failures, message) VALUES ('hub', 2, 'refused')")
    connection.close()
    assert surroundings.sync(settings.database_path, NOW).evidence == "everything is sent"

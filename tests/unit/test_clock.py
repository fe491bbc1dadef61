"""The clock's worth on devices with and without a network, a hardware clock, or a plausible time; and identifiers."""

from __future__ import annotations

import os
import threading
import time
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from edge.core.clock import EARLIEST_PLAUSIBLE, RTC_AGREEMENT_SECONDS, kernel_synchronised, read
from edge.core.identifiers import uuid7

NOW = EARLIEST_PLAUSIBLE.timestamp() + 86_400 * 300


def machine(root: Path, *, timesyncd: bool = False, hardware: float | None = None, boot: str | None = None) -> Path:
    if timesyncd:
        (root / "run/systemd/timesync").mkdir(parents=True)
        (root / "run/systemd/timesync/synchronized").touch()
    if hardware is not None:
        (root / "sys/class/rtc/rtc0").mkdir(parents=True)
        (root / "sys/class/rtc/rtc0/since_epoch").write_text(f"{hardware:.0f}\n")
    if boot is not None:
        (root / "proc/sys/kernel/random").mkdir(parents=True)
        (root / "proc/sys/kernel/random/boot_id").write_text(f"{boot}\n")
    return root


def tier(root: Path, seconds: float = NOW, kernel: bool = False) -> str:
    return read(root=root, now=lambda: seconds, synchronised=lambda: kernel).tier


def test_a_synchronised_clock_is_of_the_network(tmp_path: Path) -> None:
    assert tier(tmp_path, kernel=True) == "network"
    assert tier(machine(tmp_path, timesyncd=True)) == "network"


def test_a_hardware_clock_that_agrees_vouches_for_the_wall_clock(tmp_path: Path) -> None:
    assert tier(machine(tmp_path, hardware=NOW - RTC_AGREEMENT_SECONDS + 1)) == "rtc"


def test_a_hardware_clock_that_lost_its_battery_does_not(tmp_path: Path) -> None:
    assert tier(machine(tmp_path, hardware=1_000)) == "unknown"


def test_a_plausible_time_alone_is_not_believed(tmp_path: Path) -> None:
    assert tier(tmp_path) == "unknown"


def test_an_unreadable_hardware_clock_is_none(tmp_path: Path) -> None:
    (machine(tmp_path, hardware=NOW) / "sys/class/rtc/rtc0/since_epoch").write_text("??")
    assert tier(tmp_path) == "unknown"


def test_a_time_before_this_software_is_never_believed(tmp_path: Path) -> None:
    early = EARLIEST_PLAUSIBLE.timestamp() - 1
    machine(tmp_path, timesyncd=True, hardware=early)
    assert tier(tmp_path, early, kernel=True) == "unknown"


def test_the_boot_is_named(tmp_path: Path) -> None:
    assert read(root=machine(tmp_path, boot="0c0ffee0-1234")).boot_id == "0c0ffee0-1234"


def test_without_a_boot_id_the_process_has_its_own(tmp_path: Path) -> None:
    first, second = read(root=tmp_path), read(root=tmp_path)
    assert first.boot_id == second.boot_id
    assert uuid.UUID(first.boot_id)


def test_wall_is_utc_and_monotonic_counts_up(tmp_path: Path) -> None:
    before = datetime.now(timezone.utc) - timedelta(milliseconds=1)
    first, second = read(), read()
    wall = datetime.fromisoformat(first.wall)
    assert wall.utcoffset() == timedelta(0)
    assert before <= wall <= datetime.now(timezone.utc)
    assert 0 < first.monotonic <= second.monotonic
    assert read(root=tmp_path, now=lambda: 0.0).wall == "1970-01-01T00:00:00.000+00:00"


def test_the_kernel_can_always_be_asked() -> None:
    assert kernel_synchronised() in {True, False}


def test_uuid7_is_of_its_version_and_time() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid7()
    parsed = uuid.UUID(made)
    assert made == str(parsed)
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    # An earlier test may have counted the process's sequence a little ahead of the clock, never behind it.
    assert before <= parsed.int >> 80 <= time.time_ns() // 1_000_000 + 1_000


def test_uuid7_increases_whatever_the_clock_does(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [uuid7()]
    for moment in [time.time_ns(), time.time_ns() - 10**18, 0, -5, time.time_ns()]:
        monkeypatch.setattr(time, "time_ns", lambda moment=moment: moment)
        made += [uuid7() for _ in range(2_000)]
    assert made == sorted(set(made))


def test_uuid7_is_unique_among_threads() -> None:
    made: list[list[str]] = [[] for _ in range(4)]
    threads = [threading.Thread(target=lambda one=one: one.extend(uuid7() for _ in range(2_000))) for one in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(one == sorted(one) for one in made)
    assert len({each for one in made for each in one}) == 8_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_does_not_count_on_its_parents_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    # With the clock standing still only the counter tells the two apart.
    monkeypatch.setattr(time, "time_ns", lambda: 10**19)
    mine = uuid.UUID(uuid7())
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, uuid7().encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = uuid.UUID(os.read(reading, 36).decode())
    os.close(reading)
    os.close(writing)
    assert theirs.int >> 32 != (uuid.UUID(uuid7()).int >> 32)
    assert abs((theirs.int >> 32) - (mine.int >> 32)) > 1

"""Quality control: the verdict, the schedule, the lock, the override, and a log that cannot be changed unseen."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

import msgspec
import pytest
from commands import draw_cells
from hypothesis import given
from hypothesis import strategies as st
from report_records import counted

from edge import app as root
from edge import config
from edge.control import judge, reference_set, run
from edge.control.schedule import ControlEvent, elapsed_hours, standing
from edge.core.errors import LeukoError, StoreError, UsageError
from edge.core.labels import LABELS, OTHER
from edge.core.types import ClockReading
from edge.store.results import ResultStore

NOON = ClockReading("2026-11-24T12:00:00.000+00:00", 1000.0, "boot-1", "rtc")


def later(hours, boot="boot-1"):
    day, hour = divmod(12 + hours, 24)
    wall = f"2026-11-{24 + int(day):02}T{int(hour):02}:{round(hour % 1 * 60):02}:00.000+00:00"
    return ClockReading(wall, 1000.0 + 3600 * hours if boot == "boot-1" else 5.0, boot, "rtc")


def event(kind="run", passed=True, at=NOON, hours=0.0, bundle="b" * 64):
    return ControlEvent(kind, passed, "set", "finding", "A", "why", hours, bundle, at)


def stands(events, now, interval=24.0, bundle="b" * 64):
    found = standing(events, now, interval_hours=interval, set_name="set", bundle=bundle)
    return found.code, found.locked


def test_the_lock_follows_verdict_age_and_model():
    assert stands([], NOON) == ("never", True)
    assert stands([event()], later(23)) == ("passed", False)
    assert stands([event()], later(25)) == ("overdue", True)
    assert stands([event(), event(passed=False, at=later(1))], later(2)) == ("failed", True)
    assert stands([event(passed=False), event(at=later(1))], later(2)) == ("passed", False)
    assert stands([event()], later(1), bundle="c" * 64) == ("model-changed", True)
    assert stands([], NOON, interval=0) == ("unscheduled", False)


def test_an_override_holds_for_its_hours_and_until_the_next_run():
    failed, override = event(passed=False), event("override", at=later(1), hours=4.0)
    assert stands([failed, override], later(4)) == ("overridden", False)
    assert stands([failed, override], later(5.5)) == ("failed", True)
    assert stands([failed, override, event(passed=False, at=later(2))], later(3)) == ("failed", True)
    assert stands([failed, replace(override, hours=900.0)], later(26)) == ("failed", True)


def test_a_jump_of_the_clock_opens_nothing():
    ahead = replace(later(1), wall="2026-11-01T00:00:00.000+00:00")
    assert stands([event()], ahead) == ("passed", False)  # the same boot: the clock that cannot jump
    assert stands([event()], replace(ahead, boot_id="boot-2", monotonic=3.0)) == ("clock-unsure", True)
    assert stands([event(passed=False), event("override", hours=4.0)], replace(ahead, boot_id="boot-2")) == (
        "failed",
        True,
    )
    assert elapsed_hours(NOON, later(30, "boot-2")) == pytest.approx(30)


@given(st.lists(st.sampled_from(LABELS), min_size=30, max_size=200), st.integers(0, 200), st.floats(0.05, 1.0))
def test_agreement_is_the_share_of_cells_called_what_they_are(known, wrong, minimum):
    called = [OTHER if number < wrong else label for number, label in enumerate(known)]
    found = judge.agreement(known, called, minimum)
    right = max(0, len(known) - wrong)
    assert found.passed == (right >= minimum * len(known))
    assert f"{right} of {len(known)} cells" in found.finding


def test_too_few_cells_or_withheld_percentages_pass_no_control():
    assert not judge.agreement(["monocyte"] * 29, ["monocyte"] * 29).passed
    expected = {"neutrophil": (50.0, 70.0)}
    assert not judge.within(counted(60, 20, 10, 5, 4).differential, expected).passed
    assert not judge.within(counted(120, 60, 12, 6, 2, other=30).differential, expected).passed
    assert judge.within(counted(120, 60, 12, 6, 2).differential, expected).passed
    outside = judge.within(counted(120, 60, 12, 6, 2).differential, {"monocyte": (20.0, 30.0)})
    assert not outside.passed and "monocyte 6.0 % (expected 20-30)" in outside.finding


@pytest.fixture
def settings(tmp_path):
    return config.load(environment={"LEUKO_DATA_FOLDER": str(tmp_path / "data")})


def with_set(settings, folder):
    return replace_control(settings, folder=str(folder))


def replace_control(settings, **changes):
    import msgspec

    return msgspec.structs.replace(settings, control=msgspec.structs.replace(settings.control, **changes))


def test_a_set_of_cells_is_run_logged_and_opens_the_lock(settings, tmp_path):
    folder = tmp_path / "set"
    for label in LABELS:
        draw_cells(folder / label, [label] * 7)
    (folder / "control.toml").write_text('name = "Drawn cells"\nminimum_agreement = 0.6\n')
    settings = with_set(settings, folder)
    with pytest.raises(LeukoError, match="never been run"):
        run.require_open(settings, "uvc:/dev/video0")
    run.require_open(settings, "simulated:seed=1")
    found = run.run(settings, "A. Okafor")
    assert "of 35 cells" in found.finding and found.set_name == "Drawn cells"
    assert found.passed, found.finding
    run.require_open(settings, "uvc:/dev/video0")
    assert run.events(settings) == (found,)


def test_a_failed_control_locks_until_it_is_overridden_with_a_reason(settings, tmp_path):
    folder = tmp_path / "set"
    # Every picture lies in the folder of another class.
    for label, shown in zip(LABELS, (*LABELS[1:], LABELS[0]), strict=True):
        draw_cells(folder / label, [shown] * 6)
    (folder / "control.toml").write_text('name = "Mixed up"\n')
    settings = with_set(settings, folder)
    assert not run.run(settings, "A. Okafor").passed
    with pytest.raises(LeukoError) as locked:
        run.require_open(settings, "picamera2")
    assert locked.value.code == "control-locked"
    for wrong in ({"operator": " "}, {"reason": ""}, {"hours": 25}, {"hours": 0}):
        said = {"operator": "Dr Cho", "reason": "emergency", "hours": 2} | wrong
        with pytest.raises(UsageError):
            run.override(settings, **said)
    run.override(settings, "Dr Cho", "emergency", 2)
    run.require_open(settings, "picamera2")
    assert run.status(settings).code == "overridden"
    with pytest.raises(UsageError, match="not locked"):
        run.override(settings, "Dr Cho", "again", 2)
    assert [(each.event, each.operator, each.reason) for each in run.events(settings)] == [
        ("run", "A. Okafor", ""),
        ("override", "Dr Cho", "emergency"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "There is no"),
        ("name = ", "control.toml"),
        ('name = "x"\nunknown = 1', "unknown"),
        ('name = "x"', "neither"),
        ('name = "x"\n[expected]\nblast = [1, 2]', "blast"),
        ('name = "x"\n[expected]\nmonocyte = [9, 2]', "monocyte"),
    ],
)
def test_a_set_that_cannot_be_used_says_why(tmp_path, text, said):
    if text is not None:
        (tmp_path / "control.toml").write_text(text)
    with pytest.raises(UsageError, match=said) as caught:
        reference_set.load(tmp_path)
    assert caught.value.code == "control-set" and caught.value.cure


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE control_log SET passed = 1 WHERE sequence = 1",
        "DELETE FROM control_log WHERE sequence = 1",
        "DELETE FROM control_log WHERE sequence = 2",
    ],
)
def test_a_changed_log_is_found_and_opens_nothing(tmp_path, statement):
    path = tmp_path / "results.db"
    with ResultStore(path) as store:
        for passed in (False, True):
            store.log_control(event(passed=passed))
        assert len(store.controls()) == 2
        raw = sqlite3.connect(path)
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            raw.execute(statement)
        raw.execute("DROP TRIGGER control_log_never_updated")
        raw.execute("DROP TRIGGER control_log_never_deleted")
        raw.execute(statement)
        raw.commit()
        raw.close()
        with pytest.raises(StoreError) as caught:
            store.controls()
    assert caught.value.code == "control-altered"


@pytest.mark.parametrize(
    ("log", "interval", "session", "runs"),
    [
        ([], 24.0, "finished", True),
        ([event(at=later(-23))], 24.0, "finished", True),
        ([event(at=later(-20))], 24.0, "finished", False),
        ([event(at=later(-30))], 24.0, "finished", True),
        ([event(bundle="c" * 64)], 24.0, "finished", True),
        # A person has to look why it failed, and an override is a person's word; a session needs the processor.
        ([event(passed=False)], 24.0, "finished", False),
        ([event(at=later(-30)), event("override", at=later(-1), hours=4.0)], 24.0, "finished", False),
        ([], 24.0, "running", False),
        ([], 24.0, "paused", False),
        ([], 0.0, "finished", False),
    ],
)
def test_a_schedule_runs_the_control_when_it_is_due_and_nothing_hinders(
    tmp_path, monkeypatch, log, interval, session, runs
):
    settings = config.load(environment={"LEUKO_DATA_FOLDER": str(tmp_path)})
    settings = msgspec.structs.replace(
        settings, control=msgspec.structs.replace(settings.control, interval_hours=interval)
    )
    monkeypatch.setattr(run, "events", lambda _: tuple(log))
    monkeypatch.setattr(run, "_bundle", lambda _: "b" * 64)
    monkeypatch.setattr(run.clock, "read", lambda: NOON)
    monkeypatch.setattr(root, "sessions", lambda _: [(None, session)])
    monkeypatch.setattr(run, "_judged", lambda _: judge.Judgement(True, "as expected"))
    found = run.run_when_due(settings, "schedule", 2.0)
    assert (found is not None) == runs
    if found is not None:
        assert (found.passed, found.operator, found.finding) == (True, "schedule", "as expected")
        with ResultStore(settings.database_path) as store:
            assert store.controls() == (found,)

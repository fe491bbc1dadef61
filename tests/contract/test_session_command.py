"""`leuko session` and `leuko calibrate` as a user runs them, on the simulated microscope."""

from __future__ import annotations

from pathlib import Path

import commands
import pytest

SMALL = "width=480,height=300,scale=0.4,cells=12"
BLANK = "width=480,height=300,scale=0.4,cells=0,crowding=0"


@pytest.fixture(autouse=True)
def _runtime() -> None:
    pytest.importorskip("ai_edge_litert")


def test_a_session_from_commissioning_to_drift(tmp_path: Path) -> None:
    made = commands.leuko(tmp_path, "calibrate", "flat-field", "--camera", f"simulated:{BLANK}", "--json")
    assert made.code == 0, made.err
    record = made.document
    assert (record["camera"], record["fields"], record["parent"]) == ("simulated", 8, None)

    camera = f"simulated:seed=3,fields=5,overlap=0.25,{SMALL}"
    done = commands.leuko(tmp_path, "session", "start", "--camera", camera, "--sample", "S-1", "--json")
    assert done.code == 0, done.err
    document = done.document
    session = document["session"]
    assert document["sample"] == "S-1"
    assert session["calibration"] == record["id"]
    assert session["repeated_cells"] > 0
    assert "simulated" in document["differential"]["flags"]
    counts = document["differential"]
    last = [line for line in done.err.splitlines() if line.startswith("finished")][-1]
    assert f"{counts['counted']} of 200 cells" in last

    listed = commands.leuko(tmp_path, "session", "list", "--json").document
    assert [(each["session"], each["phase"]) for each in listed] == [(session["id"], "finished")]
    status = commands.leuko(tmp_path, "session", "status", "--json").document
    assert status["result"] == session["id"]
    assert status["cells"]["counted"] == counts["counted"]
    assert status["cells"]["classes"] == {label: share["count"] for label, share in counts["classes"].items()}
    assert f"{counts['counted']} of 200 cells" in commands.leuko(tmp_path, "session", "status").out

    drift = commands.leuko(tmp_path, "calibrate", "drift", "--camera", "simulated", "--json")
    assert [each["result"] for each in drift.document] == [session["id"]]
    assert abs(drift.document[0]["off"]["illumination"]) < 0.05
    assert commands.leuko(tmp_path, "report", "S-1").code == 0
    commands.assert_refused(commands.leuko(tmp_path, "session", "resume", session["id"]), 2, "session-finished")


def test_what_cannot_be_is_refused_with_its_cure(tmp_path: Path) -> None:
    start = ("session", "start", "--sample", "S")
    for words, code, named in (
        ((*start, "--camera", "telescope"), 2, "unknown-camera"),
        ((*start, "--camera", "simulated:colour=red"), 2, "unknown-camera-setting"),
        ((*start, "--camera", "simulated:", "--target", "150"), 2, "bad-target"),
        (("session", "status", "nothing"), 3, "no-store"),
        (("session", "resume"), 3, "no-session"),
        (("calibrate", "scale", "--camera", "simulated:"), 2, "bad-scale"),
        (("calibrate", "flat-field", "--camera", f"simulated:fields=3,{SMALL}"), 3, "too-few-fields"),
        ((*start, "--camera", "simulated:width=480,height=300,cells=0,fields=2"), 3, "nothing-counted"),
    ):
        commands.assert_refused(commands.leuko(tmp_path, *words), code, named)

"""`leuko review`, `export`, `control` and `serve` as a user types them."""

from __future__ import annotations

import csv
import io
import shutil

import pytest
from commands import assert_refused, leuko, store_of
from report_records import FULL, counted, record

from edge.core.identifiers import uuid7
from edge.store.results import ResultStore


@pytest.fixture
def home(tmp_path):
    store_of(tmp_path).parent.mkdir(parents=True)
    with ResultStore(store_of(tmp_path)) as store:
        store.save(record(counted(120, 60, 12, 6, 2, other=4), id=uuid7(), sample="S-1"))
        store.save(record(FULL, id=uuid7(), sample="S-2"))
    return tmp_path


def test_a_review_from_the_list_to_the_signature(home):
    listed = leuko(home, "review", "list", "--json").document
    assert [each["sample"] for each in listed] == ["S-2", "S-1"]
    shown = leuko(home, "review", "show", "S-2", "--pictures", home / "cells", "--json")
    assert [each["cell"] for each in shown.document["cells"]] == ["2.1", "2.2", "1.2"]
    assert sorted(path.name for path in (home / "cells").iterdir()) == sorted(
        f"{cell}-{kind}.jpg" for cell in ("2.1", "2.2", "1.2") for kind in ("cell", "activation")
    )
    done = leuko(home, "review", "relabel", "S-2", "2.1=monocyte", "--reason", "seen", LEUKO_OPERATOR="A. Okafor")
    assert done.code == 0 and "as version 2 (preliminary)" in done.err
    signed = leuko(home, "review", "sign", "S-2", "--reason", "all seen", "--operator", "Dr Cho")
    assert signed.code == 0 and len(signed.out.strip()) == 64
    told = leuko(home, "review", "history", "S-2")
    assert "2.1 other → monocyte" in told.out and "reason: all seen" in told.out
    assert "Final: signed by Dr Cho as version 3." in leuko(home, "review", "show", "S-2").out
    assert [each["sample"] for each in leuko(home, "review", "list", "--json").document] == ["S-1"]


def test_what_cannot_be_done_is_refused_with_its_cure(home):
    assert_refused(leuko(home, "review", "show", "S-3"), 3, "no-result", "review list")
    assert_refused(leuko(home, "review", "sign", "S-1", "--reason", "r"), 3, "operator-missing")
    said = ("--reason", "r", "--operator", "A")
    assert_refused(leuko(home, "review", "relabel", "S-1", "1.1=other", "--version", "9", *said), 3, "version-conflict")
    assert_refused(leuko(home, "export", "S-1", "--format", "html", "--cells"), 2, "export-option")


def test_exports_hold_what_the_store_does(home):
    text = leuko(home, "export", "S-1", "--format", "csv", "--out", "-").out
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [int(row["count"]) for row in rows] == [120, 60, 12, 6, 2, 4]
    assert rows[0]["percent"] == "60.0"
    cells = leuko(home, "export", "S-1", "--format", "csv", "--cells", "--out", "-").out
    assert len(list(csv.DictReader(io.StringIO(cells)))) == 204
    written = leuko(home, "export", "S-1", "--format", "html").out.strip()
    assert (home / written).read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium on this machine")
def test_a_pdf_is_printed_and_without_a_browser_the_cure_is_named(home):
    assert leuko(home, "export", "S-2", "--format", "pdf", "--out", "r.pdf").code == 0
    assert (home / "r.pdf").read_bytes().startswith(b"%PDF-")
    assert_refused(
        leuko(home, "export", "S-2", "--format", "pdf", "--out", "s.pdf", PATH=str(home)),
        3,
        "pdf-needs-chromium",
        "apt install chromium",
    )


def test_a_lock_stands_before_a_patients_session_and_is_overridden_in_the_log(home):
    order = ("session", "start", "--camera", "uvc:/dev/video9", "--sample", "S-5")
    assert_refused(leuko(home, *order), 3, "control-locked", "leuko control run")
    status = leuko(home, "control", "status", "--json")
    assert (status.code, status.document["code"], status.document["log"]) == (3, "never", [])
    said = ("--reason", "the slide is lost", "--operator", "Dr Cho", "--hours", "2")
    assert leuko(home, "control", "override", *said).code == 0
    status = leuko(home, "control", "status", "--json")
    assert (status.code, status.document["code"]) == (0, "overridden")
    assert [(each["event"], each["operator"], each["reason"]) for each in status.document["log"]] == [
        ("override", "Dr Cho", "the slide is lost")
    ]


def test_the_page_is_not_opened_to_the_network_without_a_pin(home):
    assert_refused(leuko(home, "serve", "--host", "0.0.0.0", limit=30), 2, "pin-missing", "LEUKO_PIN")

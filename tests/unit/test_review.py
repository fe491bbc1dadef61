"""Reviewing a result: what comes first, corrections as new versions counted anew, signatures, history, search."""

from __future__ import annotations

import copy
import csv
import io
import sqlite3
from collections import Counter
from dataclasses import replace
from datetime import date
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_records import FULL, RANGES, analysis, cell, counted, field, record

from edge.core.errors import LeukoError, NothingToDoError, StoreError, UsageError
from edge.core.identifiers import uuid7
from edge.core.labels import LABELS, OTHER
from edge.report import html, spreadsheet
from edge.review import desk
from edge.review.files import record_json
from edge.review.places import CHOICES, Change, Place, change, place
from edge.review.relabel import recount, relabelled
from edge.review.worklist import SURE, TELLING_APART, doubtful, worklist
from edge.store.results import ResultStore
from edge.store.search import Query

MIXED = record(
    analysis(
        field([cell("neutrophil", 0.95, seed=1), cell("monocyte", 0.6, seed=2)]),
        field([cell("lymphocyte", 0.45, abstained=True, seed=3), cell(OTHER, 0.5, seed=4), cell("basophil", 0.7)]),
    )
)


def calls(document):
    return Counter(
        OTHER if entry["abstained"] else entry["label"]
        for found in document["fields"]
        for entry in found.get("cells", ())
    )


def correct(kept, *changes, signed=False, operator="A. Okafor", reason="seen by eye"):
    wanted = [change(text) for text in changes]
    return relabelled(kept, wanted, operator=operator, reason=reason, ranges=RANGES, signed=signed)


def test_the_unclassified_come_first_then_the_uncertain_each_by_how_close_the_classes_are():
    assert [str(each.place) for each in worklist(MIXED)] == ["2.1", "2.2", "1.2", "2.3", "1.1"]
    assert [each.doubt for each in worklist(MIXED)] == [
        "unclassified",
        "unclassified",
        "uncertain",
        "uncertain",
        "none",
    ]
    assert [str(each.place) for each in doubtful(worklist(MIXED))] == ["2.1", "2.2", "1.2", "2.3"]
    assert all(each.best < SURE for each in doubtful(worklist(MIXED)))


def test_every_pair_of_classes_is_told_apart():
    assert set(TELLING_APART) == {frozenset(pair) for pair in combinations(LABELS, 2)}
    assert all(label.capitalize() in text for pair, text in TELLING_APART.items() for label in pair)


def test_a_correction_is_the_next_version_and_leaves_the_first_alone():
    before = copy.deepcopy(MIXED.document)
    after = correct(MIXED, "2.1=monocyte", "1.1=other")
    assert MIXED.document == before
    assert (after.id, after.version, after.status, after.operator) == (MIXED.id, 2, "preliminary", "A. Okafor")
    assert after.pictures == MIXED.pictures
    entry = after.document["fields"][1]["cells"][0]
    assert (entry["label"], entry["abstained"]) == ("monocyte", False)
    assert entry["probabilities"] == before["fields"][1]["cells"][0]["probabilities"]
    assert entry["reviewed"] == {
        "operator": "A. Okafor",
        "reason": "seen by eye",
        "model": {"label": "lymphocyte", "abstained": True, "reason": "low-confidence"},
    }
    assert after.document["differential"]["classes"]["monocyte"]["count"] == 2
    assert after.document["differential"]["other"] == 2


def test_what_is_flagged_of_the_sample_stays_flagged():
    document = copy.deepcopy(dict(MIXED.document))
    document["differential"]["flags"] = ["other-rate-high", "simulated"]
    assert correct(replace(MIXED, document=document), "1.1=other").document["differential"]["flags"] == [
        *correct(MIXED, "1.1=other").document["differential"]["flags"],
        "simulated",
    ]


def test_a_second_correction_still_tells_what_the_model_said():
    twice = correct(correct(MIXED, "2.1=monocyte"), "2.1=basophil", operator="B. Adeyemi")
    hand = next(each.hand for each in worklist(twice) if each.place == Place(1, 0))
    assert (hand.operator, hand.model_label, hand.model_abstained) == ("B. Adeyemi", "lymphocyte", True)
    assert worklist(twice)[-1].place == Place(1, 0)


def test_enough_called_cells_give_back_the_percentages():
    kept = record(counted(110, 40, 20, 6, 2, other=20), pictures=())
    assert kept.document["differential"]["classes"]["neutrophil"]["percent"] is None
    waiting = [each for each in worklist(kept) if each.doubt == "unclassified"]
    changes = [Change(each.place, "monocyte") for each in waiting]
    after = relabelled(kept, changes, operator="A", reason="seen", ranges=RANGES, signed=False)
    share = after.document["differential"]["classes"]["monocyte"]
    assert (share["count"], share["percent"]) == (40, round(100 * 40 / 198, 4))
    assert after.document["differential"]["flags"] != kept.document["differential"]["flags"]


@given(st.lists(st.tuples(st.integers(0, 59), st.sampled_from(CHOICES)), max_size=25, unique_by=lambda pair: pair[0]))
def test_whatever_is_corrected_the_differential_is_that_of_the_cells(wanted):
    if not wanted:
        return
    changes = [Change(Place(*divmod(number, 40)), label) for number, label in wanted]
    after = relabelled(SIXTY, changes, operator="A", reason="r", ranges=RANGES, signed=True)
    seen, counts = calls(after.document), after.document["differential"]
    assert {label: counts["classes"][label]["count"] for label in LABELS} | {OTHER: counts["other"]} == {
        label: seen[label] for label in CHOICES
    }
    assert sum(seen.values()) == 60
    assert after.status == "corrected"


SIXTY = record(counted(30, 15, 6, 3, 1, other=5), pictures=())


@pytest.mark.parametrize(
    ("changes", "said", "code"),
    [
        ([], {}, "no-change"),
        (["1.1=basophil"], {"operator": " "}, "operator-missing"),
        (["1.1=basophil"], {"reason": ""}, "reason-missing"),
        (["1.9=basophil"], {}, "cell-unknown"),
        (["9.1=basophil"], {}, "cell-unknown"),
        (["1.1=blast"], {}, "label-unknown"),
        (["1.1=basophil", "1.1=monocyte"], {}, "cell-twice"),
        (["0.1=basophil"], {}, "cell-unreadable"),
        (["1=basophil"], {}, "cell-unreadable"),
    ],
)
def test_what_cannot_be_corrected_is_refused_with_its_cure(changes, said, code):
    with pytest.raises(UsageError) as caught:
        correct(MIXED, *changes, **said)
    assert caught.value.code == code and caught.value.cure


@given(st.integers(0, 99998), st.integers(0, 99998))
def test_a_place_is_read_as_it_is_written(number, position):
    assert place(str(Place(number, position))) == Place(number, position)


@pytest.fixture
def store(tmp_path: Path):
    with ResultStore(tmp_path / "results.db") as opened:
        yield opened


def saved(store, sample="S-1", found=FULL, **more):
    kept = record(found, id=uuid7(), sample=sample, **more)
    store.save(kept)
    return kept


def test_from_saved_to_signed_and_corrected_again(store):
    kept = saved(store)
    said = {"version": None, "operator": "A. Okafor", "reason": "seen by eye"}
    first = desk.correct(store, kept.id, [change("2.1=monocyte")], ranges=RANGES, **said)
    signed = desk.sign(store, kept.id, version=first.version, operator="Dr Cho", reason="all seen")
    assert (signed.status, signed.version, signed.operator) == ("final", 3, "Dr Cho")
    again = desk.correct(store, kept.id, [change("2.1=basophil")], ranges=RANGES, **said)
    assert (again.status, again.version) == ("corrected", 4)
    steps = desk.history(store, kept.id)
    assert [(step.event, step.status, step.operator) for step in steps] == [
        ("saved", "preliminary", kept.operator),
        ("corrected", "preliminary", "A. Okafor"),
        ("signed", "final", "Dr Cho"),
        ("corrected", "corrected", "A. Okafor"),
    ]
    assert [step.changed for step in steps] == [
        (),
        ("2.1 other → monocyte",),
        (),
        ("2.1 monocyte → basophil",),
    ]
    assert [step.reason for step in steps[1:]] == ["seen by eye", "all seen", "seen by eye"]
    assert store.verify_audit().intact
    assert store.get(kept.id, 1) == kept


def test_who_corrects_or_signs_has_seen_the_latest(store):
    kept = saved(store)
    desk.correct(store, kept.id, [change("1.1=other")], version=1, operator="A", reason="r", ranges=RANGES)
    with pytest.raises(StoreError, match="now stands at version 2"):
        desk.correct(store, kept.id, [change("1.1=basophil")], version=1, operator="B", reason="r", ranges=RANGES)
    with pytest.raises(StoreError, match="now stands at version 2"):
        desk.sign(store, kept.id, version=1, operator="B", reason="r")
    with pytest.raises(UsageError, match="No reason"):
        desk.sign(store, kept.id, version=2, operator="B", reason="  ")
    assert len(store.history(kept.id)) == 2


def test_a_result_is_found_by_its_id_the_start_of_it_or_its_sample(store):
    kept = saved(store, "17/a")
    assert desk.find(store, kept.id) == desk.find(store, kept.id[:18]) == desk.find(store, "17/a") == kept
    assert desk.find(store, kept.id.upper()) == kept
    for missing in ("17", kept.id[:7], "", uuid7()):
        with pytest.raises(NothingToDoError, match="no result"):
            desk.find(store, missing)
    saved(store, "17/b")
    with pytest.raises(UsageError, match="2 results begin"):
        desk.find(store, kept.id[:8])


def test_a_search_finds_by_sample_id_status_and_day(store):
    first = saved(store, "S-1")
    moment = replace(first.created, wall="2026-11-25T00:00:01Z")
    second = saved(store, "T_%1", created=moment)
    desk.sign(store, second.id, version=1, operator="Dr Cho", reason="seen")

    def found(**query):
        return [each.id for each in store.search(Query(**query))]

    assert found() == [second.id, first.id]
    assert found(text="s-1") == found(text=first.id[:20].upper())[-1:] == [first.id]
    assert found(text="_%") == [second.id]
    assert found(text="%") == [second.id]
    assert found(waiting=True) == found(status="preliminary") == [first.id]
    assert found(status="final") == [second.id]
    assert found(since=date(2026, 11, 24)) == [second.id]
    assert found(until=date(2026, 11, 23)) == [first.id]
    assert found(limit=1, offset=1) == [first.id]
    summary = store.search(Query(status="final"))[0]
    assert (summary.version, summary.counted, summary.other, summary.altered) == (2, 2, 2, False)
    for wrong in ({"status": "lost"}, {"limit": 0}, {"limit": 501}, {"offset": -1}):
        with pytest.raises(UsageError):
            found(**wrong)


def test_an_altered_result_is_listed_without_its_numbers(store, tmp_path):
    kept = saved(store)
    raw = sqlite3.connect(tmp_path / "results.db")
    raw.execute("DROP TRIGGER results_never_updated")
    raw.execute("""UPDATE results SET document = replace(document, '"counted":2', '"counted":9')""")
    raw.commit()
    raw.close()
    found = store.search(Query())[0]
    assert (found.id, found.altered, found.counted, found.tier) == (kept.id, True, None, None)


def test_the_report_says_what_was_called_by_hand():
    page = html.render(correct(MIXED, "2.1=monocyte"), ranges=RANGES, range_profile="p")
    assert 'title="Called by A. Okafor">by hand</span>' in page
    assert "by hand" not in html.render(MIXED, ranges=RANGES, range_profile="p")


def test_a_spreadsheet_holds_what_the_document_does_and_runs_no_formula():
    kept = correct(replace(MIXED, sample="=HYPERLINK(1)"), "2.1=monocyte", operator="@SUM(1)")
    rows = list(csv.DictReader(io.StringIO(spreadsheet.cells(kept))))
    assert [row["label"] for row in rows] == ["neutrophil", "monocyte", "monocyte", "other", "basophil"]
    assert (rows[2]["model_label"], rows[2]["reviewed_by"], rows[2]["field"], rows[2]["cell"]) == (
        "lymphocyte",
        "'@SUM(1)",
        "2",
        "1",
    )
    assert float(rows[1]["monocyte"]) == pytest.approx(0.6)
    shares = list(csv.DictReader(io.StringIO(spreadsheet.differential(kept))))
    assert {row["class"]: int(row["count"]) for row in shares} == calls(kept.document) | {
        label: 0 for label in LABELS if label not in calls(kept.document)
    }
    assert all(row["sample"] == "'=HYPERLINK(1)" for row in rows + shares)
    assert b'"id"' in record_json(kept)


def test_recounting_a_document_gives_what_it_says():
    for kept in (MIXED, SIXTY):
        assert recount(kept.document, RANGES).counted == kept.document["differential"]["counted"]


def test_every_error_here_is_one_of_ours():
    with pytest.raises(LeukoError):
        place("x")

"""From a case to its signature, which the device fetches; a second reader; what may be trained on."""

from __future__ import annotations

import csv
import io
import zipfile

import msgspec
import pytest
from sent import enrolled, jpeg, person, version

from edge.hub import tables
from edge.sync import messages as m

LABELS = ("neutrophil",) * 60 + ("lymphocyte",) * 40 + ("monocyte",) * 5


@pytest.fixture
def device(hub, client):
    return enrolled(hub, client)


def received(device, **changes):
    sent = version(labels=LABELS, **changes)
    assert device.put(sent).status_code == 201
    return sent


def test_a_signature_goes_back_to_the_device(hub, client, device):
    sent = received(device)
    ada = person(hub, client)
    answer = ada.api("POST", f"/cases/{sent.id}/signature", json={"version": 1, "reason": "looked at all cells"})
    assert (answer.status_code, answer.json()) == (201, {"version": 2})
    given = m.decode(device.get("/device/changes").content, m.Changes)
    (change,) = given.changes
    assert m.sha256(bytes(change.result)) == change.content_sha256
    back = m.decode(bytes(change.result), m.ResultVersion)
    assert (back.id, back.version, back.status, back.operator) == (sent.id, 2, "final", "ada")
    assert back.document == sent.document and back.pictures == sent.pictures
    assert (back.audit.event, back.audit.reason, back.audit.sequence) == ("signed", "looked at all cells", 1)
    assert back.audit.previous == "0" * 64 and back.audit.link != "1" * 64
    # The cursor acknowledges.
    assert device.get("/device/changes", after=given.cursor).json() == {
        "changes": [],
        "cursor": given.cursor,
        "more": False,
    }
    assert device.put(back).status_code == 200
    with hub.database.read() as connection:
        assert connection.scalar(tables.devices.select().with_only_columns(tables.devices.c.acknowledged)) == 1


def test_a_correction_is_counted_again_and_keeps_what_the_model_said(hub, client, device):
    sent = received(device)
    ada = person(hub, client)
    labels = {"1.1": "basophil", "1.2": "other"}
    done = ada.api("POST", f"/cases/{sent.id}/signature", json={"version": 1, "reason": "two wrong", "labels": labels})
    assert done.status_code == 201, done.text
    back = msgspec.json.decode(device.get("/device/changes").content)["changes"][0]["result"]
    classes = back["document"]["differential"]["classes"]
    assert (back["status"], classes["neutrophil"]["count"], classes["basophil"]["count"]) == ("final", 58, 1)
    assert back["document"]["differential"]["other"] == 1
    again = {"version": 2, "reason": "a third", "labels": {"1.3": "basophil"}}
    assert ada.api("POST", f"/cases/{sent.id}/signature", json=again).status_code == 201
    later = msgspec.json.decode(device.get("/device/changes").content)["changes"][1]["result"]
    assert (later["status"], later["audit"]["event"]) == ("corrected", "corrected")
    first = back["document"]["fields"][0]["cells"][0]
    assert first["reviewed"]["model"]["label"] == "neutrophil" and first["reviewed"]["operator"] == "ada"


def test_the_changes_of_a_device_come_in_pages_in_order(hub, client, device):
    ada = person(hub, client)
    identifiers = [received(device).id for _ in range(5)]
    for each in identifiers:
        assert ada.api("POST", f"/cases/{each}/signature", json={"version": 1, "reason": "seen"}).status_code == 201
    found, cursor, more = [], "", True
    while more:
        page = m.decode(device.get("/device/changes", after=cursor, limit=2).content, m.Changes)
        found += [m.decode(bytes(change.result), m.ResultVersion) for change in page.changes]
        cursor, more = page.cursor, page.more
    assert [each.id for each in found] == identifiers
    assert [each.audit.sequence for each in found] == [1, 2, 3, 4, 5]
    assert [each.audit.previous for each in found[1:]] == [each.audit.link for each in found[:-1]]
    assert device.get("/device/changes", after="nonsense").json()["code"] == "cursor-invalid"


def test_nobody_signs_what_they_have_not_seen(hub, client, device):
    sent = received(device)
    ada = person(hub, client)
    device.put(version(2, sent.id, labels=LABELS))
    answer = ada.api("POST", f"/cases/{sent.id}/signature", json={"version": 1, "reason": "seen"})
    assert (answer.status_code, answer.json()["code"], answer.json()["newest"]) == (409, "not-the-newest", 2)


@pytest.mark.parametrize(
    "labels", [{"9.9": "monocyte"}, {"x": "monocyte"}, {"1.1": "blast"}, {"0.1": "monocyte"}, {"1.1=other": "monocyte"}]
)
def test_a_label_is_of_a_cell_that_is_there(hub, client, device, labels):
    sent = received(device)
    ada = person(hub, client)
    for path, method, more in (("signature", "POST", {"reason": "x"}), ("reading", "PUT", {})):
        answer = ada.api(method, f"/cases/{sent.id}/{path}", json={"version": 1, "labels": labels, **more})
        assert answer.status_code == 422, answer.text


def test_a_second_reader_reads_blind_and_only_then_is_signed(hub, client, device):
    sent = received(device)
    ada, bo = person(hub, client), person(hub, client, "bo")
    path = f"/cases/{sent.id}"
    assert ada.api("POST", f"{path}/second-reader", json={"reader": "bo"}).status_code == 204
    reading = {"version": 1, "labels": {"1.1": "eosinophil"}, "finished": True}
    assert ada.api("PUT", f"{path}/reading", json=reading).status_code == 204
    assert ada.api("PUT", f"{path}/reading", json=reading).json()["code"] == "reading-finished"
    seen = bo.api("GET", f"{path}/desk").json()
    assert (seen["blinded"], seen["others"], seen["agreement"]) == (1, [], None)
    answer = ada.api("POST", f"{path}/signature", json={"version": 1, "reason": "seen"})
    assert answer.json()["code"] == "not-ready"
    assert bo.api("DELETE", f"{path}/second-reader").status_code == 204
    assert ada.api("GET", f"{path}/desk").json()["may_sign"] is True
    assert ada.form(path, action="second", version="1", reader="bo").status_code == 303
    assert "Withdraw the request" in ada.request("GET", path).text
    reading = {"version": 1, "labels": {"1.2": "monocyte"}, "finished": True}
    assert bo.api("PUT", f"{path}/reading", json=reading).status_code == 204
    agreement = bo.api("GET", f"{path}/desk").json()["agreement"]
    assert (agreement["cells"], agreement["agreed"]) == (105, 103)
    assert [each["place"] for each in agreement["differences"]] == ["1.1", "1.2"]
    from sklearn.metrics import cohen_kappa_score

    first, second = list(LABELS), list(LABELS)
    first[0], second[1] = "eosinophil", "monocyte"
    assert agreement["kappa"] == pytest.approx(cohen_kappa_score(first, second), abs=5e-4)
    answer = ada.api("POST", f"{path}/signature", json={"version": 1, "reason": "settled"})
    assert answer.status_code == 201


def test_relabelled_cells_of_consenting_patients_are_exported_for_training(hub, client, device, tmp_path):
    crops = [jpeg(number) for number in range(3)]
    with_consent = received(device, pictures=[("cell", cell, crop) for cell, crop in enumerate(crops)])
    without = received(device, consent=False, pictures=[("cell", 0, crops[0])])
    unsigned = received(device, pictures=[("cell", 0, crops[0])])
    device.send_pictures(*crops)
    ada = person(hub, client, "ada", "reviewer")
    for case in (with_consent, without):
        sent = {"version": 1, "reason": "wrong", "labels": {"1.1": "basophil", "1.3": "other"}}
        assert ada.api("POST", f"/cases/{case.id}/signature", json=sent).status_code == 201
    answer = ada.api("GET", "/exports/training", params={"source": "clinic-7", "licence": "CC-BY-4.0"})
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        rows = list(csv.DictReader(io.StringIO(archive.read("manifest.csv").decode())))
        assert [row["label"] for row in rows] == ["basophil", "other"]
        assert archive.read(rows[0]["file"]) == crops[0] and archive.read(rows[1]["file"]) == crops[2]
        archive.extractall(tmp_path / "cells")
    assert {row["group"] for row in rows} == {with_consent.id} and unsigned.id not in str(rows)
    # The kit's own reader takes it.
    from training.data.readers.entries import Options
    from training.data.readers.manifest import read

    reading = read(tmp_path / "cells", Options())
    assert len(reading.entries) == 2 and reading.problems == []


def test_consent_is_taken_back_at_the_hub_and_not_given(hub, client, device):
    sent = received(device)
    ada = person(hub, client)
    assert ada.api("PUT", f"/cases/{sent.id}/consent", json={"consent": False}).status_code == 204
    assert ada.api("PUT", f"/cases/{sent.id}/consent", json={"consent": True}).json()["code"] == "consent-not-ours"
    ada.api("POST", f"/cases/{sent.id}/signature", json={"version": 1, "reason": "seen"})
    back = msgspec.json.decode(device.get("/device/changes").content)["changes"][0]["result"]
    assert back["training_consent"] is False


def test_cases_are_found_by_what_people_know_of_them(hub, client, device):
    ada = person(hub, client)
    names = ["S-1", "S-10", "S_1", "T%"]
    ids = {name: received(device, sample=name).id for name in names}

    def found(**query):
        answer = ada.api("GET", "/cases", params=query)
        assert answer.status_code == 200, answer.text
        return [case["sample"] for case in answer.json()["cases"]]

    assert found() == names[::-1]
    assert found(text="S-1") == ["S-10", "S-1"]
    assert found(text="S_") == ["S_1"] and found(text="T%") == ["T%"] and found(text="%") == []
    assert found(text="ab" * 32) == names[::-1] and found(text=ids["T%"]) == ["T%"]
    assert found(status="final") == [] and found(device="nobody") == []
    assert found(since="2020-01-01", until="2099-01-01") == names[::-1] and found(until="2020-01-01") == []
    assert ada.api("GET", "/cases", params={"since": "yesterday"}).status_code == 400


def test_a_long_list_comes_in_pages(hub, client, device):
    for number in range(53):
        device.put(version(sample=f"S-{number}"))
    ada = person(hub, client)
    first = ada.api("GET", "/cases").json()
    second = ada.api("GET", "/cases", params={"after": first["after"]}).json()
    samples = [case["sample"] for case in first["cases"] + second["cases"]]
    assert samples == [f"S-{number}" for number in reversed(range(53))] and second["after"] is None


def test_a_case_is_dated_by_the_anchor_of_its_boot(hub, client, device):
    moment = m.Moment("1970-01-01T00:05:00.000+00:00", 100.0, "boot-1", "unknown")
    sent = received(device, created=moment)
    ada = person(hub, client)
    assert ada.api("GET", f"/cases/{sent.id}").json()["row"]["taken"] is None
    anchor = m.ClockAnchor(
        m.Moment("1970-01-01T01:00:00.000+00:00", 3700.0, "boot-1", "unknown"), "2026-11-20T12:00:00.000+00:00", "hub"
    )
    client.put(f"{m.PREFIX}/device/clock-anchors/boot-1", content=m.encode(anchor), headers=device.signed)
    assert ada.api("GET", f"/cases/{sent.id}").json()["row"]["taken"] == "2026-11-20T11:00:00.000+00:00"


def test_every_look_at_a_result_is_written_down(hub, client, device):
    picture = jpeg(1)
    sent = received(device, pictures=[("field", None, picture)])
    device.send_pictures(picture)
    ada, root = person(hub, client), person(hub, client, "root", "admin")
    ada.api("GET", f"/cases/{sent.id}")
    for _ in range(3):
        assert ada.api("GET", f"/cases/{sent.id}/pictures/{m.sha256(picture)}").content == picture
    ada.api("GET", f"/cases/{sent.id}/pictures/{'0' * 64}")
    ada.api("POST", f"/cases/{sent.id}/signature", json={"version": 1, "reason": "seen"})
    seen = root.api("GET", "/accesses", params={"result": sent.id}).json()
    assert [(each["actor"], each["action"]) for each in reversed(seen)] == [
        ("person ada", "read"),
        ("person ada", "pictures"),
        ("person ada", "signed"),
    ]

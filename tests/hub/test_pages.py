"""The pages by their forms, as a browser without scripts sends them."""

from __future__ import annotations

import re

import msgspec
import pytest
from sent import PASSWORD, enrolled, jpeg, person, report, version

from edge.hub import people
from edge.sync import messages as m

HOSTILE = '"><script>alert(1)</script>'


def test_signing_in_leads_to_where_one_wanted_to_go(hub, client):
    people.add(hub, "ada", ("reviewer",), by="test", password=PASSWORD)
    answer = client.get("/fleet")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?next=%2Ffleet")
    wrong = client.post("/sign-in", data={"name": "ada", "password": "wrong"})
    assert wrong.status_code == 401 and "wrong" in wrong.text
    answer = client.post("/sign-in", data={"name": "ada", "password": PASSWORD, "next": "/fleet"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/fleet")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie
    assert client.get("/fleet").status_code == 200


@pytest.mark.parametrize("target", ["//evil.example", "/\\evil.example", "https://evil.example", "/\n//x"])
def test_signing_in_leads_to_no_other_site(hub, client, target):
    people.add(hub, "ada", ("reviewer",), by="test", password=PASSWORD)
    answer = client.post("/sign-in", data={"name": "ada", "password": PASSWORD, "next": target})
    assert answer.headers["location"] == "/"


def test_a_form_from_another_site_is_refused(hub, client):
    answer = client.post("/sign-in", data={"name": "a", "password": "b"}, headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403


def test_every_answer_protects_the_page(hub, client):
    for path in ("/sign-in", "/cases", "/static/hub.css", "/nothing", f"{m.PREFIX}/device"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["Content-Security-Policy"], path
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["X-Frame-Options"] == "DENY"


def test_a_case_is_relabelled_and_signed_by_its_form(hub, client):
    device = enrolled(hub, client)
    crop, overlay, field = jpeg(1), jpeg(2), jpeg(3, 60)
    pictures = [("field", None, field), ("cell", 0, crop), ("activation", 0, overlay)]
    sent = version(sample=HOSTILE, operator=HOSTILE, pictures=pictures)
    device.put(sent)
    device.send_pictures(crop, overlay, field)
    ada = person(hub, client)
    assert "&lt;script&gt;alert" in ada.request("GET", "/cases").text
    page = ada.request("GET", f"/cases/{sent.id}")
    assert page.status_code == 200 and "<script>alert" not in page.text
    for picture in (crop, overlay, field):
        path = f"/api/v1/cases/{sent.id}/pictures/{m.sha256(picture)}"
        assert path in page.text and ada.request("GET", path).content == picture
    token = re.search(r'name="form_token" value="([^"]+)"', page.text)[1]
    assert token == ada.token
    values = {"version": "1", "label.1.1": "basophil", "label.1.2": "", "note": "dark granules"}
    assert ada.form(f"/cases/{sent.id}", action="save", **values).headers["location"].endswith("done=save")
    assert '<option value="basophil" selected>' in ada.request("GET", f"/cases/{sent.id}").text
    assert ada.form(f"/cases/{sent.id}", action="sign", **values).status_code == 422  # no reason
    answer = ada.form(f"/cases/{sent.id}", action="sign", reason="basophil", **values)
    assert answer.headers["location"].endswith("done=sign")
    back = msgspec.json.decode(device.get("/device/changes").content)["changes"][0]["result"]
    assert (back["status"], back["document"]["fields"][0]["cells"][0]["label"]) == ("final", "basophil")
    assert "the model said neutrophil" in ada.request("GET", f"/cases/{sent.id}").text
    old = ada.request("GET", f"/cases/{sent.id}?version=1")
    assert "is the newest" in old.text and "Sign this result" not in old.text
    whole = ada.request("GET", f"/cases/{sent.id}/report")
    assert whole.status_code == 200 and "<script>alert" not in whole.text and "data:image/jpeg" in whole.text


def test_an_operator_sees_no_buttons_that_are_not_theirs(hub, client):
    device = enrolled(hub, client)
    sent = version()
    device.put(sent)
    mo = person(hub, client, "mo", "operator")
    page = mo.request("GET", f"/cases/{sent.id}").text
    assert "Sign this result" not in page and 'name="label.' not in page and "Ask for a second reading" in page
    assert mo.form(f"/cases/{sent.id}", action="sign", version="1", reason="x").status_code == 403
    assert mo.request("GET", "/admin").status_code == 403
    assert mo.form("/admin", action="code", name="x").status_code == 403


def test_a_document_of_another_shape_shows_no_number(hub, client):
    device = enrolled(hub, client)
    sent = version(document={"fields": [{}], "differential": {"counted": 987654321}})
    device.put(sent)
    ada = person(hub, client)
    page = ada.request("GET", f"/cases/{sent.id}")
    assert page.status_code == 200 and "not one of an analysis" in page.text and "987654321" not in page.text
    assert ada.request("GET", f"/cases/{sent.id}/report").status_code == 422
    answer = ada.api(
        "POST", f"/cases/{sent.id}/signature", json={"version": 1, "reason": "x", "labels": {"1.1": "other"}}
    )
    assert answer.status_code == 422


def test_the_fleet_shows_what_a_device_reported(hub, client):
    device = enrolled(hub, client)
    checks = (m.Check("clock", "warn", "not set"), m.Check("disk-space", "ok", "fine"))
    client.put(f"{m.PREFIX}/device/health", content=m.encode(report(checks=checks)), headers=device.signed)
    page = person(hub, client).request("GET", "/fleet").text
    for words in ("scope-03", "student@1.2.3", "results: 2, pictures: 5", "look at it", "clock: not set"):
        assert words in page
    assert "disk-space" not in page


def test_an_administrator_enrols_and_revokes_by_forms(hub, client):
    root = person(hub, client, "root", "admin")
    page = root.form("/admin", action="code", name="scope-9", site="", cohort="pilot")
    code = re.search(r'class="code">([A-Z0-9-]+)<', page.text)[1]
    request = m.EnrolmentRequest(code, "a" * 64, "x", "pi", "1")
    made = client.post(f"{m.PREFIX}/enrolments", content=m.encode(request)).json()
    assert root.form("/admin", action="revoke", name=made["device_id"]).status_code == 303
    assert "revoked" in root.request("GET", "/admin").text
    weak = root.form("/admin", action="account", name="x", password="short", **{"role.reviewer": "yes"})
    assert weak.status_code == 422 and "characters" in weak.text
    assert (
        root.form("/admin", action="account", name="x", password=PASSWORD, **{"role.reviewer": "yes"}).status_code
        == 303
    )
    assert root.form("/admin", action="rollout", name="student@2.0.0", percentage="10").status_code == 303
    assert "student@2.0.0" in root.request("GET", "/admin").text
    assert root.request("GET", "/accesses").status_code == 200

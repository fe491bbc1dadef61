"""The page as a browser or an attacker meets it: what it shows, what it changes, and what it refuses."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace

import msgspec
import pytest
from asgi import Browser
from report_records import FULL, analysis, cell, field, record

from edge import choices, config
from edge.core.errors import UsageError
from edge.core.identifiers import uuid7
from edge.store.results import ResultStore
from edge.sync.settings import FhirDestination, FolderDestination
from edge.web.access import Pairing, Pin, Rate
from edge.web.guard import Door, names_of_this_machine
from edge.web.serve import application

HOSTILE = '"><script>alert(1)</script>{{7*7}}'


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "data").mkdir()
    return config.load(environment={"LEUKO_DATA_FOLDER": str(tmp_path / "data"), "LEUKO_DEVICE": "scope-03"})


def opened(settings, **how):
    return application(settings, Door(names=names_of_this_machine(), **how))


def saved(settings, found=FULL, **changes):
    kept = record(found, id=uuid7(), **changes)
    with ResultStore(settings.database_path) as store:
        store.save(kept)
    return kept


@pytest.fixture
def browser(settings):
    return Browser(opened(settings))


def test_an_empty_device_says_so(browser):
    page = browser.get("/")
    assert page.status == 200 and "No result is stored yet" in page.text


def test_results_are_listed_found_and_shown(settings, browser):
    first, second = saved(settings, sample="S-1"), saved(settings, sample="S-2")
    page = browser.get("/").text
    assert page.index(second.id) < page.index(first.id)
    found = browser.get("/?text=s-1").text
    assert first.id in found and second.id not in found
    assert "No result matches" in browser.get("/?text=S-3").text
    shown = browser.get(f"/results/{first.id}").text
    assert "S-1" in shown and first.id in shown and "Review doubtful cells (3)" in shown
    assert browser.get(f"/results/{uuid7()}").status == 404
    assert browser.get("/results/../../etc/passwd").status == 404
    assert browser.get("/?since=yesterday").status == 400


def test_pictures_are_those_of_the_record(settings, browser):
    kept = saved(settings)
    found = browser.get(f"/results/{kept.id}/v1/activation/1/0.jpg")
    wanted = next(each.jpeg for each in kept.pictures if (each.kind, each.field, each.cell) == ("activation", 1, 0))
    assert (found.status, found.body, found.header("content-type")) == (200, wanted, "image/jpeg")
    assert browser.get(f"/results/{kept.id}/v1/field/0/0.jpg").status == 200
    assert browser.get(f"/results/{kept.id}/v1/cell/9/9.jpg").status == 404
    assert browser.get(f"/results/{kept.id}/v7/cell/0/0.jpg").status == 404


def test_a_correction_and_a_signature_are_kept_as_versions(settings, browser):
    kept = saved(settings)
    review = browser.get(f"/results/{kept.id}/review").text
    cells = json.loads(re.search(r'id="data">(.*?)</script>', review, re.DOTALL)[1])["cells"]
    assert [each["cell"] for each in cells] == ["2.1", "2.2", "1.2"]
    said = {"version": 1, "operator": "A. Okafor", "reason": "seen", "changes": [{"cell": "2.1", "label": "monocyte"}]}
    done = browser.send(f"/results/{kept.id}/relabel", said)
    assert (done.status, done.json["version"]) == (200, 2)
    again = browser.send(f"/results/{kept.id}/relabel", said)
    assert again.status == 409 and "version 2" in again.json["error"]["message"]
    browser.get(f"/results/{kept.id}")
    signed = browser.post(f"/results/{kept.id}/sign", {"version": "2", "operator": "Dr Cho", "reason": "all seen"})
    assert signed.status == 303
    assert "Signed as final" in browser.get(signed.header("location")).text
    assert browser.post(f"/results/{kept.id}/sign", {"version": "3", "operator": "B", "reason": "r"}).status == 409
    with ResultStore(settings.database_path) as store:
        assert [entry.event for entry in store.trail(kept.id)] == ["saved", "corrected", "signed"]
        assert store.get(kept.id).operator == "Dr Cho"
        assert store.verify_audit().intact


@pytest.mark.parametrize(
    "sent",
    [
        {},
        [],
        {"version": 1, "changes": "2.1"},
        {"version": "1", "changes": []},
        {"version": 1, "operator": "A", "reason": "r", "changes": []},
        {"version": 1, "operator": "", "reason": "r", "changes": [{"cell": "2.1", "label": "monocyte"}]},
        {"version": 1, "operator": "A", "reason": "r", "changes": [{"cell": "2.1", "label": "blast"}]},
        {"version": 1, "operator": "A", "reason": "r", "changes": [{"cell": "99999.1", "label": "monocyte"}]},
        {"version": 1, "operator": "A", "reason": "r", "changes": [3]},
    ],
)
def test_a_correction_that_makes_no_sense_changes_nothing(settings, browser, sent):
    kept = saved(settings)
    browser.get("/")
    done = browser.send(f"/results/{kept.id}/relabel", sent)
    assert done.status == 400 and done.json["error"]["cure"]
    with ResultStore(settings.database_path) as store:
        assert len(store.history(kept.id)) == 1


def test_files_come_with_their_kind(settings, browser):
    kept = saved(settings)
    report = browser.get(f"/results/{kept.id}/file/html")
    assert report.text.startswith("<!DOCTYPE html>") and "script-src" not in report.header("content-security-policy")
    assert browser.get(f"/results/{kept.id}/file/csv").header("content-disposition").startswith("attachment")
    assert browser.get(f"/results/{kept.id}/file/json").json["id"] == kept.id
    assert browser.get(f"/results/{kept.id}/file/exe").status == 400


def test_hostile_names_stay_text(settings, browser):
    hostile = analysis(field([cell("neutrophil"), cell("monocyte", 0.5)], source=HOSTILE), sample=HOSTILE)
    kept = saved(settings, hostile, sample=HOSTILE, operator=HOSTILE, device=HOSTILE)
    for path in ("/", f"/results/{kept.id}", f"/results/{kept.id}/review", f"/?text={HOSTILE}&status={HOSTILE}"):
        page = browser.get(path).text
        assert "<script>alert" not in page and "&gt;49" not in page
        assert not re.search(r"<[a-z]+[^>]* on\w+=", page)


def test_every_answer_carries_the_headers_that_keep_it_in_its_place(settings, browser):
    kept = saved(settings)
    for path in ("/", "/nothing", f"/results/{kept.id}", f"/results/{uuid7()}", "/static/page.css", "/static/none.css"):
        answer = browser.get(path)
        policy = answer.header("content-security-policy")
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert answer.header("x-content-type-options") == "nosniff"
        assert answer.header("referrer-policy") == "same-origin"
        assert answer.header("cache-control") == "no-store"
        assert answer.header("server") is None
    for page in (browser.get("/").text, browser.get(f"/results/{kept.id}").text):
        assert not re.search(r"<script(?![^>]*(src=\"/static/|type=\"application/json\"))", page)
        assert (
            "style=" not in page and "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page
        )


def test_the_cookie_is_for_this_page_alone(settings):
    browser = Browser(opened(settings, secure=True))
    cookie = browser.get("/").header("set-cookie")
    assert re.fullmatch(r"leuko=[\w-]{43}; Path=/; HttpOnly; SameSite=Strict; Secure", cookie)
    assert browser.get("/").header("set-cookie") is None


@pytest.mark.parametrize(
    "spoil",
    [
        {"csrf": ""},
        {"csrf": "x" * 43},
        {"csrf": None, "origin": "http://evil.example"},
        {"csrf": None, "sec_fetch_site": "cross-site"},
        {"csrf": None, "sec_fetch_site": "same-site"},
        {"csrf": None, "cookie": "leuko=" + "x" * 43},
    ],
)
def test_a_foreign_page_cannot_sign(settings, spoil):
    kept, browser = saved(settings), Browser(opened(settings))
    browser.get("/")
    if (token := spoil.pop("csrf")) is not None:
        browser.csrf = token
    if cookie := spoil.pop("cookie", None):
        browser.cookie = cookie
    done = browser.post(f"/results/{kept.id}/sign", {"version": "1", "operator": "Mallory", "reason": "r"}, **spoil)
    assert done.status == 403
    with ResultStore(settings.database_path) as store:
        assert len(store.history(kept.id)) == 1


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "", "192.168.1.5:8765", "localhost.evil.example"]
)
def test_a_foreign_name_is_not_answered(settings, host):
    assert Browser(opened(settings), host=host).get("/").status == 421


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:8765", "LOCALHOST."])
def test_names_of_this_machine_are_answered(settings, host):
    assert Browser(opened(settings), host=host).get("/").status == 200


def test_too_much_is_refused(settings):
    app = opened(settings, changes=Rate(0.001, 3), requests=Rate(0.001, 12))
    browser = Browser(app)
    browser.get("/")
    big = browser.ask("POST", "/settings", b"x" * 300_000, {"accept": "text/html", "content-type": "text/plain"})
    assert big.status == 413
    statuses = [browser.post("/settings", {"operator": "A"}).status for _ in range(4)]
    assert statuses == [303, 303, 429, 429]
    assert [browser.get("/").status for _ in range(8)][-1] == 429
    assert Browser(app, client="127.0.0.9").get("/").status == 200


NETWORK = {"open_to_network": True}


def test_the_network_sees_nothing_before_the_pin(settings):
    kept = saved(settings)
    browser = Browser(opened(settings, **NETWORK, pin=Pin("480213")), host="192.168.1.5:8765", client="192.168.1.77")
    for path in ("/", f"/results/{kept.id}", "/live", "/device", "/settings", f"/results/{kept.id}/file/json"):
        assert (browser.get(path).status, browser.get(path).header("location")) == (303, "/login")
    assert browser.get(f"/results/{kept.id}/v1/cell/0/0.jpg", accept="image/*").status == 401
    assert browser.get("/live/events", accept="text/event-stream").status == 401
    assert browser.send("/live/finish", {}).status == 401
    assert browser.get("/static/page.css").status == 200
    browser.get("/login")
    stranger = browser.cookie
    assert browser.post("/login", {"pin": "480214"}).status == 403
    entered = browser.post("/login", {"pin": "480213"})
    assert entered.status == 303 and browser.cookie != stranger
    assert kept.id in browser.get("/").text
    assert Browser(browser.app, host=browser.host, cookie=stranger).get("/").status == 303
    known = browser.cookie
    browser.post("/leave")
    assert Browser(browser.app, host=browser.host, cookie=known).get("/").status == 303


def test_guessing_the_pin_is_locked(settings):
    browser = Browser(opened(settings, **NETWORK, pin=Pin("480213")), host="192.168.1.5")
    browser.get("/login")
    for guess in range(6):
        page = browser.post("/login", {"pin": f"00000{guess}"})
    assert page.status == 403 and "Too many wrong tries: wait 30 s" in page.text
    assert browser.post("/login", {"pin": "480213"}).status == 403


def test_a_pairing_address_lets_one_browser_in(settings):
    pairing = Pairing(time.monotonic())
    app = opened(settings, **NETWORK, pairing=pairing)
    preview, one, two = (Browser(app, host="192.168.1.5") for _ in range(3))
    preview.get(f"/pair?token={pairing.token}")
    assert "Pair this browser" in one.get(f"/pair?token={pairing.token}").text
    assert one.post("/login", {"token": pairing.token}).status == 303
    assert one.get("/").status == 200
    two.get("/login")
    assert two.post("/login", {"token": pairing.token}).status == 403
    assert two.get("/").status == 303


def test_a_language_and_a_name_are_kept_for_the_browser(settings, browser):
    browser.get("/settings")
    assert browser.post("/settings", {"operator": "A. Okafor", "language": "fr"}).status == 303
    page = browser.get("/settings").text
    assert '<html lang="fr">' in page and "A. Okafor" in page and "Réglages" in page
    assert '<html lang="fr">' in Browser(browser.app).get("/", accept_language="de;q=0.5, fr-CM;q=0.9, en;q=0.8").text
    assert '<html lang="en">' in Browser(browser.app).get("/", accept_language="xx").text


def test_what_is_chosen_for_the_device_is_checked_kept_and_proposed(settings, browser):
    browser.get("/settings")
    good = {"camera": "simulated:seed=4,cells=2", "target": "400", "language": "fr", "control_hours": "12"}
    assert browser.post("/settings/device", {**good, "operator": "A. Okafor"}).status == 303
    page = browser.get("/settings").text
    assert '<html lang="fr">' in page and "A. Okafor" in page and 'value="simulated:seed=4,cells=2"' in page
    start = browser.get("/live").text
    assert re.search(r'value="400" checked', start) and re.search(r'value="other" checked', start)
    assert 'value="simulated:seed=4,cells=2"' in start and choices.control_hours(settings) == 12
    for wrong, code in (
        ({"camera": "telescope:1"}, "no camera"),
        ({"camera": "uvc:/dev/video0,width=huge"}, "width"),
        ({"target": "150"}, "none that can be chosen"),
        ({"language": "xx"}, "no language"),
        ({"control_hours": "48"}, "every 48 hours"),
        ({"control_hours": "nan"}, "no number"),
        ({"control_hours": "-3"}, "no number"),
        ({"operator": " "}, "Nobody is named"),
    ):
        refused = browser.post("/settings/device", {**good, "operator": "B", **wrong})
        assert refused.status == 400 and code in refused.text, wrong
    assert choices.load(settings).changed_by == "A. Okafor"
    # Another start of the page proposes the same.
    assert '<html lang="fr">' in Browser(opened(settings)).get("/").text


def test_destinations_are_shown_without_secrets(settings):
    folder = FolderDestination(name="stick", folder="/media/stick")
    hub = FhirDestination(name="clinic", url="https://fhir.example.org", client_id="secret-client")
    page = Browser(opened(msgspec.structs.replace(settings, destinations=(folder, hub)))).get("/settings").text
    assert "folder: /media/stick" in page and "fhir: https://fhir.example.org" in page and "secret-client" not in page


def test_the_pin_is_changed_by_who_knows_it_and_others_have_to_show_the_new_one(settings):
    app = opened(settings, **NETWORK, pin=Pin("480213"))
    mine, other = (Browser(app, host="192.168.1.5") for _ in range(2))
    for each in (mine, other):
        each.get("/login")
        assert each.post("/login", {"pin": "480213"}).status == 303
    mine.get("/settings")
    new = {"new": "975311", "again": "975311"}
    assert mine.post("/settings/pin", {**new, "pin": "000000"}).status == 400
    assert mine.post("/settings/pin", {**new, "pin": "480213", "again": "975312"}).status == 400
    assert mine.post("/settings/pin", {"pin": "480213", "new": "111111", "again": "111111"}).status == 400
    assert choices.load(settings).pin == ""
    assert mine.post("/settings/pin", {**new, "pin": "480213"}).status == 303
    assert mine.get("/settings").status == 200 and other.get("/settings").status == 303
    other.get("/login")
    assert other.post("/login", {"pin": "480213"}).status == 403
    assert other.post("/login", {"pin": "975311"}).status == 303


def test_the_device_page_shows_the_doctors_checks(settings, browser, monkeypatch):
    from edge.health import check, doctor

    monkeypatch.setattr(doctor, "examine", lambda *_, **__: [check.Check("clock", "warn", "no time server", "Set it.")])
    page = browser.get("/device").text
    assert "no time server" in page and "Set it." in page and "never been run" in page
    browser.post("/device/check")
    assert "The device was checked" in browser.get("/device").text


def test_a_certificate_needs_its_key(tmp_path):
    from edge.web.serve import Opening, door

    with pytest.raises(UsageError, match="belong together"):
        door(Opening(certificate=tmp_path / "c.pem"))


def test_an_altered_result_is_never_shown(settings, browser):
    import sqlite3

    kept = saved(settings)
    raw = sqlite3.connect(settings.database_path)
    raw.execute("DROP TRIGGER results_never_updated")
    raw.execute("UPDATE results SET sample = 'S-9'")
    raw.commit()
    raw.close()
    page = browser.get(f"/results/{kept.id}")
    assert page.status == 500 and "no longer what was saved" in page.text
    assert "altered: not shown" in browser.get("/").text


def test_an_older_version_is_marked(settings, browser):
    kept = saved(settings)
    with ResultStore(settings.database_path) as store:
        store.save(replace(kept, version=2, operator="B"), "again")
    assert "This is an older version" in browser.get(f"/results/{kept.id}?version=1").text
    assert "This is an older version" not in browser.get(f"/results/{kept.id}").text


def test_every_text_of_the_page_is_in_the_catalogue(root):
    texts = set()
    for template in (root / "edge/web/templates").glob("*.html"):
        for found in re.finditer(r"""\b_\(\s*(?:"([^"]*)"|'([^']*)')""", template.read_text(encoding="utf-8")):
            texts.add(found[1] or found[2])
    catalogue = json.loads((root / "edge/web/words/fr.json").read_text(encoding="utf-8"))
    assert len(texts) > 150 and texts - set(catalogue) == set()
    for text, translated in catalogue.items():
        assert sorted(re.findall(r"{\w+}", text)) == sorted(re.findall(r"{\w+}", translated)), text

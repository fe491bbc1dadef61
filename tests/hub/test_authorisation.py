"""Every route, every role, one's own and another's: nobody reads or writes what is not theirs."""

from __future__ import annotations

import pytest
from sent import PASSWORD, enrolled, jpeg, person, version

from edge.hub import people, releases
from edge.sync import messages as m

REASON = {"version": 1, "reason": "seen"}
CASES = {
    # (method, path): (roles that may, body, what another site's person gets)
    ("GET", "/cases/{id}"): ("operator reviewer admin", None, 404),
    ("GET", "/cases/{id}/desk"): ("operator reviewer admin", None, 404),
    ("GET", "/cases/{id}/pictures/{sha256}"): ("operator reviewer admin", None, 404),
    ("PUT", "/cases/{id}/reading"): ("reviewer", {"version": 1}, 404),
    ("POST", "/cases/{id}/second-reader"): ("operator reviewer admin", {}, 404),
    ("DELETE", "/cases/{id}/second-reader"): ("reviewer", None, 404),
    ("PUT", "/cases/{id}/consent"): ("reviewer", {"consent": False}, 404),
    ("POST", "/cases/{id}/signature"): ("reviewer", REASON, 404),
}
WHOLE = {
    # Routes that name no case: another site's person gets an answer in which nothing of ours stands.
    ("GET", "/session"): ("operator reviewer admin", None),
    ("GET", "/fleet"): ("operator reviewer admin", None),
    ("GET", "/cases"): ("operator reviewer admin", None),
    ("GET", "/exports/training"): ("reviewer admin", None),
    ("GET", "/people"): ("admin", None),
    ("POST", "/people"): ("admin", {"name": "new", "roles": ["operator"], "password": PASSWORD}),
    ("GET", "/accesses"): ("admin", None),
    ("GET", "/rollouts"): ("operator reviewer admin", None),
    ("POST", "/enrolment-codes"): ("admin", {"name": "scope-new"}),
    ("POST", "/rollouts"): ("nobody of one site", {"bundle": "student@2.0.0"}),
    ("POST", "/rollouts/{id}/halt"): ("nobody of one site", {"reason": "x"}),
    ("DELETE", "/people/{id}"): ("admin", None),
    ("DELETE", "/devices/{id}"): ("admin", None),
    ("DELETE", "/session"): ("operator reviewer admin", None),
}
DEVICE_ROUTES = {
    ("GET", "/device"),
    ("GET", "/device/changes"),
    ("GET", "/device/release"),
    ("POST", "/device/credential"),
    ("PUT", "/device/clock-anchors/{boot_id}"),
    ("PUT", "/device/health"),
    ("PUT", "/results/{id}/versions/{version}"),
    ("POST", "/pictures"),
    ("POST", "/pictures/missing"),
    ("HEAD", "/pictures/{sha256}"),
    ("PUT", "/pictures/{sha256}"),
}
OPEN = {("POST", "/enrolments"), ("POST", "/session")}
ROLES = ("operator", "reviewer", "admin")


@pytest.fixture
def scene(hub, client):
    """Two sites, each with a device that sent a case, and a person of each role; and one who sees both."""
    picture = jpeg(1)
    found = {"sha256": m.sha256(picture)}
    for site in ("north", "south"):
        device = enrolled(hub, client, f"scope-{site}", site=site)
        sent = version(pictures=[("cell", 0, picture)], sample=f"sample-{site}")
        assert device.put(sent).status_code == 201
        device.send_pictures(picture)
        found[site] = {"device": device, "id": sent.id}
        for role in ROLES:
            found[site][role] = person(hub, client, f"{role}-{site}", role, site=site)
    found["rollout"] = releases.add(hub, "student@1.2.3", percentage=5, cohort="", device_class="", by="test").id
    found["root"] = person(hub, client, "root", "admin")
    return found


def routes(application):
    """Every (method, path) of the API."""
    found = set()
    for path, methods in application.openapi()["paths"].items():
        found |= {(method.upper(), path.removeprefix(m.PREFIX)) for method in methods}
    return found


def test_the_matrix_names_every_route(client):
    assert routes(client.app) == {*CASES, *WHOLE, *DEVICE_ROUTES, *OPEN}


def filled(path, scene, site):
    kind = path.split("/")[1]
    ids = {"devices": scene[site]["device"].id, "people": f"operator-{site}", "rollouts": scene["rollout"]}
    values = {"id": ids.get(kind, scene[site]["id"]), "sha256": scene["sha256"]}
    return path.format(**values, boot_id="boot-1", version=1)


@pytest.mark.parametrize("route", CASES, ids=" ".join)
def test_cases_are_for_the_roles_and_the_site(client, scene, route):
    method, path = route
    may, body, other = CASES[route]
    options = {"json": body} if body is not None else {}
    for role in ROLES:
        own, foreign = scene["south"][role], scene["north"][role]
        target = filled(path, scene, "south")
        expected = other if role in may else 403
        assert foreign.api(method, target, **options).status_code == expected, (role, "another's")
        answer = own.api(method, target, **options)
        assert (answer.status_code < 300) == (role in may), (role, answer.text)
        if role not in may:
            assert answer.status_code == 403
        none = own.api(method, path.format(id="0" * 36, sha256="0" * 64), **options)
        assert none.status_code == (404 if role in may else 403), (role, "none")
    assert client.request(method, m.PREFIX + target, **options).status_code == 401
    signed = scene["south"]["device"].signed
    assert client.request(method, m.PREFIX + target, headers=signed, **options).status_code == 401


@pytest.mark.parametrize("route", WHOLE, ids=" ".join)
def test_the_rest_is_for_the_roles_and_shows_one_site(client, scene, route):
    method, path = route
    may, body = WHOLE[route]
    options = {"json": body} if body is not None else {}
    if path == "/exports/training":
        options["params"] = {"source": "x"}
    for role in ROLES:
        answer = scene["north"][role].api(method, filled(path, scene, "south"), **options)
        assert (answer.status_code == 403) == (role not in may), (role, answer.status_code, answer.text)
        if role in may:
            assert "south" not in answer.text and scene["south"]["id"] not in answer.text
    assert client.request(method, m.PREFIX + filled(path, scene, "south"), **options).status_code == 401
    # What was aimed at the other site had no effect there.
    assert scene["south"]["device"].get("/device").status_code == 200


@pytest.mark.parametrize("route", sorted(DEVICE_ROUTES), ids=" ".join)
def test_what_devices_do_no_person_does(client, scene, route):
    method, path = route
    target = filled(path, scene, "south")
    for asking in (scene["south"]["admin"], scene["root"]):
        assert asking.api(method, target).status_code == 401
    assert client.request(method, m.PREFIX + target).status_code == 401


def test_an_administrator_of_one_site_makes_nothing_for_another(scene):
    north = scene["north"]["admin"]
    assert north.api("POST", "/enrolment-codes", json={"name": "x", "site": "south"}).status_code == 403
    assert north.api("POST", "/enrolment-codes", json={"name": "scope-south"}).json()["code"] == "name-taken"
    account = {"name": "spy", "roles": ["reviewer"], "site": "south", "password": PASSWORD}
    assert north.api("POST", "/people", json=account).status_code == 403
    made = north.api("POST", "/people", json={**account, "site": ""}).json()
    assert made["site"] == "north"


def test_a_request_of_a_session_needs_its_token(client, scene):
    asking = scene["south"]["reviewer"]
    path = f"/cases/{scene['south']['id']}/signature"
    for token in ("", "wrong", scene["north"]["reviewer"].token):
        answer = client.post(
            m.PREFIX + path,
            json=REASON,
            headers={"Cookie": f"leuko_session={asking.cookie}", "X-Form-Token": token},
        )
        assert (answer.status_code, answer.json()["code"]) == (403, "form-token")
    page = client.post(
        f"/cases/{scene['south']['id']}",
        data={"action": "sign", "version": "1", "reason": "x"},
        headers={"Cookie": f"leuko_session={asking.cookie}"},
    )
    assert page.status_code == 403


def test_a_closed_account_and_a_finished_session_open_nothing(hub, scene):
    asking = scene["south"]["reviewer"]
    assert asking.api("GET", "/session").status_code == 200
    assert asking.api("DELETE", "/session").status_code == 204
    assert asking.api("GET", "/session").status_code == 401
    other = scene["north"]["reviewer"]
    people.disable(hub, "reviewer-north", by="test")
    assert other.api("GET", "/session").status_code == 401


def test_guessing_a_password_is_slowed_down(hub, client, scene):
    statuses = [
        client.post(f"{m.PREFIX}/session", json={"name": "root", "password": f"guess number {number}"}).status_code
        for number in range(12)
    ]
    assert statuses[:9] == [401] * 9 and statuses[-1] == 429

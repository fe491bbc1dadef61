"""What docs/sync-protocol.md promises to a device, on both databases, through the application."""

from __future__ import annotations

import gzip
import threading

import pytest
from sent import MOMENT, enrolled, jpeg, report, version

from edge.core.identifiers import uuid7
from edge.hub import core, enrolment, tables
from edge.sync import messages as m


def stored(hub, table):
    with hub.database.read() as connection:
        return connection.execute(table.select()).all()


def test_a_result_is_stored_once_and_its_bytes_as_they_came(hub, client):
    device = enrolled(hub, client)
    sent = version()
    body = m.encode(sent)
    first = device.put(sent)
    assert first.status_code == 201
    acknowledged = m.decode(first.content, m.Acknowledgement)
    assert (acknowledged.id, acknowledged.version, acknowledged.missing) == (sent.id, 1, ())
    assert acknowledged.content_sha256 == m.sha256(body)
    again = device.put(sent)
    assert again.status_code == 200 and again.json() == first.json()
    (row,) = stored(hub, tables.versions)
    assert bytes(row.body) == body and row.origin == "device"


def test_a_compressed_body_is_hashed_unpacked_and_bounded(hub, client):
    device = enrolled(hub, client)
    sent = version()
    body = m.encode(sent)
    path = f"{m.PREFIX}/results/{sent.id}/versions/1"
    headers = {**device.signed, m.CONTENT_HASH: m.sha256(body), "Content-Encoding": "gzip"}
    assert client.put(path, content=gzip.compress(body), headers=headers).status_code == 201
    assert client.put(path, content=gzip.compress(body)[:-9], headers=headers).status_code == 400
    assert client.put(path, content=body, headers=headers).json()["code"] == "gzip-broken"
    bomb = gzip.compress(b"0" * (m.MAX_RESULT_BYTES + 10))
    assert client.put(path, content=bomb, headers=headers).status_code == 413
    assert client.put(path, content=body, headers={**headers, "Content-Encoding": "br"}).status_code == 415


def test_other_contents_are_refused_and_kept_for_a_person(hub, client):
    device = enrolled(hub, client)
    sent = version()
    device.put(sent)
    other = version(identifier=sent.id, labels=("basophil",))
    for _ in range(2):
        answer = device.put(other)
        assert answer.status_code == 409
        problem = m.decode(answer.content, m.Problem)
        assert problem.code == "other-content"
        assert problem.content_sha256 == m.sha256(m.encode(sent))
    assert bytes(stored(hub, tables.versions)[0].body) == m.encode(sent)
    (kept,) = stored(hub, tables.conflicts)
    assert bytes(kept.body) == m.encode(other)


def test_versions_come_without_a_gap(hub, client):
    device = enrolled(hub, client)
    sent = version(2)
    answer = device.put(sent)
    assert (answer.status_code, answer.json()["code"], answer.json()["newest"]) == (412, "version-gap", 0)
    assert device.put(version(1, sent.id)).status_code == 201
    assert device.put(version(3, sent.id)).json()["newest"] == 1
    assert device.put(sent).status_code == 201
    assert stored(hub, tables.results)[0].newest == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body[:-1],
        lambda body: b"[]",
        lambda body: b"\xff",
        lambda body: body.replace(b'"version":1', b'"version":2'),
        lambda body: body.replace(b'"status":"preliminary"', b'"status":"good"'),
        lambda body: b'{"a":' * 100_000,
    ],
)
def test_what_is_no_result_is_refused(hub, client, change):
    device = enrolled(hub, client)
    sent = version()
    answer = device.put(sent, change(m.encode(sent)))
    assert (answer.status_code, answer.json()["code"]) == (422, "not-a-result")
    assert stored(hub, tables.versions) == []


def test_a_body_that_was_altered_on_the_way_is_refused(hub, client):
    device = enrolled(hub, client)
    sent = version()
    answer = device.put(sent, **{m.CONTENT_HASH: "0" * 64})
    assert (answer.status_code, answer.json()["code"]) == (422, "other-hash")


@pytest.mark.parametrize("odd", ["a\0b", "\N{PILE OF POO}", "' OR 1=1 --", "x" * 500])
def test_odd_text_is_stored(hub, client, odd):
    device = enrolled(hub, client)
    assert device.put(version(sample=odd, patient=odd, operator=odd)).status_code == 201


def test_a_document_of_another_shape_is_kept(hub, client):
    device = enrolled(hub, client)
    assert device.put(version(document={"differential": {"counted": -1, "classes": 3}, "fields": 7})).status_code == 201
    assert stored(hub, tables.results)[0].counted is None


def test_a_result_belongs_to_its_first_device(hub, client):
    mine, other = enrolled(hub, client), enrolled(hub, client, "scope-04")
    sent = version()
    mine.put(sent)
    answer = other.put(sent)
    assert (answer.status_code, answer.json()["code"]) == (409, "not-yours")


def test_who_does_not_prove_who_they_are_gets_nothing(hub, client):
    device = enrolled(hub, client)
    path = f"{m.PREFIX}/device"
    for wrong in (
        "",
        "Bearer",
        f"Bearer {device.id}.{'0' * 64}",
        f"Basic {device.id}.{device.secret}",
        "Bearer \u00e9.x",
    ):
        answer = client.get(path, headers={"Authorization": wrong.encode()})
        assert (answer.status_code, answer.json()["code"]) == (401, "not-signed-in")
    enrolment.revoke(hub, "scope-03", by="test")
    assert device.get("/device").json()["code"] == "revoked"


def test_a_scope_is_needed(hub, client):
    device = enrolled(hub, client, scopes=("health",))
    assert device.put(version()).json()["code"] == "scope-missing"
    assert device.get("/device").json()["scopes"] == ["health"]


def test_an_enrolment_may_be_repeated_and_a_code_not(hub, client):
    code = enrolment.make_code(hub, "scope-09", made_by="test").code
    request = m.EnrolmentRequest(code.lower().replace("-", " "), "a" * 64, "x", "pi", "1")
    send = lambda message: client.post(f"{m.PREFIX}/enrolments", content=m.encode(message))  # noqa: E731
    first, second = send(request), send(request)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["device_id"] == second.json()["device_id"]
    stolen = m.EnrolmentRequest(code, "b" * 64, "x", "pi", "1")
    assert (send(stolen).status_code, send(stolen).json()["code"]) == (409, "code-used")
    unknown = m.EnrolmentRequest("nothing", "b" * 64, "x", "pi", "1")
    assert (send(unknown).status_code, send(unknown).json()["code"]) == (403, "code-unknown")
    old = enrolment.make_code(hub, "scope-10", made_by="test", hours=-1).code
    assert send(m.EnrolmentRequest(old, "b" * 64, "x", "pi", "1")).json()["code"] == "code-expired"


def test_a_code_for_a_known_device_keeps_its_id_and_ends_its_old_secret(hub, client):
    before = enrolled(hub, client)
    after = enrolled(hub, client)
    assert after.id == before.id
    assert before.get("/device").status_code == 401
    assert after.get("/device").status_code == 200


def test_both_secrets_are_good_until_the_new_one_was_used(hub, client):
    device = enrolled(hub, client)
    asked = m.RotationRequest(m.credential_sha256("n" * 64))
    assert [device.post("/device/credential", asked).status_code for _ in range(2)] == [204, 204]
    assert device.get("/device").status_code == 200
    old, device.secret = device.secret, "n" * 64
    assert device.get("/device").status_code == 200
    assert device.post("/device/credential", asked).status_code == 204
    device.secret = old
    assert device.get("/device").status_code == 401


def test_pictures_are_asked_for_sent_together_and_checked(hub, client):
    device, other = enrolled(hub, client), enrolled(hub, client, "scope-04")
    first, second = jpeg(1), jpeg(2)
    sent = version(pictures=[("field", None, first), ("cell", 0, second), ("cell", 1, second)])
    missing = device.put(sent).json()["missing"]
    assert [each["sha256"] for each in missing] == [m.sha256(first), m.sha256(second)]
    packed = m.pack([first, second, b"no jpeg"])
    headers = {**device.signed, "Content-Type": m.PICTURES_TYPE}
    answer = client.post(f"{m.PREFIX}/pictures", content=packed[: len(packed) - 3], headers=headers)
    assert answer.json() == {"held": [m.sha256(first), m.sha256(second)], "refused": []}
    assert device.send_pictures(b"no jpeg").json() == {"held": [], "refused": [m.sha256(b"no jpeg")]}
    assert device.put(sent).json()["missing"] == []
    question = m.PictureQuestion((m.sha256(first),))
    assert device.post("/pictures/missing", question).json() == {"missing": []}
    # A hash is no proof of possession.
    assert other.post("/pictures/missing", question).json() == {"missing": [{"sha256": m.sha256(first), "offset": 0}]}
    assert client.head(f"{m.PREFIX}/pictures/{m.sha256(first)}", headers=other.signed).status_code == 404


def test_a_large_picture_goes_on_where_it_stopped(hub, client):
    device = enrolled(hub, client)
    data = jpeg(3, 200)
    path = f"{m.PREFIX}/pictures/{m.sha256(data)}"
    assert client.head(path, headers=device.signed).status_code == 404
    assert device.part(data, 0, 999).status_code == 202
    head = client.head(path, headers=device.signed)
    assert (head.headers[m.UPLOAD_OFFSET], head.headers[m.UPLOAD_COMPLETE]) == ("1000", "?0")
    answer = device.part(data, 0, 999)
    assert (answer.status_code, answer.json()["code"], answer.json()["offset"]) == (409, "other-offset", 1000)
    # A body shorter than its range: what arrived is kept, as of a cut.
    short = {**device.signed, "Content-Range": f"bytes 1000-{len(data) - 1}/{len(data)}"}
    assert client.put(path, content=data[1000:1500], headers=short).status_code == 202
    assert device.part(data, 1500, len(data) - 1).status_code == 201
    assert device.part(data, 0, 10).status_code == 200
    assert hub.objects.get(m.sha256(data)) == data
    assert [path for path in hub.parts.rglob("*") if path.is_file()] == []


def test_a_picture_with_another_hash_is_dropped(hub, client):
    device = enrolled(hub, client)
    data, wrong = jpeg(4), m.sha256(jpeg(5))
    answer = device.part(data, 0, len(data) - 1, sha256=wrong)
    assert (answer.status_code, answer.json()["code"]) == (422, "other-hash")
    assert client.head(f"{m.PREFIX}/pictures/{wrong}", headers=device.signed).status_code == 404
    for headers in ({}, {"Content-Range": "bytes 9-1/5"}, {"Content-Range": "bytes 0-1/99999999999"}):
        answer = client.put(f"{m.PREFIX}/pictures/{wrong}", content=b"ab", headers={**device.signed, **headers})
        assert (answer.status_code, answer.json()["code"]) == (400, "range-invalid")


def test_bytes_that_were_not_promised_do_not_count(hub, client):
    device = enrolled(hub, client)
    data = jpeg(6, 100)
    device.part(data, 0, 99)
    part = hub.parts / device.id / m.sha256(data)
    part.write_bytes(part.read_bytes() + b"left by a crash")
    assert device.part(data, 100, len(data) - 1).status_code == 201
    assert hub.objects.get(m.sha256(data)) == data


def test_a_boot_has_one_anchor(hub, client):
    device = enrolled(hub, client)
    anchor = m.ClockAnchor(MOMENT, "2026-11-21T00:00:00+00:00", "hub")
    path = f"{m.PREFIX}/device/clock-anchors/boot-1"
    statuses = [
        client.put(path, content=m.encode(each), headers=device.signed).status_code
        for each in (anchor, m.ClockAnchor(MOMENT, "2026-11-22T00:00:00+00:00", "hub"))
    ]
    assert statuses == [201, 200]
    assert stored(hub, tables.clock_anchors)[0].trusted == anchor.trusted
    assert client.put(path + "x", content=m.encode(anchor), headers=device.signed).status_code == 422


def test_an_older_health_report_replaces_no_newer_one(hub, client):
    from edge.hub import fleet

    device = enrolled(hub, client)
    for sequence, bundle in ((7, "student@1.2.3"), (5, "student@1.0.0")):
        sent = report(sequence, bundle=bundle)
        answer = client.put(f"{m.PREFIX}/device/health", content=m.encode(sent), headers=device.signed)
        assert answer.status_code == 204
    (shown,) = fleet.devices(hub, core.Person("", "x", frozenset(), ""))
    assert (shown.bundle, shown.backlog_results, shown.silent) == ("student@1.2.3", 2, False)


def test_every_result_arrives_once_whatever_comes_at_once(hub, client):
    """Threads send the same and different versions, twice each, in any order."""
    devices = [enrolled(hub, client, f"scope-{number}") for number in range(3)]
    sent = {device.id: [version(sample=f"S-{number}") for number in range(12)] for device in devices}
    seconds = {each.id: version(2, each.id, sample=each.sample) for all_ in sent.values() for each in all_}
    statuses = []

    def work(device, turn):
        for each in sent[device.id][:: 1 if turn else -1]:
            for body in (each, seconds[each.id], each):
                answer = device.put(body)
                statuses.append(answer.status_code)
                if answer.status_code == 412:
                    device.put(each), device.put(body)

    threads = [threading.Thread(target=work, args=(device, turn)) for device in devices for turn in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {200, 201}
    expected = {(each.id, each.version): m.encode(each) for all_ in sent.values() for each in all_}
    expected |= {(each.id, 2): m.encode(each) for each in seconds.values()}
    found = {(row.id, row.version): bytes(row.body) for row in stored(hub, tables.versions)}
    assert found == expected
    assert statuses.count(201) == len(expected)


def test_one_of_two_contents_wins_a_race(hub, client):
    device = enrolled(hub, client)
    identifier = uuid7()
    rivals = [version(identifier=identifier, sample=f"S-{number}") for number in range(6)]
    statuses = []
    barrier = threading.Barrier(len(rivals))

    def work(rival):
        barrier.wait()
        statuses.append(device.put(rival).status_code)

    threads = [threading.Thread(target=work, args=(rival,)) for rival in rivals]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [201, *[409] * 5]
    assert len(stored(hub, tables.conflicts)) == 5

"""Starting, releases, figures, backups, the OpenAPI document, and the commands."""

from __future__ import annotations

import json
import os

import pytest
from sent import enrolled, jpeg, person, report, version

from edge.core.errors import LeukoError
from edge.hub import backup, core, fleet, objects, people, pictures, releases, settings, tables
from edge.hub.database import Database
from edge.hub.settings import Settings
from edge.sync import messages as m


def all_rows(hub):
    with hub.database.read() as connection:
        return {
            table.name: sorted(map(repr, connection.execute(table.select())))
            for table in tables.metadata.sorted_tables
            if table.name not in {*backup.LEFT_OUT, "state"}
        }


@pytest.mark.parametrize("into", ["sqlite", "same"])
def test_what_was_backed_up_is_restored_also_into_the_other_database(
    hub, client, tmp_path, request, into, database_url
):
    device = enrolled(hub, client)
    crop = jpeg(1)
    sent = version(pictures=[("cell", 0, crop)])
    device.put(sent)
    device.send_pictures(crop)
    ada = person(hub, client)
    ada.api("POST", f"/cases/{sent.id}/signature", json={"version": 1, "reason": "seen"})
    backup.save(hub.settings, tmp_path / "backup")
    device.put(version())
    counts = backup.save(hub.settings, tmp_path / "backup")
    assert counts["pictures"] == 1
    if into == "same" and not database_url.startswith("sqlite"):
        target = other_database(request, database_url)
    else:
        target = f"sqlite:///{tmp_path / 'restored.sqlite3'}"
    again = Settings(target, str(tmp_path / "restored"))
    backup.restore(again, tmp_path / "backup")
    restored = core.open_hub(again)
    assert all_rows(restored) == all_rows(hub)
    assert restored.objects.get(m.sha256(crop)) == crop
    assert restored.epoch != hub.epoch
    with pytest.raises(LeukoError, match="not empty"):
        backup.restore(again, tmp_path / "backup")
    # It goes on from there: sequences continue, devices are known.
    people.open_session(restored, people.accounts(restored)[0].id, "ada", "")
    assert fleet.devices(restored, core.Person("", "x", frozenset(), ""))[0].id == device.id
    restored.close()


def other_database(request, database_url):
    import psycopg

    base, _, name = database_url.rpartition("/")
    with psycopg.connect(f"{base.replace('+psycopg', '')}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}b")
    return f"{base}/{name}b"


@pytest.mark.parametrize("damage", ["table", "picture", "manifest"])
def test_a_damaged_backup_is_refused(hub, client, tmp_path, damage):
    device = enrolled(hub, client)
    device.send_pictures(jpeg(1))
    folder = tmp_path / "backup"
    backup.save(hub.settings, folder)
    path = {
        "table": folder / "tables" / "devices.jsonl.gz",
        "picture": next((folder / "objects").glob("*/*")),
        "manifest": folder / "backup.json",
    }[damage]
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    if damage == "manifest":
        path.write_text("{}")
    again = Settings(f"sqlite:///{tmp_path / 'r.sqlite3'}", str(tmp_path / "r"))
    with pytest.raises(LeukoError) as refused:
        backup.restore(again, folder)
    assert refused.value.code in {"backup-damaged", "backup-unknown"}


def test_the_migrations_make_the_tables_of_the_code(hub):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with hub.database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
    hub.database.migrate()  # again: nothing happens


def test_an_unmigrated_or_unknown_database_is_an_error_with_a_cure(tmp_path):
    for url, code in (
        (f"sqlite:///{tmp_path / 'x.sqlite3'}", "database-not-migrated"),
        ("mysql://x", "database-unknown"),
        ("nonsense", "database-unknown"),
        ("postgresql://u:secret@127.0.0.1:1/x", "database-unusable"),
    ):
        with pytest.raises(LeukoError) as refused:
            core.open_hub(Settings(url, str(tmp_path / "o")))
        assert refused.value.code == code and refused.value.cure
        assert "secret" not in str(refused.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "hub.example"])
def test_off_loopback_the_way_is_encrypted(host):
    with pytest.raises(LeukoError) as refused:
        settings.require_safe_address(host, encrypted=False)
    assert refused.value.code == "tls-required"
    settings.require_safe_address(host, encrypted=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_loopback_needs_no_encryption(host):
    settings.require_safe_address(host, encrypted=False)


def test_health_and_figures(hub, client):
    enrolled(hub, client)
    assert client.get("/health/live").json() == client.get("/health/ready").json() == {"status": "ok"}
    text = client.get("/metrics").text
    assert 'leuko_hub_devices{state="silent"} 1.0' in text and "leuko_hub_requests_total" in text
    assert client.get("/metrics", headers={"X-Forwarded-For": "8.8.8.8"}).status_code == 403


def test_a_hub_that_cannot_store_says_so(hub, client, tmp_path):
    device = enrolled(hub, client)
    if os.geteuid() == 0:
        (tmp_path / "objects").rename(tmp_path / "moved")
        (tmp_path / "objects").write_text("no folder")
    else:
        (tmp_path / "objects").chmod(0o500)
    assert client.get("/health/ready").status_code == 503
    answer = device.send_pictures(jpeg(1))
    assert answer.status_code == 503 and int(answer.headers["Retry-After"]) > 0
    with hub.database.read() as connection:
        assert connection.execute(tables.pictures.select()).all() == []


def test_old_parts_are_dropped(hub, client):
    device = enrolled(hub, client)
    data = jpeg(1, 100)
    device.part(data, 0, 99)
    assert pictures.drop_old_parts(hub) == 0
    with hub.database.write() as connection:
        connection.execute(tables.picture_parts.update().values(touched="2026-01-01T00:00:00.000+00:00"))
    assert pictures.drop_old_parts(hub) == 1
    assert [path for path in hub.parts.rglob("*") if path.is_file()] == []


def test_a_release_goes_to_its_share_of_the_devices_and_stays_with_them(hub):
    devices = [core.Device(str(n), str(n), "", "pilot", "pi", frozenset()) for n in range(1000)]

    def chosen(**values):
        rule = releases.add(
            hub, "student@2.0.0", **{"percentage": 10, "cohort": "", "device_class": "", **values}, by="x"
        )
        return {device.id for device in devices if releases.fits(rule, device)}

    tenth, half = chosen(), chosen(percentage=50)
    assert 60 < len(tenth) < 140 and 420 < len(half) < 580 and tenth < half
    assert len(chosen(percentage=100)) == 1000 and chosen(percentage=0) == set()
    assert chosen(cohort="other", percentage=100) == set() == chosen(device_class="jetson", percentage=100)
    assert len(chosen(cohort="pilot", device_class="pi", percentage=100)) == 1000


def send_health(client, device, **values):
    sent = m.encode(report(**values))
    assert client.put(f"{m.PREFIX}/device/health", content=sent, headers=device.signed).status_code == 204


def test_a_bundle_that_miscomputes_in_the_field_is_halted(hub, client):
    device = enrolled(hub, client)
    old = releases.add(hub, "student@1.0.0", percentage=100, cohort="", device_class="", by="x")
    new = releases.add(hub, "student@1.2.3", percentage=100, cohort="", device_class="", by="x")
    assert device.get("/device/release").json() == {"bundle": "student@1.2.3", "rollout": new.id}
    send_health(client, device, checks=(m.Check("golden-vectors", "fail", "3 of 16 differ"),))
    assert device.get("/device/release").json() == {"bundle": "student@1.0.0", "rollout": old.id}
    assert "golden vectors" in next(rule.reason for rule in releases.rollouts(hub) if rule.halted)


def test_a_failure_that_a_device_tells_of_halts_all_roll_outs_of_that_bundle_once(hub, client):
    device = enrolled(hub, client)

    def told(state, minute):
        moment = m.Moment(f"2026-11-20T10:{minute:02d}:00+00:00", 1.0, "boot", "rtc")
        return m.ReleaseOutcome("r", "student@2.0.0", state, "", "3 of 16 differ", moment)

    def rolled_out(bundle="student@2.0.0"):
        return releases.add(hub, bundle, percentage=10, cohort="", device_class="", by="x").id

    def halted():
        return {rule.id for rule in releases.rollouts(hub) if rule.halted}

    first, second, other = rolled_out(), rolled_out(), rolled_out("student@1.2.3")
    for minute, state in enumerate(("postponed", "installed", "active", "refused", "passed", "from a later version")):
        send_health(client, device, sequence=minute + 1, release=told(state, minute))
    assert halted() == set()
    send_health(client, device, sequence=10, release=told("failed", 10))
    assert halted() == {first, second} and other not in halted()
    assert "3 of 16 differ" in releases.rollouts(hub)[-1].reason
    # Told again, it halts nothing that was rolled out since; a new failure does.
    again = rolled_out()
    send_health(client, device, sequence=11, release=told("failed", 10))
    assert again not in halted()
    send_health(client, device, sequence=12, release=told("rolled-back", 12))
    assert again in halted()
    (shown,) = fleet.devices(hub, core.Person("", "x", frozenset(), ""))
    assert shown.release == "student@2.0.0: rolled-back (3 of 16 differ)"


@pytest.mark.parametrize(("abstained", "halted"), [(0, False), (4, False), (30, True)])
def test_a_bundle_that_abstains_too_often_is_halted(hub, client, abstained, halted):
    from sent import document

    device = enrolled(hub, client)
    releases.add(hub, "student@1.2.3", percentage=100, cohort="", device_class="", by="x")
    labels = ("neutrophil",) * 110
    for _ in range(2):
        assert device.put(version(document=document(labels, abstained=range(abstained)))).status_code == 201
    send_health(client, device)
    assert (releases.rollouts(hub)[0].halted is not None) == halted


def test_drift_shows_against_earlier_results(hub, client):
    device = enrolled(hub, client)
    labels = ("neutrophil",) * 60 + ("lymphocyte",) * 40
    device.put(version(labels=labels))
    with hub.database.write() as connection:
        connection.execute(tables.results.update().values(received="2026-01-01T00:00:00.000+00:00"))
    who = core.Person("", "x", frozenset(), "")
    send_health(client, device, sequence=1, neutrophil=60, lymphocyte=40)
    assert fleet.devices(hub, who)[0].drift == pytest.approx(0, abs=0.01)
    send_health(client, device, sequence=2, neutrophil=20, lymphocyte=80)
    (shown,) = fleet.devices(hub, who)
    assert shown.drifted and shown.drift > 0.5
    send_health(client, device, sequence=3, neutrophil=9)
    assert fleet.devices(hub, who)[0].drift is None


def test_releases_are_files_of_one_folder(hub, client, tmp_path):
    folder = tmp_path / "releases"
    (folder / "metadata").mkdir(parents=True)
    (folder / "metadata" / "timestamp.json").write_bytes(b"{}")
    (tmp_path / "secret").write_text("secret")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / ".hidden").write_text("x")
    assert client.get("/releases/metadata/timestamp.json").content == b"{}"
    for path in (
        "link",
        ".hidden",
        "%2e%2e/secret",
        "metadata/%2e%2e/%2e%2e/secret",
        "metadata",
        "x%00",
        "metadata%5cx",
    ):
        assert client.get(f"/releases/{path}").status_code == 404, path


def test_the_openapi_document_is_current(root):
    from edge.hub.web.application import openapi_text

    made = openapi_text()
    assert (root / "docs" / "openapi.json").read_text(encoding="utf-8") == made, (
        "run: leuko hub openapi > docs/openapi.json"
    )
    described = json.loads(made)
    assert described["openapi"].startswith("3.1")
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            secured = path in {f"{m.PREFIX}/enrolments", f"{m.PREFIX}/session"} and method == "post"
            assert secured or operation["security"], (method, path)


def test_a_store_of_pictures_is_a_folder_or_a_bucket(tmp_path, monkeypatch):
    store = objects.open_objects(str(tmp_path / "pictures"))
    store.check()
    store.put("ab" * 32, b"1")
    store.put("ab" * 32, b"1")
    assert store.get("ab" * 32) == b"1" and list(store.names()) == ["ab" * 32]
    with pytest.raises(KeyError):
        store.get("cd" * 32)
    for place in ("s3://host/bucket", "ftp://host/bucket", "s3://host"):
        with pytest.raises(LeukoError):
            objects.open_objects(place)


def test_a_database_is_sqlite_with_the_pragmas_that_keep_it(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'x.sqlite3'}")
    with database.read() as connection:
        found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
    assert found == ["wal", 2]

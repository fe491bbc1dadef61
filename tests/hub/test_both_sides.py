"""The real commands of both sides: `leuko hub` in one process, `leuko sync` of a device in others."""

from __future__ import annotations

import json
import socket
import subprocess
import time

import pytest
from commands import LEUKO, assert_refused, draw_files, environment, leuko

PASSWORD = "a few plain words"


@pytest.fixture
def serving(tmp_path):
    """A hub that listens, its home and its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = tmp_path / "hub"
    home.mkdir()
    log = (home / "log").open("wb")
    command = [*LEUKO, "hub", "serve", "--port", str(port)]
    server = subprocess.Popen(command, cwd=home, env=environment(home), stdout=log, stderr=log)
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            time.sleep(0.1)
    yield home, f"http://127.0.0.1:{port}"
    server.terminate()
    server.wait(30)
    log.close()


def test_a_result_goes_to_the_hub_and_its_signature_comes_back(serving, tmp_path):
    import httpx

    home, url = serving
    device = tmp_path / "device"
    device.mkdir()
    code = leuko(home, "hub", "enrol", "scope-1", "--json").document["code"]
    (home / "password").write_text(PASSWORD + "\n")
    assert leuko(home, "hub", "person", "ada", "--role", "reviewer", "--password-file", "password").code == 0
    assert leuko(device, "sync", "enrol", url, code).code == 0
    draw_files(device / "fields", 2)
    analysed = leuko(device, "analyze", "fields", "--sample", "S-17", "--json", LEUKO_OPERATOR="amina").document
    sent = leuko(device, "sync", "run", "--json")
    assert (sent.code, sent.document["destinations"][0]["delivered"]) == (0, 1), sent.err
    with httpx.Client(base_url=f"{url}/api/v1") as browser:
        signed_in = browser.post("/session", json={"name": "ada", "password": PASSWORD}).json()
        (case,) = browser.get("/cases").json()["cases"]
        shown = browser.get(f"/cases/{case['id']}").json()
        assert shown["missing_pictures"] == 0 and shown["document"]["differential"] == analysed["differential"]
        signature = {"version": 1, "reason": "seen", "labels": {"1.1": "basophil"}}
        done = browser.post(
            f"/cases/{case['id']}/signature", json=signature, headers={"X-Form-Token": signed_in["form_token"]}
        )
        assert done.status_code == 201, done.text
    assert leuko(device, "sync", "run").code == 0
    reported = leuko(device, "report", "S-17", "--json").document
    assert reported["fields"][0]["cells"][0]["label"] == "basophil"
    (listed,) = leuko(home, "hub", "devices", "--json").document
    assert listed["device_class"]  # of the device's profile: staged releases go by it
    assert (listed["changes_waiting"], listed["backlog_results"], listed["silent"]) == (0, 0, False)
    assert leuko(home, "hub", "revoke", "scope-1").code == 0
    refused = leuko(device, "sync", "run", "--patience", "0")
    assert refused.code == 3 and "revoked" in refused.err
    saved = leuko(home, "hub", "backup", home / "saved")
    assert saved.code == 0 and json.loads((home / "saved" / "backup.json").read_text())["pictures"] > 3
    lines = [json.loads(line) for line in (home / "log").read_text().splitlines() if line.startswith("{")]
    assert any(line["message"] == "request" and line.get("status") == 201 for line in lines)
    assert PASSWORD not in (home / "log").read_text() and code not in (home / "log").read_text()


def test_wrong_use_is_one_error_with_its_cure(tmp_path):
    assert_refused(leuko(tmp_path, "hub", "serve", "--host", "0.0.0.0"), 2, "tls-required", "--certificate")
    assert_refused(leuko(tmp_path, "hub", "revoke", "nobody"), 3, "device-unknown")
    assert_refused(leuko(tmp_path, "hub", "enrol", "x", "--database", "mysql://x"), 3, "database-unknown")
    assert_refused(leuko(tmp_path, "hub", "restore", tmp_path), 3, "backup-unknown")

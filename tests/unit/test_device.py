"""Profiles, sensors and the thermal guard: against what real machines print, and machines made up for the purpose."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import bundles
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import sensors
from devices.profiles import reading as profiles
from edge import config
from edge.bundle import manifest
from edge.core.device import SensorReading, ThermalLimits, throttle_union
from edge.core.errors import UsageError
from edge.health import bench, device
from edge.health.thermal import ThermalGuard
from edge.inference import trials

# Lines of tegrastats as their owners published them.
NANO = (
    "RAM 2015/3964MB (lfb 98x4MB) SWAP 29/1982MB (cached 3MB) CPU [6%@102,5%@102,4%@102,3%@102] EMC_FREQ 0% GR3D_FREQ"
    " 0% PLL@28C CPU@31.5C PMIC@100C GPU@30.5C AO@36C thermal@31.25C POM_5V_IN 1388/1388 POM_5V_GPU 122/122"
)
ORIN_R36 = (
    "03-09-2026 14:12:52 RAM 1905/7620MB (lfb 36x4MB) SWAP 320/12002MB (cached 20MB) CPU [0%@729,0%@729,1%@729,0%@729,"
    "0%@729,0%@729] GR3D_FREQ 0% cpu@46.125C soc2@45.843C soc0@44.156C gpu@45.062C tj@46.125C soc1@46C"
    " VDD_IN 4742mW/4742mW VDD_CPU_GPU_CV 482mW/482mW VDD_SOC 1446mW/1446mW"
)
ORIN_R39 = (
    "09-01-2026 09:25:18 RAM 5739/7546MB (lfb 1x2MB) SWAP 2047/2048MB (cached 209MB) CPU [72%@1728,75%@1728] GR3D_FREQ"
    " 33% cpu@50C/50C soc2@47.937C/47.937C soc0@48.437C/48.437C gpu@48.75C/48.75C tj@50C/50C VDD_IN"
    " 9761mW/9761mW/9761mW"
)
ORIN_OFF = "GR3D_FREQ 0%@[0,0] CV0@-256C CPU@48.6C Tboard@38C SOC2@45.4C GPU@-256C tj@48.6C VDD_IN 5120mW/5098mW"


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


# Profiles.


def test_every_profile_reads_and_slows_before_it_stops() -> None:
    names = profiles.available()
    assert set(names) == {"generic", "jetson_nano", "jetson_orin_nano", "raspberry_pi_4", "raspberry_pi_5"}
    for name in names:
        profile = profiles.load(name)
        assert profile.name == name
        assert profile.thermal.slow < profile.thermal.stop
        assert any(runtime in {"litert", "onnxruntime"} for runtime, _ in profile.runtimes)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("Raspberry Pi 4 Model B Rev 1.4", "raspberry_pi_4"),
        ("Raspberry Pi 400 Rev 1.0", "raspberry_pi_4"),
        ("Raspberry Pi Compute Module 4 Rev 1.1", "raspberry_pi_4"),
        ("Raspberry Pi 5 Model B Rev 1.0", "raspberry_pi_5"),
        ("Raspberry Pi 500 Rev 1.0", "raspberry_pi_5"),
        ("NVIDIA Jetson Nano Developer Kit", "jetson_nano"),
        ("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super", "jetson_orin_nano"),
        ("NVIDIA Jetson Orin Nano Developer Kit", "jetson_orin_nano"),
        ("Raspberry Pi 3 Model B Plus Rev 1.3", "generic"),
        ("NVIDIA Jetson AGX Orin Developer Kit", "generic"),
    ],
)
def test_a_machine_is_known_by_its_model(tmp_path: Path, model: str, name: str) -> None:
    found = profiles.detect(tree(tmp_path, {"proc/device-tree/model": model + "\0"}))
    assert found.profile.name == name
    assert model in found.evidence


def test_a_machine_without_a_device_tree_is_generic(tmp_path: Path) -> None:
    assert profiles.detect(tmp_path).profile.name == "generic"


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("threads = 1", "threads = 0", "threads"),
        ('camera = "uvc"', 'camera = "webcam"', "camera"),
        ("batch = 16", "batch = 16\nbath = 1", "bath"),
        ("litert-int8", "litert-int4", "runtimes"),
        ("slow = 90.0", "slow = 99.5", "slow"),
        ("stop = 99.0", "stop = 900.0", "stop"),
        ("[thermal]", "[thermal", "TOML|Expected|not valid"),
    ],
)
def test_a_wrong_profile_is_refused(old: str, new: str, word: str) -> None:
    text = (profiles.FOLDER / "generic.toml").read_text()
    assert old in text
    with pytest.raises(UsageError, match=word) as caught:
        profiles.parse(text.replace(old, new, 1), "generic")
    assert caught.value.code == "profile-invalid"


def test_every_profile_has_its_reference_of_the_bench() -> None:
    for name in profiles.available():
        reference = bench.read_reference(device.reference(profiles.load(name)))
        assert reference.basis
        assert reference.milliseconds_per_field
        assert reference.peak_megabytes


@pytest.mark.parametrize(
    ("words", "throttled"),
    [
        ([None, None], None),
        ([0, 0, 0], False),
        ([0x50000, 0x50000], False),
        ([0, 0x50005, 0x50000], True),
        ([0x10000, 0x50000], True),
    ],
)
def test_a_run_is_throttled_by_what_happens_during_it(words: list[int | None], throttled: bool | None) -> None:
    readings = iter([SensorReading(50.0 + number, "cpu", word) for number, word in enumerate(words)])
    watch = bench.Watch(lambda: next(readings), seconds=0.0)
    for _ in words:
        watch.look()
    assert watch.throttled is throttled
    assert watch.celsius_highest == 49.0 + len(words)


def test_an_unknown_profile_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        profiles.load("../generic")
    assert "raspberry_pi_5" in caught.value.cure


def test_the_configuration_stands_over_the_selection_and_that_over_the_machine(tmp_path: Path) -> None:
    def settings(**more: str) -> config.Config:
        return config.load(environment={"LEUKO_DATA_FOLDER": str(tmp_path / "data"), **more})

    assert device.chosen(settings()).reason.startswith("detected")
    device.select(settings(), "jetson_nano")
    assert device.chosen(settings()).profile.name == "jetson_nano"
    assert device.threads(settings()) == 3
    assert device.chosen(settings(LEUKO_PROFILE="raspberry_pi_4")).profile.name == "raspberry_pi_4"
    with pytest.raises(UsageError):
        device.select(settings(), "pi")
    (tmp_path / "data" / device.SELECTION).write_text("profile = 3")
    with pytest.raises(UsageError, match="cannot be read") as caught:
        device.chosen(settings())
    assert "leuko device select" in caught.value.cure


# Sensors.


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("throttled=0x0\n", 0),
        ("throttled=0x50005\n", 0x50005),
        ("throttled=0x80008", 0x80008),
        ("VCHI initialization failed\n", None),
        ("", None),
    ],
)
def test_what_vcgencmd_says_of_throttling(text: str, word: int | None) -> None:
    assert sensors.parse_throttled(text) == word


def test_what_vcgencmd_says_of_temperature() -> None:
    assert sensors.parse_vcgencmd_temperature("temp=48.3'C\n") == 48.3
    assert sensors.parse_vcgencmd_temperature("Can't open device file: /dev/vcio") is None


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("NV Power Mode: MAXN\n0\n", "MAXN"),
        ("NV Power Mode: 25W\n1\n", "25W"),
        ("NVPM WARN: fan mode is not set!\nNV Power Mode: MODE_15W\n2\n", "MODE_15W"),
        ("nvpmodel: command not found", None),
    ],
)
def test_what_nvpmodel_says(text: str, mode: str | None) -> None:
    assert sensors.parse_nvpmodel(text) == mode


@pytest.mark.parametrize(
    ("line", "hottest", "watts"),
    [(NANO, ("ao", 36.0), 1.388), (ORIN_R36, ("cpu", 46.125), 4.742), (ORIN_R39, ("cpu", 50.0), 9.761)],
)
def test_what_tegrastats_says(line: str, hottest: tuple[str, float], watts: float) -> None:
    found = sensors.parse_tegrastats_temperatures(line)
    assert max(found.items(), key=lambda each: each[1]) == hottest
    assert sensors.parse_tegrastats_watts(line) == watts


def test_sensors_that_are_off_or_constant_say_nothing() -> None:
    assert set(sensors.parse_tegrastats_temperatures(ORIN_OFF)) == {"cpu", "tboard", "soc2", "tj"}
    assert "pmic" not in sensors.parse_tegrastats_temperatures(NANO)


@given(st.text())
def test_no_text_breaks_a_parser(text: str) -> None:
    sensors.parse_throttled(text)
    sensors.parse_vcgencmd_temperature(text)
    sensors.parse_nvpmodel(text)
    sensors.parse_tegrastats_watts(text)
    assert all(-40 <= degrees <= 150 for degrees in sensors.parse_tegrastats_temperatures(text).values())


def test_a_raspberry_pi_without_the_firmware_s_file_asks_vcgencmd(tmp_path: Path) -> None:
    said = {"get_throttled": "throttled=0x20000\n", "measure_temp": "temp=71.0'C\n"}
    tree(tmp_path, {"sys/class/hwmon/hwmon1/name": "rpi_volt\n", "sys/class/hwmon/hwmon1/in0_lcrit_alarm": "1\n"})
    found = sensors.read("raspberry-pi", tmp_path, tool=lambda command: said[command[1]])
    assert found.celsius == 71.0
    assert found.throttle_bits == 0x30001
    assert found.now == ("the supply voltage is too low",)
    assert len(found.since_boot) == 2


def test_a_jetson_s_files_and_tools_are_read_together(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {
            "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
            "sys/class/thermal/thermal_zone0/temp": "50468\n",
            "sys/class/thermal/thermal_zone1/type": "tj-thermal\n",
            "sys/class/thermal/thermal_zone1/temp": "51500\n",
            "sys/class/thermal/thermal_zone2/type": "PMIC-Die\n",
            "sys/class/thermal/thermal_zone2/temp": "100000\n",
            "sys/class/thermal/cooling_device0/type": "cpu-throttle-alert\n",
            "sys/class/thermal/cooling_device0/cur_state": "1\n",
            "sys/class/hwmon/hwmon3/name": "soctherm_oc\n",
            "sys/class/hwmon/hwmon3/oc1_event_cnt": "0\n",
            "sys/class/hwmon/hwmon3/oc2_event_cnt": "15\n",
            "sys/class/hwmon/hwmon3/oc3_event_cnt": "37\n",
        },
    )
    said = {"tegrastats": ORIN_R36 + "\n", "nvpmodel": "NV Power Mode: 15W\n0\n"}
    found = sensors.read("jetson", tmp_path, tool=lambda command: said[command[0]])
    assert found == SensorReading(51.5, "tj-thermal", 1 << 18 | 1 << 2, "15W", 4.742)
    (tmp_path / "sys/class/hwmon/hwmon3/oc1_event_cnt").write_text("2\n")
    again = sensors.read("jetson", tmp_path, tool=lambda _: None)
    assert "the supply voltage is too low" in again.since_boot


def test_a_tool_is_read_to_its_first_line_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, body in {"tegrastats": f"echo '{NANO}'; exec sleep 60", "vcgencmd": "exec sleep 60"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert sensors.parse_tegrastats_watts(sensors.run_tool(("tegrastats",), 30.0) or "") == 1.388
    assert sensors.run_tool(("vcgencmd", "get_throttled"), 0.1) is None
    assert sensors.run_tool(("no-such-tool",)) is None


def test_words_are_joined_and_the_unknown_stays_unknown() -> None:
    assert throttle_union(None, None) is None
    assert throttle_union(None, 0) == 0
    assert throttle_union(0x1, 0x50000, None) == 0x50001


# The guard.


class Machine:
    """A machine whose temperature the test sets, and a clock that it turns."""

    def __init__(self, celsius: float | None = 50.0) -> None:
        self.reading, self.seconds, self.asked = SensorReading(celsius, "cpu"), 0.0, 0
        self.guard = ThermalGuard(ThermalLimits(75.0, 84.0, 4.0), self.read, seconds=2.0, clock=lambda: self.seconds)

    def read(self) -> SensorReading:
        self.asked += 1
        return self.reading

    def at(self, celsius: float | None, bits: int | None = None) -> str:
        self.reading = SensorReading(celsius, "cpu", bits)
        self.seconds += 2.0
        return self.guard.advice().action


def test_the_guard_slows_stops_and_lets_go_with_hysteresis() -> None:
    machine = Machine()
    course = [60, 74.9, 75, 76, 72, 71, 70.9, 75, 84, 83, 76, 71, 70.9, 60]
    said = [machine.at(celsius) for celsius in course]
    assert said == [*["run"] * 2, *["slow"] * 4, "run", "slow", *["stop"] * 4, *["run"] * 2]
    assert "60 °C" in machine.guard.advice().reason


def test_the_guard_slows_for_the_supply_and_goes_on_at_once_when_that_is_good_again() -> None:
    machine = Machine()
    assert machine.at(74, 0x50005) == "slow"
    assert "voltage" in machine.guard.advice().reason
    assert machine.at(74, 0x50000) == "run"
    assert machine.at(None) == "slow", "a sensor that falls silent is no proof of coolness"


def test_a_machine_without_a_sensor_runs_and_says_so() -> None:
    machine = Machine(None)
    assert machine.guard.advice().action == "run"
    assert "no temperature" in machine.guard.advice().reason


def test_the_sensors_are_read_no_more_often_than_asked_for() -> None:
    machine = Machine()
    for _ in range(100):
        machine.guard.advice()
    assert machine.asked == 1


@given(st.lists(st.floats(20, 120), min_size=1))
def test_above_the_limit_it_always_stops_and_when_cool_it_always_runs(course: list[float]) -> None:
    machine = Machine()
    for celsius in course:
        action = machine.at(celsius)
        assert action == "stop" if celsius >= 84 else action != "run" or celsius < 75
        assert action == "run" if celsius < 71 else True


# Trials of a runtime.


def test_a_trial_that_passed_is_remembered_and_one_that_failed_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ai_edge_litert")
    folder = bundles.build(tmp_path / "bundle")
    model = folder / manifest.load(folder).variants[0].file
    factory = "devices.runtimes.litert:LiteRTRuntime"
    trial = trials.remembered(tmp_path / "cache")
    assert trial(factory, model) is None
    monkeypatch.setattr(trials, "PROBE", "no.such.module:probe")
    assert trial(factory, model) is None
    model.write_bytes(b"no network")
    monkeypatch.undo()
    assert "not a network" in (trial(factory, model) or "")
    (tmp_path / "cache" / "runtimes-that-run.json").write_text("[1, {]")
    assert trial(factory, model) is not None


@pytest.mark.parametrize("number", [signal.SIGILL, signal.SIGSEGV])
def test_a_runtime_that_kills_its_process_is_refused_and_the_agent_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    (tmp_path / "deadly_runtime.py").write_text(
        "import os\n\n\nclass Deadly:\n"
        f"    def __init__(self, path, threads):\n        os.kill(os.getpid(), {int(number)})\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    reason = trials.remembered(tmp_path / "cache")("deadly_runtime:Deadly", tmp_path / "model")
    assert reason == f"was killed by {number.name}"

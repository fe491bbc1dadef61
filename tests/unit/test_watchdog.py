"""systemd's watchdog, spoken to as it listens: on a datagram socket. And what is installed on a device."""

from __future__ import annotations

import asyncio
import configparser
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import commands
import pytest

from edge.core.device import Advice, SensorReading, ThermalLimits
from edge.health.thermal import ThermalGuard
from edge.health.vigil import Finding, keep
from edge.health.watchdog import Watchdog


class Manager:
    """What systemd is to a service: a socket that hears its datagrams."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        found = []
        while True:
            try:
                found += self.socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return found

    def environment(self, **more: str) -> dict[str, str]:
        return {"NOTIFY_SOCKET": self.address, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid()), **more}


@pytest.fixture(params=["file", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = str(tmp_path / "notify") if request.param == "file" else f"@leuko-test-{os.getpid()}"
    made = Manager(address)
    yield made
    made.socket.close()


def test_it_says_what_systemd_understands(manager: Manager) -> None:
    dog = Watchdog(manager.environment())
    assert dog.ready("opened\nthe camera")
    assert dog.status("200 cells")
    assert dog.stopping()
    assert manager.heard() == ["READY=1", "STATUS=opened the camera", "STATUS=200 cells", "STOPPING=1"]
    assert dog.seconds == 30.0


def test_a_loop_that_turns_fast_beats_three_times_in_the_watchdog_s_time(manager: Manager) -> None:
    now = 0.0
    dog = Watchdog(manager.environment(), clock=lambda: now)
    for step in range(3000):
        now = step / 100
        dog.beat()
    assert manager.heard() == ["WATCHDOG=1"] * 3


def test_an_event_loop_beats_while_it_turns(manager: Manager) -> None:
    async def work() -> None:
        beating = asyncio.create_task(Watchdog(manager.environment(WATCHDOG_USEC="60000")).beating())
        await asyncio.sleep(0.2)
        beating.cancel()

    asyncio.run(work())
    assert set(manager.heard()) == {"WATCHDOG=1"}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"NOTIFY_SOCKET": "", "WATCHDOG_USEC": "x"},
        {"NOTIFY_SOCKET": "/no/such/socket", "WATCHDOG_USEC": "30000000"},
        {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"},
    ],
)
def test_without_a_service_manager_nothing_happens(environment: dict[str, str]) -> None:
    dog = Watchdog(environment)
    assert not dog.ready()
    assert not dog.beat()
    asyncio.run(asyncio.wait_for(Watchdog({}).beating(), 5))


def test_a_child_does_not_beat_for_its_parent(manager: Manager) -> None:
    assert Watchdog(manager.environment(WATCHDOG_PID=str(os.getppid()))).seconds is None


def test_the_page_tells_systemd_that_it_is_open_and_lives(manager: Manager, tmp_path: Path) -> None:
    pytest.importorskip("starlette")
    pytest.importorskip("uvicorn")
    program = (
        "import os, sys; os.environ['WATCHDOG_PID'] = str(os.getpid()); sys.argv = ['leuko', 'serve', '--port', '0']\n"
        "from edge.cli.main import main; main()"
    )
    environment = commands.environment(tmp_path, NOTIFY_SOCKET=manager.address, WATCHDOG_USEC="300000")
    page = subprocess.Popen(
        [sys.executable, "-c", program], env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        heard: list[str] = []
        for _ in range(600):
            heard += manager.heard()
            if heard.count("WATCHDOG=1") >= 3 or page.poll() is not None:
                break
            time.sleep(0.1)
        assert heard[:2] == ["READY=1", "STATUS=the page is open"]
        assert heard.count("WATCHDOG=1") >= 3
        page.send_signal(signal.SIGTERM)
        page.wait(30)
        assert "STOPPING=1" in manager.heard()
    finally:
        page.kill()
        page.communicate()


# The vigil.


def test_the_vigil_tells_what_changes_and_keeps_the_manager_told(tmp_path: Path, manager: Manager) -> None:
    course = iter([50.0, 51.0, 80.0, 81.0, 90.0, 60.0])
    guard = ThermalGuard(ThermalLimits(75, 84), lambda: SensorReading(next(course), "cpu"), seconds=0.0)
    told = list(keep(guard, tmp_path, Watchdog(manager.environment()), rounds=6, sleep=lambda _: None))
    assert [found.advice.action for found in told] == ["run", "slow", "stop", "run"]
    heard = manager.heard()
    assert heard[0] == "READY=1"
    assert "WATCHDOG=1" in heard
    assert any(line.startswith("STATUS=stop: cpu has 90") for line in heard)
    assert heard[-1] == "STOPPING=1"


def test_a_full_disk_and_a_weak_supply_are_trouble() -> None:
    reading = SensorReading(50.0, "cpu", 0x1)
    found = Finding(Advice("run", "cpu has 50 °C"), reading, 50_000_000)
    assert len(found.trouble) == 2
    assert "voltage" in str(found)
    assert "50 MB free" in str(found)
    assert Finding(Advice("run", "cool"), SensorReading(), 10**12).trouble == ()


# What is installed.


@pytest.fixture
def provision(root: Path) -> Path:
    return root / "devices" / "provision"


def unit(path: Path) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path)
    return parser


@pytest.mark.parametrize("name", ["leukoscope.service", "leukoscope-health.service"])
def test_the_services_are_watched_restarted_and_shut_in(provision: Path, name: str) -> None:
    service = dict(unit(provision / name)["Service"])
    assert service["Type"] == "notify"
    assert int(service["WatchdogSec"]) > 0
    assert service["Restart"] == "always"
    assert service["User"] == "leukoscope"
    for key, value in {"NoNewPrivileges": "yes", "ProtectSystem": "strict", "CapabilityBoundingSet": ""}.items():
        assert service[key] == value
    words = service["ExecStart"].split()[1:]
    assert set(words) <= {"serve", "device", "watch"}


def test_the_installer_passes_shellcheck(provision: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(["shellcheck", provision / "install.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_installer_refuses_what_it_does_not_know(provision: Path) -> None:
    done = subprocess.run([provision / "install.sh", "--frm", "x"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--frm" in done.stderr
    done = subprocess.run(
        [provision / "install.sh", "--from", "/no/where"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2


def test_the_units_pass_systemd_s_own_check(provision: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    for name in ("leukoscope.service", "leukoscope-health.service"):
        text = (provision / name).read_text().replace("/opt/leukoscope/bin/leuko", "/bin/true")
        (tmp_path / name).write_text(text)
    units = sorted(tmp_path.glob("*.service"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    assert "leukoscope" not in done.stderr, done.stderr

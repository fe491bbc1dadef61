"""Which cameras this machine has. Each kind is asked in a way that cannot take this process with it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from devices import children
from devices.cameras import v4l2
from devices.cameras.picamera2 import MISSING

_PLATFORM_DRIVERS: Final = ("bcm2835", "unicam", "rp1-cfe", "pispbe", "bcm2711", "rpi-", "tegra-video", "tegra-capture")
"""Drivers behind a Pi's or a Jetson's CSI sensor: their nodes give raw sensor data, not pictures."""


@dataclass(frozen=True, slots=True)
class Found:
    """A camera, or a kind of camera that is not usable here: `specification` opens it, `evidence` says what was seen.

    `cure` says what to do where it is not usable.
    """

    kind: str
    specification: str
    usable: bool
    evidence: str
    cure: str = ""


def cameras() -> Iterator[Found]:
    """Find all cameras: those of picamera2, of Video4Linux, of GStreamer, and the two that need no hardware."""
    yield from _picamera2()
    yield from _video4linux()
    yield from _gstreamer()
    yield Found("simulated", "simulated:seed=7,fields=40", True, "a rendered slide, no hardware")
    yield Found("replay", "replay:PATH", True, "a folder, a picture or a video that was recorded")


def _video4linux() -> Iterator[Found]:
    found = False
    for device in v4l2.devices():
        if device.driver.startswith(_PLATFORM_DRIVERS):
            continue
        found = True
        yield Found("uvc", f"uvc:{device.path}", True, f"{device.card} ({device.driver}, {device.bus})")
    if not found:
        cure = 'Plug a USB camera in; if one is: sudo usermod -aG video "$USER", then log in again.'
        yield Found("uvc", "uvc", False, "no Video4Linux device that this user may open", cure)


def _picamera2(timeout: float = 30.0) -> Iterator[Found]:
    """Ask picamera2 in a child process: libcamera ends the process where it is broken, and logs to everywhere."""
    program = (
        "import json, os, sys\n"
        "out = os.dup(1)\nos.dup2(2, 1)\n"
        "from picamera2 import Picamera2\n"
        "os.write(out, json.dumps([str(each.get('Model')) for each in Picamera2.global_camera_info()]).encode())\n"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=children.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except (subprocess.TimeoutExpired, OSError) as error:
        yield Found("picamera2", "picamera2", False, f"gave no answer: {error}", MISSING)
        return
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
        how = f"was killed by {children.signal_name(-done.returncode)}" if done.returncode < 0 else last[0]
        yield Found("picamera2", "picamera2", False, how, MISSING)
        return
    models = json.loads(done.stdout)
    for number, model in enumerate(models):
        yield Found("picamera2", f"picamera2:{number}", True, model)
    if not models:
        cure = "Check the ribbon cable with the power off; `rpicam-hello --list-cameras` must name the camera."
        yield Found("picamera2", "picamera2", False, "picamera2 works, but sees no camera", cure)


def _gstreamer(timeout: float = 30.0) -> Iterator[Found]:
    if shutil.which("gst-launch-1.0") is None:
        cure = "Run: sudo apt-get install gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good"
        yield Found("gstreamer", "gstreamer", False, "gst-launch-1.0 is not installed", cure)
        return
    yield Found("gstreamer", "gstreamer:test", True, "GStreamer's test picture")
    if shutil.which("gst-inspect-1.0") is None:
        return
    try:
        done = subprocess.run(
            ["gst-inspect-1.0", "--exists", "nvarguscamerasrc"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except (subprocess.TimeoutExpired, OSError):
        return
    if done.returncode == 0:
        yield Found("gstreamer", "gstreamer:csi", True, "a Jetson's CSI sensor (nvarguscamerasrc)")

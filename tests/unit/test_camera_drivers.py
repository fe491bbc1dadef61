"""The drivers of cameras: what they are told, what they make of it, and what they say when it cannot be."""

from __future__ import annotations

import shutil
import struct
import subprocess
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from devices.cameras import discovery, specification, v4l2
from devices.cameras.gstreamer import GStreamerCamera
from devices.cameras.picamera2 import Picamera2Camera
from devices.cameras.uvc import UvcCamera
from edge import app, config
from edge.core.errors import CameraError, CameraLostError, MissingExtraError, UsageError

# Specifications.


@pytest.mark.parametrize(
    ("read", "text", "word"),
    [
        (UvcCamera.from_spec, "uvc:/dev/video0,widht=3", "widht"),
        (UvcCamera.from_spec, "uvc:/dev/video0,width=3", "width"),
        (UvcCamera.from_spec, "uvc:/dev/video0,format=JPEG2", "four letters"),
        (UvcCamera.from_spec, "uvc:/dev/video0,/dev/video1", "/dev/video1"),
        (UvcCamera.from_spec, "uvcx", "uvcx"),
        (GStreamerCamera.from_spec, "gstreamer:usb", "csi, test"),
        (GStreamerCamera.from_spec, "gstreamer:test,pattern=ball ! filesink", "not a word"),
        (GStreamerCamera.from_spec, "gstreamer:test,width=x", "width"),
        (Picamera2Camera.from_spec, "picamera2:99", "number"),
        (Picamera2Camera.from_spec, "picamera2:0,exposure=0", "exposure"),
    ],
)
def test_what_cannot_be_is_refused_before_hardware_is_touched(read: Any, text: str, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        read(text)


def test_a_pipeline_keeps_its_commas_and_equal_signs() -> None:
    pipeline = "v4l2src device=/dev/video9 ! image/jpeg,width=1280 ! jpegdec"
    camera = GStreamerCamera.from_spec(f"gstreamer:frames=3,pipeline={pipeline}")
    assert " ".join(camera.pipeline()).startswith(pipeline)
    settings = specification.parse("a:b,c=1", "a", {"first": str, "c": int}, first="first")
    assert settings == {"first": "b", "c": 1}


def test_cameras_are_found_by_kind_path_and_profile(tmp_path: Path) -> None:
    settings = config.load(environment={"LEUKO_DATA_FOLDER": str(tmp_path), "LEUKO_PROFILE": "raspberry_pi_5"})
    assert app.camera("", settings).name == "picamera2"
    assert app.camera("uvc:/dev/video7,width=640", settings).name == "uvc:/dev/video7"
    assert type(app.camera(str(tmp_path), settings)).__name__ == "ReplayCamera"
    with pytest.raises(UsageError, match="no camera 'webcam'"):
        app.camera("webcam", settings)


# Video4Linux.


def test_a_camera_that_is_not_there_and_a_file_that_is_no_camera_are_named(tmp_path: Path) -> None:
    with pytest.raises(CameraError) as missing, UvcCamera(str(tmp_path / "video0")):
        pass
    assert missing.value.code == "camera-missing"
    (tmp_path / "video1").touch()
    with pytest.raises(CameraError) as none, UvcCamera(str(tmp_path / "video1")):
        pass
    assert none.value.code == "camera-unusable"
    assert list(v4l2.devices(tmp_path)) == []


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[int, list[int]]:
    """A kernel with one camera whose controls are [value, minimum, maximum]; answers ioctls in the kernel's layout."""
    controls = {
        v4l2.EXPOSURE_AUTO: [1, 0, 3],
        v4l2.EXPOSURE_ABSOLUTE: [157, 1, 5000],
        v4l2.AUTO_WHITE_BALANCE: [0, 0, 1],
        v4l2.WHITE_BALANCE_TEMPERATURE: [4600, 2800, 6500],
    }

    def ioctl(_file: int, request: int, buffer: bytearray) -> int:
        if request == 0x80685600:
            buffer[:] = struct.pack("16s32s32sIII12x", b"uvcvideo", b"Microscope", b"usb-1", 0x60000, 0x84A00001, 1)
            return 0
        (number,) = struct.unpack_from("I", buffer)
        if number not in controls:
            raise OSError(22, "Invalid argument")
        value, low, high = controls[number]
        if request == 0xC0445624:
            buffer[:] = struct.pack("II32siiiiI8x", number, 1, b"control", low, high, 1, low, 0)
        elif request == 0xC008561B:
            buffer[:] = struct.pack("Ii", number, value)
        else:
            (controls[number][0],) = struct.unpack_from("i", buffer, 4)
        return 0

    monkeypatch.setattr(v4l2.fcntl, "ioctl", ioctl)
    (tmp_path / "video0").touch()
    return controls


def test_controls_are_read_set_and_kept_within_their_limits(kernel: dict[int, list[int]], tmp_path: Path) -> None:
    assert [device.card for device in v4l2.devices(tmp_path)] == ["Microscope"]
    with v4l2.opened(str(tmp_path / "video0")) as controls:
        exposure = controls.query(v4l2.EXPOSURE_ABSOLUTE)
        assert exposure is not None
        assert (exposure.minimum, exposure.maximum) == (1, 5000)
        assert controls.set(exposure, 200) == controls.get(v4l2.EXPOSURE_ABSOLUTE) == 200
        assert controls.query(v4l2.FOCUS_AUTO) is None
        with pytest.raises(CameraError, match="from 1 to 5000"):
            controls.set(exposure, 9999)


def test_automatics_find_their_values_and_are_then_switched_off(kernel: dict[int, list[int]], tmp_path: Path) -> None:
    camera = UvcCamera(str(tmp_path / "video0"), white_balance=5200)
    with v4l2.opened(str(tmp_path / "video0")) as controls:
        camera._automatics(controls, on=True)
        assert kernel[v4l2.EXPOSURE_AUTO][0] == v4l2.EXPOSURE_APERTURE_PRIORITY
        assert kernel[v4l2.AUTO_WHITE_BALANCE][0] == 0, "a value that was given needs no automatic"
        kernel[v4l2.EXPOSURE_ABSOLUTE][0] = 312  # what the camera finds meanwhile
        assert camera._automatics(controls, on=False) == {"exposure": 312, "white_balance": 5200}
    assert kernel[v4l2.EXPOSURE_AUTO][0] == v4l2.EXPOSURE_MANUAL
    assert kernel[v4l2.WHITE_BALANCE_TEMPERATURE][0] == 5200


def test_a_control_that_the_camera_lacks_cannot_be_asked_for(kernel: dict[int, list[int]], tmp_path: Path) -> None:
    camera = UvcCamera(str(tmp_path / "video0"), focus=10)
    with v4l2.opened(str(tmp_path / "video0")) as controls, pytest.raises(CameraError, match="no control of focus"):
        camera._automatics(controls, on=True)


class Capture:
    """Stands in for OpenCV's capture of a Video4Linux device that has one size and one pixel format."""

    size, code, opens, gives_until = (640, 480), "MJPG", True, 10**9

    def __init__(self, _device: str, _backend: int) -> None:
        self.released, self.given = False, 0

    def isOpened(self) -> bool:
        return self.opens

    def set(self, _key: int, _value: float) -> bool:
        return False

    def get(self, key: int) -> float:
        return {3: self.size[0], 4: self.size[1], 6: int.from_bytes(self.code.encode(), "little")}[key]

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.given += 1
        if self.given > self.gives_until:
            return False, None
        return True, np.full((480, 640, 3), self.given % 200 + 20, np.uint8)

    def release(self) -> None:
        self.released = True


@pytest.fixture
def capture(monkeypatch: pytest.MonkeyPatch, kernel: dict[int, list[int]]) -> type[Capture]:
    import cv2

    made = type("Made", (Capture,), {})
    monkeypatch.setattr(cv2, "VideoCapture", made)
    return made


def test_a_usb_microscope_settles_freezes_and_streams(
    capture: type[Capture], kernel: dict[int, list[int]], tmp_path: Path
) -> None:
    with UvcCamera.from_spec(f"uvc:{tmp_path}/video0,width=640,height=480,format=MJPG,exposure=200,frames=4") as camera:
        assert camera.frozen == {"exposure": 200, "white_balance": 4600}
        seen = list(camera.frames())
    assert [frame.exposure_milliseconds for frame in seen] == [20.0] * 4
    assert kernel[v4l2.AUTO_WHITE_BALANCE][0] == 0
    assert kernel[v4l2.EXPOSURE_AUTO][0] == v4l2.EXPOSURE_MANUAL


@pytest.mark.parametrize(
    ("settings", "traits", "code"),
    [
        ("width=1280,height=720", {}, "camera-format"),
        ("format=YUYV", {}, "camera-format"),
        ("settle=3", {"opens": False}, "camera-busy"),
        ("settle=3", {"gives_until": 2}, "camera-vanished"),
        ("settle=3", {"gives_until": 9}, "camera-vanished"),
        ("white_balance=9000", {}, "camera-control"),
    ],
)
def test_a_usb_microscope_that_is_not_what_was_asked_for_is_named(
    capture: type[Capture], tmp_path: Path, settings: str, traits: dict[str, Any], code: str
) -> None:
    for name, value in traits.items():
        setattr(capture, name, value)
    camera = UvcCamera.from_spec(f"uvc:{tmp_path}/video0,{settings}")
    with pytest.raises(CameraError) as refused, camera:
        list(camera.frames())
    assert refused.value.code == code
    assert refused.value.cure


def test_a_camera_that_makes_something_else_of_a_setting_is_refused(
    capture: type[Capture], kernel: dict[int, list[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_control = v4l2.Controls.set

    def stubborn(self: v4l2.Controls, control: v4l2.Control, value: int) -> int:
        return 5000 if control.id == v4l2.EXPOSURE_ABSOLUTE else set_control(self, control, value)

    monkeypatch.setattr(v4l2.Controls, "set", stubborn)
    with pytest.raises(CameraError, match="made 5000 of it"), UvcCamera(str(tmp_path / "video0"), exposure=200):
        pass


# GStreamer.

gstreamer = pytest.mark.skipif(shutil.which("gst-launch-1.0") is None, reason="gstreamer1.0-tools is not installed")


@gstreamer
def test_rows_that_are_padded_arrive_without_their_padding() -> None:
    with GStreamerCamera.from_spec("gstreamer:test,width=161,height=99,pattern=red,frames=2") as camera:
        seen = list(camera.frames())
    assert len(seen) == 2
    image = seen[0].image
    assert image.shape == (99, 161, 3)
    assert np.unique(image.reshape(-1, 3), axis=0).shape[0] == 1
    assert image[0, 0, 2] > 200 > image[0, 0, 0]


@gstreamer
@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ("gstreamer:pipeline=videotestsrc ! no-such-element", "camera-unusable"),
        ("gstreamer:file=no/such/file.avi", "camera-unusable"),
        ("gstreamer:width=640,height=480,pipeline=videotestsrc ! video/x-raw,width=320,height=240", "camera-format"),
    ],
)
def test_a_pipeline_that_cannot_be_is_named(spec: str, code: str) -> None:
    with pytest.raises(CameraError) as refused, GStreamerCamera.from_spec(spec) as camera:
        list(camera.frames())
    assert refused.value.code.startswith(code)
    assert refused.value.cure


@gstreamer
def test_a_camera_that_freezes_or_whose_pipeline_dies_is_lost() -> None:
    slow = "gstreamer:deadline=1,pipeline=videotestsrc ! identity sleep-time=30000000"
    with GStreamerCamera.from_spec(slow) as camera, pytest.raises(CameraLostError) as frozen:
        list(camera.frames())
    assert frozen.value.code == "camera-frozen"
    with GStreamerCamera.from_spec("gstreamer:test,width=160,height=120") as camera:
        frames = camera.frames()
        next(frames)
        assert camera._process is not None
        camera._process.kill()
        with pytest.raises(CameraLostError) as vanished:
            list(islice(frames, 1000))
    assert vanished.value.code == "camera-vanished"


@gstreamer
def test_a_recorded_file_ends_and_every_frame_of_it_comes(tmp_path: Path) -> None:
    path = tmp_path / "a name with spaces.avi"
    elements = ["videotestsrc", "num-buffers=17", "!", "jpegenc", "!", "avimux", "!", "filesink", f"location={path}"]
    subprocess.run(["gst-launch-1.0", "-q", *elements], check=True)
    with app.camera(f"gstreamer:file={path}", config.load(environment={})) as camera:
        assert len(list(camera.frames())) == 17


def test_without_the_tool_the_cure_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingExtraError, match="apt-get install") as missing, GStreamerCamera("test"):
        pass
    assert missing.value.code == "gstreamer-missing"


def test_a_jetson_s_sensor_is_told_everything_before_it_starts() -> None:
    words = GStreamerCamera.from_spec("gstreamer:csi,width=1920,height=1080,exposure=5,gain=2").pipeline()
    assert {"exposuretimerange=5000000 5000000", "gainrange=2 2", "aelock=true"} <= set(words)
    assert any(word.startswith("video/x-raw(memory:NVMM)") and "width=1920" in word for word in words)


def test_every_kind_is_listed_and_what_is_not_usable_has_its_cure() -> None:
    found = list(discovery.cameras())
    assert {"picamera2", "uvc", "gstreamer", "simulated", "replay"} == {each.kind for each in found}
    assert all(each.evidence and bool(each.cure) != each.usable for each in found)

"""The drivers of cameras: what they are told, what they make of it, and what they say when it cannot be.

picamera2 exists on a Raspberry Pi alone; a stand-in for its class behaves as its manual says, so that the order of
calls, the freezing and the giving back of requests are tested everywhere. On a machine with a camera the contract suite
drives the real one.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from devices.cameras import discovery, specification, v4l2
from devices.cameras.gstreamer import GStreamerCamera
from devices.cameras.picamera2 import Picamera2Camera, preview_size
from devices.cameras.uvc import UvcCamera
from edge import app, config
from edge.core.errors import CameraError, CameraLostError, LeukoError, MissingExtraError, UsageError

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


# The Pi camera.


class Request:
    """A captured request; holds one of the camera's few buffers until it is released."""

    def __init__(self, camera: Sensor) -> None:
        self.camera = camera
        camera.held += 1
        assert camera.held <= camera.configuration["buffer_count"], "a request was not given back"

    def get_metadata(self) -> dict[str, Any]:
        return dict(self.camera.metadata)

    def make_array(self, stream: str) -> np.ndarray:
        width, height = self.camera.configuration[stream]["size"]
        if stream == "lores":
            return np.full((height * 3 // 2, width), 128, np.uint8)
        return np.full((height + self.camera.padding, width + self.camera.padding, 3), 90, np.uint8)

    def release(self) -> None:
        self.camera.held -= 1


class Sensor:
    """Stands in for the class Picamera2: automatics that creep to their goal, controls that follow frames later."""

    def __init__(self, number: int, *, holds: bool = True, freezes_at: int = 10**9, padding: int = 0) -> None:
        self.holds, self.freezes_at, self.padding = holds, freezes_at, padding
        self.held = self.captured = 0
        self.started = self.closed = False
        self.configuration: dict[str, Any] = {}
        self.metadata: dict[str, Any] = {"ExposureTime": 100, "AnalogueGain": 1.0, "ColourGains": (1.0, 1.0)}
        self.automatic, self.balancing = True, True
        self.camera_controls = dict.fromkeys([*self.metadata, "AeEnable", "AwbEnable"], (0, 1, 0))
        self.pending: list[tuple[int, dict[str, Any]]] = []

    def create_still_configuration(self, **settings: Any) -> dict[str, Any]:
        assert settings["main"]["format"] == "RGB888"
        return settings

    def configure(self, configuration: dict[str, Any]) -> None:
        if configuration["main"]["size"][0] > 4056:
            raise RuntimeError("bad camera configuration")
        self.configuration = configuration

    def start(self) -> None:
        self.started = True

    def stop(self) -> None:
        self.started = False

    def close(self) -> None:
        self.closed = True

    def set_controls(self, controls: dict[str, Any]) -> None:
        assert set(controls) <= set(self.camera_controls), "a control that the camera does not advertise"
        self.automatic = controls.get("AeEnable", self.automatic)
        self.balancing = controls.get("AwbEnable", self.balancing)
        if self.holds:
            values = {key: value for key, value in controls.items() if key in self.metadata}
            self.pending.append((self.captured + 3, values))

    def capture_request(self, wait: float) -> Request:
        assert self.started
        self.captured += 1
        if self.captured > self.freezes_at:
            raise TimeoutError
        if self.automatic:
            self.metadata["ExposureTime"] += round((8000 - self.metadata["ExposureTime"]) / 2)
        if self.balancing:
            red, blue = self.metadata["ColourGains"]
            self.metadata["ColourGains"] = (red + (2.1 - red) / 2, blue + (1.6 - blue) / 2)
        for at, values in self.pending:
            if self.captured >= at:
                self.metadata.update(values)
        if not self.holds and not self.automatic:
            self.metadata["ExposureTime"] = 33000
        return Request(self)


def pi(sensor: Sensor, **settings: Any) -> Picamera2Camera:
    return Picamera2Camera(make=lambda _number: sensor, width=1280, height=960, **settings)


def test_the_pi_camera_settles_freezes_and_gives_every_request_back() -> None:
    sensor = Sensor(0)
    with pi(sensor, frames=40) as camera:
        assert camera.frozen["ExposureTime"] == pytest.approx(8000, rel=0.05)
        assert camera.frozen["ColourGains"] == pytest.approx((2.1, 1.6), rel=0.05)
        assert not sensor.automatic
        assert not sensor.balancing
        seen = list(camera.frames())
        assert sensor.held == 0
    assert len(seen) == 40
    assert {frame.image.shape for frame in seen} == {(960, 1280, 3)}
    assert {frame.preview.shape for frame in seen} == {(480, 640, 3)}
    assert len({frame.exposure_milliseconds for frame in seen}) == 1
    assert sensor.closed
    assert not sensor.started


def test_what_is_given_is_used_and_not_looked_for() -> None:
    sensor = Sensor(0)
    with pi(sensor, exposure=5000, gain=2.0, red=1.5, blue=1.4, frames=1, settle_seconds=1) as camera:
        assert camera.frozen == {"ExposureTime": 5000, "AnalogueGain": 2.0, "ColourGains": (1.5, 1.4)}
        assert next(camera.frames()).exposure_milliseconds == pytest.approx(5.0, rel=0.05)


def test_a_camera_without_controls_is_used_as_it_is_and_cannot_be_told() -> None:
    sensor = Sensor(0)
    sensor.camera_controls = {}
    with pi(sensor, frames=1) as camera:
        assert camera.frozen == {}
        assert len(list(camera.frames())) == 1
    with pytest.raises(CameraError, match="no control ExposureTime"), pi(sensor, exposure=5000):
        pass


def test_a_sensor_that_does_not_hold_is_refused_and_closed() -> None:
    sensor = Sensor(0, holds=False)
    with pytest.raises(CameraError, match="ExposureTime") as refused, pi(sensor):
        pass
    assert refused.value.code == "camera-control"
    assert sensor.closed
    assert sensor.held == 0


def test_a_pi_camera_that_freezes_is_lost_and_closed() -> None:
    sensor = Sensor(0, freezes_at=60)
    with pi(sensor) as camera, pytest.raises(CameraLostError) as lost:
        list(camera.frames())
    assert lost.value.code == "camera-frozen"
    assert sensor.closed


def test_a_size_that_the_sensor_lacks_and_a_camera_that_is_absent_are_named() -> None:
    sensor = Sensor(0)
    with pytest.raises(CameraError) as size, Picamera2Camera(make=lambda _: sensor, width=8000, height=6000):
        pass
    assert size.value.code == "camera-format"
    assert sensor.closed

    def none(_number: int) -> Any:
        raise IndexError("list index out of range")

    with pytest.raises(CameraError) as absent, Picamera2Camera(3, make=none):
        pass
    assert absent.value.code == "camera-missing"


def test_rows_that_are_padded_are_cut() -> None:
    with pi(Sensor(0, padding=32), frames=1) as camera:
        assert next(camera.frames()).image.shape == (960, 1280, 3)


def test_the_preview_has_the_picture_s_shape_and_an_aligned_width() -> None:
    assert preview_size(1440, 1080, 640) == (640, 480)
    assert preview_size(2028, 1520, 700) == (640, 480)
    assert preview_size(100, 100, 640) == (64, 64)


def test_without_picamera2_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(LeukoError, match="system-site-packages") as missing, Picamera2Camera():
        pass
    assert missing.value.code == "picamera2-missing"


def test_every_kind_is_listed_and_what_is_not_usable_has_its_cure() -> None:
    found = list(discovery.cameras())
    assert {"picamera2", "uvc", "gstreamer", "simulated", "replay"} == {each.kind for each in found}
    assert all(each.evidence and bool(each.cure) != each.usable for each in found)

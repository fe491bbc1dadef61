"""The Pi camera's driver.

picamera2 exists on a Raspberry Pi alone; a stand-in for its class behaves as its manual says, so that the order of
calls, the freezing and the giving back of requests are tested everywhere. On a machine with a camera the contract suite
drives the real one.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from devices.cameras.picamera2 import Picamera2Camera, preview_size
from edge.core.errors import CameraError, CameraLostError, LeukoError


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

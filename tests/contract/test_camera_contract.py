"""What every camera must do, whatever is behind it. A new camera joins by one entry in CAMERAS."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
import pytest

from devices.cameras import discovery, v4l2
from devices.cameras.simulated import Faults, SimulatedCamera
from edge.core.errors import CameraError, CameraLostError
from edge.core.protocols import CameraSource
from edge.core.types import ClockReading, FieldFailure, Frame

FIELDS = 3
GUARD_SECONDS = 60.0
"""After this a frame counts as never coming: two orders of magnitude beyond any deadline used here."""

Maker = Callable[[Path], CameraSource]


def simulated(folder: Path) -> CameraSource:
    return SimulatedCamera(5, width=160, height=120, fields=FIELDS)


def simulated_with_damaged_frame(folder: Path) -> CameraSource:
    return SimulatedCamera(5, width=160, height=120, fields=FIELDS, faults=Faults(unreadable=frozenset({1})))


def replay(folder: Path) -> CameraSource:
    from devices.cameras.replay import ReplayCamera

    for number in range(FIELDS):
        picture = np.full((120, 160, 3), 40 * number + 50, dtype=np.uint8)
        assert cv2.imwrite(str(folder / f"field{number}.png"), picture)
    return ReplayCamera(folder)


def replay_with_damaged_frame(folder: Path) -> CameraSource:
    camera = replay(folder)
    (folder / "field1.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    return camera


CAMERAS: list[Maker] = [simulated, simulated_with_damaged_frame]
if importlib.util.find_spec("devices.cameras.replay") is not None:
    CAMERAS += [replay, replay_with_damaged_frame]


def process(folder: Path) -> CameraSource:
    """A camera in a process of its own, its frames handed over in shared memory."""
    from devices.cameras.process import ProcessCamera

    factory = "devices.cameras.simulated:SimulatedCamera.from_spec"
    return ProcessCamera(factory, f"simulated:seed=5,width=160,height=120,fields={FIELDS}", live=False)


def gstreamer_test_picture(folder: Path) -> CameraSource:
    from devices.cameras.gstreamer import GStreamerCamera

    return GStreamerCamera.from_spec(f"gstreamer:test,width=160,height=120,frames={FIELDS}")


def gstreamer_file(folder: Path) -> CameraSource:
    from devices.cameras.gstreamer import GStreamerCamera

    path = folder / "recorded.avi"
    recording = f"videotestsrc num-buffers={FIELDS} pattern=ball ! video/x-raw,width=160,height=120 ! jpegenc ! avimux"
    command = ["gst-launch-1.0", "-q", *recording.split(), "!", "filesink", f"location={path}"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return GStreamerCamera.from_spec(f"gstreamer:file={path}")


def gstreamer_supervised(folder: Path) -> CameraSource:
    from devices.cameras.hardware import gstreamer

    return gstreamer(f"gstreamer:test,width=160,height=120,pattern=snow,frames={FIELDS}")


def uvc(folder: Path) -> CameraSource:
    """The first Video4Linux camera of this machine, as a user gets it."""
    from devices.cameras.hardware import uvc as camera

    return camera(f"uvc:{VIDEO_DEVICES[0].path},settle=5,frames={FIELDS}")


def picamera2(folder: Path) -> CameraSource:
    """The first camera that libcamera sees, as a user gets it."""
    from devices.cameras.hardware import picamera2 as camera

    return camera(f"picamera2:0,width=1280,height=720,settle=1,frames={FIELDS}")


CAMERAS.append(process)
if shutil.which("gst-launch-1.0"):
    CAMERAS += [gstreamer_test_picture, gstreamer_file, gstreamer_supervised]
VIDEO_DEVICES = list(v4l2.devices())
if VIDEO_DEVICES:
    CAMERAS.append(uvc)
if importlib.util.find_spec("picamera2") is not None and any(
    found.kind == "picamera2" and found.usable for found in discovery.cameras()
):
    CAMERAS.append(picamera2)

LIVE: list[Maker] = [gstreamer_test_picture, gstreamer_supervised, uvc, picamera2]
"""What these see differs each time, as a camera's view does."""
HARDWARE: list[Maker] = [uvc, picamera2]
"""The size of their pictures is their own."""


@pytest.fixture(params=CAMERAS, ids=lambda maker: maker.__name__)
def maker(request: pytest.FixtureRequest) -> Maker:
    found: Maker = request.param
    return found


@pytest.fixture
def make(maker: Maker, tmp_path: Path) -> Callable[[], CameraSource]:
    return lambda: maker(tmp_path)


def test_it_is_a_camera_source(make: Callable[[], CameraSource]) -> None:
    assert isinstance(make(), CameraSource)


def test_it_gives_nothing_outside_its_with_block(make: Callable[[], CameraSource]) -> None:
    camera = make()
    with pytest.raises(CameraError) as closed:
        next(iter(camera.frames()))
    assert closed.value.code == "camera-closed"
    assert closed.value.cure
    with camera:
        pass
    with pytest.raises(CameraError):
        next(iter(camera.frames()))


def test_a_with_block_gives_the_camera_itself_and_lets_errors_through(make: Callable[[], CameraSource]) -> None:
    camera = make()
    with pytest.raises(KeyError, match="mine"), camera as entered:
        assert entered is camera
        raise KeyError("mine")


def test_frames_are_colour_pictures_that_say_when_and_whence(make: Callable[[], CameraSource], maker: Maker) -> None:
    with make() as camera:
        seen = list(camera.frames())
    assert len(seen) == FIELDS
    assert len({item.source for item in seen}) == FIELDS
    frames = [item for item in seen if isinstance(item, Frame)]
    assert frames
    for frame in frames:
        assert frame.image.dtype == np.uint8
        assert frame.image.ndim == 3
        assert frame.image.shape[2] == 3
        if maker not in HARDWARE:
            assert frame.image.shape == (120, 160, 3)
        assert frame.image.shape == frames[0].image.shape
        assert frame.image.flags.c_contiguous
        assert isinstance(frame.taken, ClockReading)
        assert datetime.fromisoformat(frame.taken.wall.replace("Z", "+00:00")).tzinfo is not None
    moments = [frame.taken.monotonic for frame in frames]
    assert moments == sorted(moments)


def test_a_damaged_frame_is_reported_and_the_next_one_still_comes(make: Callable[[], CameraSource]) -> None:
    with make() as camera:
        seen = list(camera.frames())
    failures = [item for item in seen if isinstance(item, FieldFailure)]
    assert all(failure.code and failure.message for failure in failures)
    assert isinstance(seen[-1], Frame)
    assert len(seen) == FIELDS


def test_it_can_be_opened_again_and_shows_the_same(make: Callable[[], CameraSource], maker: Maker) -> None:
    camera = make()
    runs: list[list[np.ndarray | None]] = []
    for _ in range(2):
        with camera:
            runs.append([item.image if isinstance(item, Frame) else None for item in camera.frames()])
    assert len(runs[0]) == len(runs[1]) == FIELDS
    if maker in LIVE:
        return
    for first, second in zip(*runs, strict=True):
        np.testing.assert_array_equal(first, second)


def test_frames_do_not_share_their_pixels(make: Callable[[], CameraSource]) -> None:
    with make() as camera:
        first, *rest = [item.image for item in camera.frames() if isinstance(item, Frame)]
    before = [image.copy() for image in rest]
    first[...] = 0
    assert all(np.array_equal(image, kept) for image, kept in zip(rest, before, strict=True))


def frozen_simulated(folder: Path) -> CameraSource:
    return SimulatedCamera(5, width=64, height=64, fields=None, faults=Faults(frozen_at=1), deadline_seconds=0.2)


def vanished_simulated(folder: Path) -> CameraSource:
    return SimulatedCamera(5, width=64, height=64, fields=None, faults=Faults(lost_at=1))


def frozen_replay(folder: Path) -> CameraSource:
    from devices.cameras.replay import ReplayCamera

    def read(path: Path) -> np.ndarray:
        if path.name == "b.png":
            threading.Event().wait(2.0)
        return np.zeros((8, 8, 3), dtype=np.uint8)

    for name in ("a.png", "b.png"):
        assert cv2.imwrite(str(folder / name), np.zeros((8, 8, 3), dtype=np.uint8))
    return ReplayCamera(folder, deadline_seconds=0.2, read=read)


LOST: list[Maker] = [frozen_simulated, vanished_simulated]
if importlib.util.find_spec("devices.cameras.replay") is not None:
    LOST.append(frozen_replay)


@pytest.mark.parametrize("maker", LOST, ids=lambda maker: maker.__name__)
def test_a_camera_that_stops_delivering_is_lost_and_never_blocks(maker: Maker, tmp_path: Path) -> None:
    outcome: list[object] = []

    def watch() -> None:
        with maker(tmp_path) as camera:
            try:
                for frame in camera.frames():
                    outcome.append(frame)
            except CameraLostError as error:
                outcome.append(error)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    watcher.join(GUARD_SECONDS)
    assert not watcher.is_alive()
    frame, error = outcome
    assert isinstance(frame, Frame)
    assert isinstance(error, CameraLostError)
    assert error.cure
    assert error.exit_code == 3

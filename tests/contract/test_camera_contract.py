"""What every camera must do, whatever is behind it. A new camera joins by one entry in CAMERAS."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
import pytest

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


@pytest.fixture(params=CAMERAS, ids=lambda maker: maker.__name__)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], CameraSource]:
    return lambda: request.param(tmp_path)


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


def test_frames_are_colour_pictures_that_say_when_and_whence(make: Callable[[], CameraSource]) -> None:
    with make() as camera:
        seen = list(camera.frames())
    assert len(seen) == FIELDS
    assert len({item.source for item in seen}) == FIELDS
    frames = [item for item in seen if isinstance(item, Frame)]
    assert frames
    for frame in frames:
        assert frame.image.dtype == np.uint8
        assert frame.image.shape == (120, 160, 3)
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


def test_it_can_be_opened_again_and_shows_the_same(make: Callable[[], CameraSource]) -> None:
    camera = make()
    runs = []
    for _ in range(2):
        with camera:
            runs.append([item.image if isinstance(item, Frame) else None for item in camera.frames()])
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

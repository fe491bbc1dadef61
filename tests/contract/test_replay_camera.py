"""The replay camera keeps the contract of a camera: everything in order, nothing hidden, never a wait without end."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from devices.cameras.replay import ReplayCamera
from edge.core.errors import CameraError, CameraLostError
from edge.core.protocols import CameraSource
from edge.core.types import FieldFailure, Frame, Image

READ = "read"


def field(value: int) -> Image:
    """A grey picture, with a coloured corner that shows the order of colours."""
    picture = np.full((48, 64, 3), value, np.uint8)
    picture[:8, :8] = (250, 10, 120)
    return picture


def save(path: Path, value: int) -> None:
    assert cv2.imwrite(str(path), field(value))


def film(path: Path, frames: int, codec: str) -> None:
    """A video whose frames get brighter by eight grey levels each."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), 10, (64, 48))
    assert writer.isOpened()
    for index in range(frames):
        writer.write(np.full((48, 64, 3), 20 + 8 * index, np.uint8))
    writer.release()


def played(source: Path | str) -> list[Frame | FieldFailure]:
    with ReplayCamera(source) as camera:
        return list(camera.frames())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in (10, 2, 1):
        save(tmp_path / f"field {number}.png", number * 10)
    return tmp_path


def test_it_is_a_camera(folder: Path) -> None:
    assert isinstance(ReplayCamera(folder), CameraSource)


def test_a_folder_is_played_in_natural_order(folder: Path) -> None:
    frames = played(folder)
    assert [frame.source for frame in frames] == [str(folder / f"field {number}.png") for number in (1, 2, 10)]
    for frame, value in zip(frames, (10, 20, 100), strict=True):
        assert isinstance(frame, Frame)
        assert np.array_equal(frame.image, field(value))
        assert frame.taken.boot_id


def test_it_plays_the_same_again(folder: Path) -> None:
    with ReplayCamera(folder) as camera:
        twice = [list(camera.frames()) for _ in range(2)]
    assert [frame.source for frame in twice[0]] == [frame.source for frame in twice[1]]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(*twice, strict=True))


def test_a_pattern_and_a_single_picture(folder: Path) -> None:
    assert [Path(frame.source).name for frame in played(folder / "field 1*")] == ["field 1.png", "field 10.png"]
    assert [Path(frame.source).name for frame in played(folder / "field 2.png")] == ["field 2.png"]


def test_a_bad_file_is_a_failure_in_its_place(folder: Path) -> None:
    (folder / "field 3.png").write_bytes((folder / "field 2.png").read_bytes()[:60])
    (folder / "field 4.png").symlink_to("nowhere")
    os.mkfifo(folder / "field 5.png")
    frames = played(folder)
    assert [frame.code if isinstance(frame, FieldFailure) else READ for frame in frames] == [
        READ,
        READ,
        "truncated",
        "broken-link",
        "not-a-file",
        READ,
    ]
    assert frames[2].source == str(folder / "field 3.png")


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda path: None, "not-found"),
        (lambda path: path.mkdir(), "empty-folder"),
        (lambda path: path.symlink_to("nowhere"), "broken-link"),
        (os.mkfifo, "not-a-file"),
        (lambda path: path.write_bytes(b"\0\0\0\x18ftypisom\0\0\0\0isommp42"), "damaged"),
    ],
)
def test_a_source_that_cannot_be_opened(tmp_path: Path, make: Callable[[Path], object], code: str) -> None:
    source = tmp_path / "source.mp4"
    make(source)
    with pytest.raises(CameraError) as caught, ReplayCamera(source):
        pass
    assert caught.value.code == code
    assert caught.value.cure


def test_nothing_is_touched_before_the_with_block(tmp_path: Path) -> None:
    camera = ReplayCamera(tmp_path / "missing")
    with pytest.raises(CameraError) as caught:
        camera.frames()
    assert caught.value.code == "camera-closed"


@pytest.mark.parametrize(("name", "codec"), [("film.avi", "MJPG"), ("film.mp4", "mp4v"), ("film.mkv", "FFV1")])
def test_a_video_is_played_frame_by_frame(tmp_path: Path, name: str, codec: str) -> None:
    film(tmp_path / name, 12, codec)
    frames = played(tmp_path / name)
    assert [frame.source for frame in frames] == [f"{tmp_path / name}#{number}" for number in range(1, 13)]
    for index, frame in enumerate(frames):
        assert isinstance(frame, Frame)
        assert abs(float(frame.image.mean()) - (20 + 8 * index)) < 4


@pytest.mark.parametrize(("name", "codec"), [("film.avi", "MJPG"), ("film.mkv", "FFV1")])
def test_a_truncated_video_keeps_its_first_frames_and_says_so(tmp_path: Path, name: str, codec: str) -> None:
    whole, cut = tmp_path / name, tmp_path / f"cut {name}"
    film(whole, 30, codec)
    data = whole.read_bytes()
    cut.write_bytes(data[: len(data) * 6 // 10])
    *kept, last = played(cut)
    assert 5 <= len(kept) < 29
    for frame, original in zip(kept, played(whole), strict=False):
        assert isinstance(frame, Frame) and np.array_equal(frame.image, original.image)
    assert isinstance(last, FieldFailure) and last.code == "truncated"
    assert last.source == f"{cut}#{len(kept) + 1}"


@pytest.fixture
def stuck() -> Iterator[Callable[[Path], Image]]:
    """A disk that answers for the first picture and never again."""
    release = threading.Event()

    def read(path: Path) -> Image:
        if not path.name.startswith("field 1."):
            release.wait()
        return field(1)

    yield read
    release.set()


def test_a_disk_that_hangs_is_a_lost_camera(folder: Path, stuck: Callable[[Path], Image]) -> None:
    with ReplayCamera(folder, deadline_seconds=0.2, read=stuck) as camera:
        frames = camera.frames()
        assert isinstance(next(frames), Frame)
        with pytest.raises(CameraLostError) as caught:
            next(frames)
        assert caught.value.cure
        with pytest.raises(CameraLostError):
            next(camera.frames())


def test_a_fault_in_reading_is_not_taken_for_a_lost_disk(folder: Path) -> None:
    def broken(path: Path) -> Image:
        raise ZeroDivisionError

    with ReplayCamera(folder, read=broken) as camera, pytest.raises(ZeroDivisionError):
        next(camera.frames())


def test_leaving_the_block_leaves_no_thread(folder: Path) -> None:
    before = set(threading.enumerate())
    played(folder)
    film(folder / "film.avi", 3, "MJPG")
    played(folder / "film.avi")
    assert set(threading.enumerate()) == before

"""A camera in its own process, and its supervision: each way to go wrong is noticed, named and cured, or given up."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import psutil
import pytest

from devices.cameras.process import ProcessCamera
from devices.cameras.supervised import Policy, SupervisedCamera
from devices.cameras.watching import Watcher, is_black
from edge.core import clock
from edge.core.errors import CameraLostError, UsageError
from edge.core.types import FieldFailure, Frame

FACTORY = "faulty_cameras:FaultyCamera"
QUICK = Policy(bad_frames=3, good_frames=5, attempts=2, first_wait=0.01, longest_wait=0.02)


@pytest.fixture(autouse=True)
def the_child_finds_the_faulty_cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(Path(__file__).resolve().parents[1]), *sys.path])


def opened(kind: str, *, live: bool = True, deadline: float = 10.0) -> ProcessCamera:
    return ProcessCamera(FACTORY, kind, live=live, deadline_seconds=deadline)


def children() -> list[psutil.Process]:
    found = []
    for each in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it may end while it is looked at
            if "devices.cameras.child" in each.cmdline():
                found.append(each)
    return found


# One process.


def test_the_frames_arrive_as_they_were_made() -> None:
    with opened("sound:20", live=False) as camera:
        seen = list(camera.frames())
    assert camera.frozen == {"exposure": 100.0}
    assert [frame.source for frame in seen] == [f"faulty#{number}" for number in range(20)]
    rng = np.random.default_rng(0)
    for frame in seen:
        assert isinstance(frame, Frame)
        np.testing.assert_array_equal(frame.image, rng.integers(60, 250, (96, 128, 3)).astype(np.uint8))
        assert frame.exposure_milliseconds == 10.0
    assert camera.dropped == 0
    assert children() == []


def test_a_live_camera_drops_what_nobody_takes_and_counts_it() -> None:
    with opened("sound:100") as camera:
        frames = camera.frames()
        seen = [next(frames)]
        threading.Event().wait(0.3)
        seen += list(frames)
    numbers = [int(frame.source.partition("#")[2]) for frame in seen]
    assert numbers == sorted(set(numbers))
    # The last count is that of the last frame taken: what was dropped after it, nobody was told of any more.
    lost_before_the_last = numbers[-1] + 1 - len(numbers)
    assert camera.dropped == lost_before_the_last > 0


@pytest.mark.parametrize(
    ("kind", "code", "word"),
    [
        ("vanished", "camera-vanished", "unplugged"),
        ("SIGSEGV", "camera-vanished", "SIGSEGV"),
        ("SIGILL", "camera-vanished", "SIGILL"),
        ("SIGKILL", "camera-vanished", "SIGKILL"),
        ("raises", "camera-vanished", "a defect in a driver"),
        ("grey", "camera-format", "(96, 128)"),
        ("larger", "camera-format", "grew"),
    ],
)
def test_a_camera_that_breaks_is_named_and_the_agent_lives(kind: str, code: str, word: str) -> None:
    seen = []
    with opened(kind) as camera, pytest.raises(CameraLostError) as lost:
        seen.extend(camera.frames())
    assert lost.value.code == code
    assert word in lost.value.message
    assert lost.value.cure
    assert children() == []


@pytest.mark.parametrize("kind", ["frozen", "hangs-at-opening"])
def test_a_camera_that_hangs_is_killed_at_its_deadline(kind: str) -> None:
    camera = ProcessCamera(FACTORY, kind, deadline_seconds=0.5, opening_seconds=4.0)
    with pytest.raises(CameraLostError) as lost, camera:
        list(camera.frames())
    assert lost.value.code == "camera-frozen"
    assert children() == []


def test_a_slow_camera_is_waited_for_within_its_deadline() -> None:
    with opened("slow:5", live=False) as camera:
        assert len([frame for frame in camera.frames() if isinstance(frame, Frame)]) == 5


def test_a_camera_that_hangs_while_it_is_closed_does_not_keep_the_agent() -> None:
    with opened("hangs-at-closing") as camera:
        next(camera.frames())
    assert children() == []


def test_the_camera_s_process_ends_with_its_parent(tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "from devices.cameras.process import ProcessCamera\n"
        f"with ProcessCamera({FACTORY!r}, 'sound') as camera:\n"
        "    next(camera.frames())\n"
        "    print(camera._child.pid, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    child = int(done.stdout)
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(child).wait(20)
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


# Supervision.


def supervised(kind: str, deadline: float = 5.0) -> SupervisedCamera:
    return SupervisedCamera(lambda: opened(kind, deadline=deadline), kind, QUICK)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("frozen", "camera-frozen"),
        ("vanished", "camera-vanished"),
        ("SIGSEGV", "camera-vanished"),
        ("SIGILL", "camera-vanished"),
        ("grey", "camera-format"),
        ("smaller", "camera-format"),
        ("larger", "camera-format"),
        ("black", "camera-black"),
        ("repeats", "camera-repeats"),
    ],
)
def test_a_fault_is_named_the_camera_opened_again_and_the_pictures_go_on(
    kind: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULTY_ONCE", str(tmp_path / "was-faulty"))
    with supervised(kind, deadline=1.0 if kind == "frozen" else 10.0) as camera:
        seen = list(islice(camera.frames(), 12))
        assert camera.reopened == 1
    failures = [item for item in seen if isinstance(item, FieldFailure)]
    assert {failure.code for failure in failures} == {code}
    assert isinstance(seen[0], Frame)
    assert isinstance(seen[-1], Frame)
    for frame in seen:
        if isinstance(frame, Frame):
            assert frame.image.shape == (96, 128, 3)
            assert not is_black(frame.image)
    assert children() == []


@pytest.mark.parametrize(("kind", "code"), [("SIGSEGV", "camera-vanished"), ("black", "camera-black")])
def test_a_camera_that_stays_broken_is_given_up_with_its_fault(kind: str, code: str) -> None:
    seen: list[Frame | FieldFailure] = []
    with supervised(kind) as camera, pytest.raises(CameraLostError) as lost:
        seen.extend(camera.frames())
    assert lost.value.code == code
    assert lost.value.cure
    assert "did not help" in lost.value.message
    assert camera.reopened == QUICK.attempts


def test_a_camera_that_is_not_there_at_the_start_is_an_error() -> None:
    with pytest.raises(CameraLostError, match="no such camera"), supervised("absent"):
        pass


def test_a_camera_that_comes_back_late_is_waited_for_with_growing_pauses() -> None:
    waits: list[float] = []
    made = iter(["vanished", "absent", "absent", "sound:30"])
    policy = Policy(attempts=5, first_wait=0.5, longest_wait=1.5)
    camera = SupervisedCamera(lambda: opened(next(made)), "late", policy, sleep=waits.append)
    with camera:
        seen = list(camera.frames())
    assert waits == [0.5, 1.0, 1.5]
    assert [item.code for item in seen if isinstance(item, FieldFailure)] == [
        "camera-vanished",
        "camera-missing",
        "camera-missing",
    ]
    assert isinstance(seen[-1], Frame)


def test_a_generator_that_outlives_its_camera_opens_nothing() -> None:
    with supervised("sound") as camera:
        frames = camera.frames()
        next(frames)
    with pytest.raises((StopIteration, CameraLostError)):
        for _ in range(3):
            next(frames)
    assert children() == []


# What a picture shows of its camera.


def frame(image: np.ndarray) -> Frame:
    return Frame(image, clock.read(), "test#0")


@pytest.fixture
def noise() -> Iterator[Callable[[int, int], np.ndarray]]:
    rng = np.random.default_rng(1)
    yield lambda low, high: rng.integers(low, high, (90, 120, 3)).astype(np.uint8)


def test_real_frames_differ_and_a_copy_is_seen(noise: Callable[[int, int], np.ndarray]) -> None:
    watcher = Watcher()
    first = noise(100, 104)
    assert watcher.judge(frame(first)) is None
    assert watcher.judge(frame(noise(100, 104))) is None
    again = noise(100, 104)
    assert watcher.judge(frame(again)) is None
    fault = watcher.judge(frame(again.copy()))
    assert fault is not None
    assert fault.code == "camera-repeats"


def test_a_field_that_is_white_all_over_is_not_a_stuck_camera() -> None:
    watcher = Watcher()
    white = np.full((90, 120, 3), 255, np.uint8)
    assert [watcher.judge(frame(white)) for _ in range(5)] == [None] * 5


def test_black_is_darker_than_any_field(noise: Callable[[int, int], np.ndarray]) -> None:
    assert is_black(noise(0, 10))
    hot = noise(0, 10)
    hot[17, 23] = 255
    assert is_black(hot)
    assert not is_black(noise(10, 40))


@pytest.mark.data
def test_no_real_field_is_taken_for_black(data: Path) -> None:
    from edge.files import read_image

    pictures = []
    for source in ("milab_focus", "embedded", "jtsc", "bccd"):
        found = [path for path in sorted((data / source).rglob("*")) if path.suffix in {".jpg", ".png", ".bmp"}]
        pictures += found[:: max(1, len(found) // 5)][:5]
    assert len(pictures) >= 5
    for path in pictures:
        assert not is_black(read_image(path)), path


@pytest.mark.parametrize(
    "spec", ["uvc:/dev/video0,width=huge", "picamera2:0,gain=loud", "gstreamer:test,fps=0", "uvc:/dev/video0,zoom=2"]
)
def test_settings_that_cannot_be_are_told_before_any_process_is_started(spec: str) -> None:
    from devices.cameras import hardware

    with pytest.raises(UsageError) as refused:
        getattr(hardware, spec.partition(":")[0])(spec)
    assert refused.value.cure

"""A camera that plays back what was recorded: a folder, a pattern, single pictures, or a video file.

Everything that touches the disk happens in a thread of its own, so that a dying card or a lost network folder ends in
`CameraLostError` at the deadline instead of a program that hangs.
"""

from __future__ import annotations

import os
import queue
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from edge.core import clock
from edge.core.errors import CameraError, CameraLostError, InputError
from edge.core.types import FieldFailure, Frame, Image
from edge.files import display_name, expand, read_file, read_image
from edge.imaging.formats.container import MAX_PIXELS
from edge.imaging.formats.inspection import HEIF_BRANDS

if TYPE_CHECKING:
    import cv2

DEADLINE_SECONDS: Final = 20.0
"""Long enough for the largest picture from a slow card on the slowest device."""

_VIDEO_STARTS: Final = (
    (4, b"ftyp"),
    (8, b"AVI "),
    (0, b"\x1aE\xdf\xa3"),
    (0, b"\0\0\1\xba"),
    (0, b"OggS"),
    (0, b"FLV"),
)
"""What MP4/MOV, AVI, Matroska/WebM, MPEG-PS, Ogg and FLV files start with, and where. Playlists, which can name
addresses in a network, are not among them."""
_SOURCE_FAULTS: Final = ("not-found", "broken-link", "permission-denied", "not-a-file", "empty-folder", "read-failed")
"""What makes a camera of a single path impossible; a picture that is damaged is a frame that failed."""

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class _Video:
    capture: cv2.VideoCapture
    stated_frames: int


class ReplayCamera:
    """Plays back recorded fields in a fixed order; implements `edge.core.protocols.CameraSource`.

    Args:
        source: a folder (its pictures, in natural order), a pattern such as "slide*.png", one picture, or a video file.
        deadline_seconds: the longest that opening, or getting one frame, may take.
        read: reads one picture; raises `InputError`.

    A frame's `source` is the picture's path, or `video.mp4#12` for the twelfth frame of a video.
    """

    def __init__(
        self,
        source: str | Path,
        deadline_seconds: float = DEADLINE_SECONDS,
        read: Callable[[Path], Image] = read_image,
    ) -> None:
        self._source = Path(source)
        self._deadline = deadline_seconds
        self._read = read
        self._worker: _Worker | None = None
        self._pictures: list[Path] = []
        self._video: _Video | None = None

    def __enter__(self) -> ReplayCamera:
        """Find the pictures, or open the video.

        Raises:
            CameraError: the source does not exist, holds no picture, or is a video that cannot be opened.
            CameraLostError: the disk did not answer in time.
        """
        self._worker = _Worker(self._deadline, display_name(self._source))
        try:
            self._pictures, self._video = self._worker.call(self._open)
        except BaseException:
            self._worker.stop()
            self._worker = None
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        worker, video = self._worker, self._video
        self._worker, self._video, self._pictures = None, None, []
        if worker is not None:
            worker.stop(video.capture.release if video is not None else None)

    def frames(self) -> Iterator[Frame | FieldFailure]:
        """Yield each frame, or the failure that stands in its place.

        A video that ends before the number of frames that it states ends with a failure of code "truncated", which
        also takes the place of the last frame: the decoder may have filled that with whatever it had.

        Raises:
            CameraLostError: a frame did not come in time.
            CameraError: "camera-closed" outside the `with` block.
        """
        if self._worker is None:
            raise CameraError(
                "camera-closed", "The replay camera is not open.", "Ask for frames inside its `with` block."
            )
        if self._video is not None:
            return self._video_frames(self._worker, self._video)
        return self._picture_frames(self._worker, self._pictures)

    def _picture_frames(self, worker: _Worker, pictures: list[Path]) -> Iterator[Frame | FieldFailure]:
        for path in pictures:
            yield worker.call(partial(self._picture, path))

    def _picture(self, path: Path) -> Frame | FieldFailure:
        source = display_name(path)
        try:
            return Frame(image=self._read(path), taken=clock.read(), source=source)
        except InputError as error:
            return FieldFailure(source, error.code, str(error))

    def _video_frames(self, worker: _Worker, video: _Video) -> Iterator[Frame | FieldFailure]:
        name = display_name(self._source)
        last: Frame | None = None
        number = 0
        while (image := worker.call(partial(_grab, video.capture))) is not None:
            if last is not None:
                yield last
            number += 1
            last = Frame(image=image, taken=clock.read(), source=f"{name}#{number}")
        if last is not None and number >= video.stated_frames:
            yield last
            return
        yield FieldFailure(
            f"{name}#{max(number, 1)}",
            "truncated",
            f"The video breaks off at frame {number} of {max(video.stated_frames, number)}: its end is missing or"
            " damaged. Copy it again from the camera.",
        )

    def _open(self) -> tuple[list[Path], _Video | None]:
        if _is_video(self._source):
            return [], _open_video(self._source)
        pictures = expand([self._source])
        if pictures == [self._source]:
            try:
                read_file(self._source)
            except InputError as error:
                if error.code in _SOURCE_FAULTS:
                    raise CameraError(error.code, error.message, error.cure) from error
        return pictures, None


def _is_video(path: Path) -> bool:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with path.open("rb") as file:
            head = file.read(16)
    except (OSError, ValueError):
        return False
    known = any(head.startswith(mark, at) for at, mark in _VIDEO_STARTS)
    return known and head[8:12] not in HEIF_BRANDS


def _open_video(path: Path) -> _Video:
    import cv2

    name = display_name(path)
    # FFmpeg and OpenCV write to standard error in words that help nobody; the error below says the cure.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    try:
        capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
    finally:
        cv2.utils.logging.setLogLevel(level)
    if not capture.isOpened():
        capture.release()
        raise CameraError(
            "damaged",
            f"The video {name} cannot be opened: it is damaged, or its recording was never finished.",
            "Copy it again from the camera, and end a recording before the power goes.",
        )
    width, height = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
    if width * height > MAX_PIXELS:
        capture.release()
        raise CameraError(
            "too-large",
            f"The frames of {name} have {width:.0f} x {height:.0f} pixels, which is too many.",
            "Record at the camera's ordinary size.",
        )
    return _Video(capture, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))


def _grab(capture: cv2.VideoCapture) -> Image | None:
    import numpy as np

    found, image = capture.read()
    if not found or image.ndim != 3 or image.dtype != np.uint8:
        return None
    return np.ascontiguousarray(image)


class _Worker:
    """Does one piece of work after the other in a thread of its own, each within the deadline.

    The thread is a daemon: one that hangs in a read that never returns must not keep the program from ending.
    """

    def __init__(self, deadline_seconds: float, name: str) -> None:
        self._deadline = deadline_seconds
        self._name = name
        self._lost = False
        self._work: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"replay {name}", daemon=True)
        self._thread.start()

    def call(self, work: Callable[[], _Value]) -> _Value:
        """Do the work and return what it returns, or raise what it raises.

        Raises `CameraLostError` ("camera-lost") at the deadline, and at once ever after.
        """
        if not self._lost:
            future: Future[_Value] = Future()
            self._work.put((work, future))
            try:
                return future.result(self._deadline)
            except FutureTimeoutError:
                self._lost = True
        raise CameraLostError(
            "camera-lost",
            f"{self._name} did not answer within {self._deadline:g} seconds.",
            "Check the memory card, the disk or the network folder that it lies on.",
        )

    def stop(self, last: Callable[[], Any] | None = None) -> None:
        """Do the `last` work, then end; does not wait for a thread that hangs."""
        if last is not None:
            self._work.put((last, Future()))
        self._work.put(None)
        if not self._lost:
            self._thread.join(self._deadline)

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            work, future = item
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001  (not swallowed: `call` raises it in the caller's thread)
                future.set_exception(error)

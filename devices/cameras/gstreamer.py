"""Cameras that GStreamer opens: a Jetson's CSI sensor, a test picture, a file, or a pipeline of one's own.

OpenCV's wheels are built without GStreamer, and JetPack's OpenCV belongs to its own Python. So the tool
`gst-launch-1.0` runs the pipeline in a process of its own and hands the raw frames over a pipe.
"""

from __future__ import annotations

import itertools
import os
import re
import select
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Final

import numpy as np

from devices.cameras import specification
from edge.core import clock
from edge.core.errors import CameraError, CameraLostError, MissingExtraError, UsageError
from edge.core.types import FieldFailure, Frame, Image

TOOL: Final = "gst-launch-1.0"
_CAPS: Final = re.compile(rb"fdsink\d*\.GstPad:sink: caps = video/x-raw([^\n]*)\n", re.IGNORECASE)
_ENDING_SECONDS: Final = 3.0


class GStreamerCamera:
    """Frames of a GStreamer pipeline. Implements `CameraSource`.

    `source` is "csi" (nvarguscamerasrc), "test" (videotestsrc), "file" or "pipeline"; `location` the file, or the
    pipeline up to its raw video. `width`, `height` and `fps` are asked of csi and test; whatever was asked must be
    delivered. `exposure` (milliseconds), `gain` and `white_balance` (the mode's number, 5 is daylight) of a CSI sensor
    are fixed before it starts: it never adjusts itself. `deadline_seconds` is the longest wait for one frame.
    """

    def __init__(
        self,
        source: str = "csi",
        location: str = "",
        *,
        sensor: int = 0,
        pattern: str = "smpte",
        width: int | None = None,
        height: int | None = None,
        fps: int = 30,
        exposure: float = 10.0,
        gain: float = 1.0,
        white_balance: int = 5,
        deadline_seconds: float = 5.0,
        frames: int | None = None,
    ) -> None:
        self.name = f"gstreamer:{source}"
        self._source, self._location, self._sensor, self._pattern = source, location, sensor, pattern
        self._wanted, self._fps = (width, height), fps
        self._exposure, self._gain, self._white_balance = exposure, gain, white_balance
        self._deadline, self._frames = deadline_seconds, frames
        self._size = (0, 0)
        self._stack: ExitStack | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._read = -1
        self._said = 0

    @classmethod
    def from_spec(cls, spec: str) -> GStreamerCamera:
        """Make a camera from "gstreamer:csi,width=1920,height=1080", "gstreamer:test", "gstreamer:file=PATH" or
        "gstreamer:pipeline=v4l2src ! image/jpeg ! jpegdec"; the last two stand at the end. Raises UsageError.
        """
        settings = specification.parse(spec, "gstreamer", SPEC_KEYS, first="source", rest=frozenset(_WITH_LOCATION))
        for source in _WITH_LOCATION:
            if source in settings:
                settings |= {"source": source, "location": settings.pop(source)}
        if "deadline" in settings:
            settings["deadline_seconds"] = settings.pop("deadline")
        return cls(**settings)

    def __enter__(self) -> GStreamerCamera:
        """Start the pipeline and wait for its first format.

        Raises:
            MissingExtraError: GStreamer's tools are not installed.
            CameraError: the pipeline cannot run, or gives another format than was asked for ("camera-format").
            CameraLostError: nothing came in time.
        """
        if shutil.which(TOOL) is None:
            raise MissingExtraError(
                "gstreamer-missing",
                f"The tool {TOOL} is not installed.",
                "Run: sudo apt-get install gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good",
            )
        with ExitStack() as stack:
            self._read, write = os.pipe()
            stack.callback(os.close, self._read)
            try:
                self._log = stack.enter_context(tempfile.TemporaryFile())
                command = [TOOL, "-v", *self.pipeline(), "!", "fdsink", f"fd={write}", "sync=false"]
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, pass_fds=(write,)
                )
            finally:
                os.close(write)
            stack.callback(_end, self._process)
            self._size = self._format(time.monotonic() + self._deadline)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stack, self._stack, self._process = self._stack, None, None
        if stack is not None:
            stack.close()

    def pipeline(self) -> list[str]:
        """The pipeline up to its frames in BGR, as the arguments of `gst-launch-1.0`."""
        width, height = self._wanted
        sizes = "".join(
            f",{name}={value}" for name, value in (("width", width), ("height", height)) if value is not None
        )
        count = [] if self._frames is None else [f"num-buffers={self._frames}"]
        if self._source == "csi":
            nanoseconds = round(self._exposure * 1e6)
            source = [
                "nvarguscamerasrc",
                f"sensor-id={self._sensor}",
                f"exposuretimerange={nanoseconds} {nanoseconds}",
                f"gainrange={self._gain:g} {self._gain:g}",
                "ispdigitalgainrange=1 1",
                f"wbmode={self._white_balance}",
                "aelock=true",
                *count,
                "!",
                f"video/x-raw(memory:NVMM),format=NV12,framerate={self._fps}/1{sizes}",
                *("!", "nvvidconv", "!", "video/x-raw,format=BGRx"),
            ]
        elif self._source == "test":
            source = ["videotestsrc", "is-live=true", f"pattern={self._pattern}", *count]
            source += ["!", f"video/x-raw,framerate={self._fps}/1{sizes}"]
        elif self._source == "file":
            source = ["filesrc", f"location={self._location}", "!", "decodebin"]
        else:
            try:
                source = shlex.split(self._location)
            except ValueError as error:
                raise UsageError(
                    "bad-camera-setting",
                    f"The pipeline {self._location!r} is not closed: {error}.",
                    "Close its quotes.",
                ) from error
        return [*source, "!", "videoconvert", "!", "video/x-raw,format=BGR"]

    def frames(self) -> Iterator[Frame | FieldFailure]:
        """Yield frames until the source ends; a camera does not.

        Raises:
            CameraLostError: no frame came in time, the format changed, or the pipeline ended by an error.
            CameraError: "camera-closed" outside the `with` block.
        """
        if self._stack is None:
            raise CameraError("camera-closed", f"{self.name} is not open.", "Ask for frames inside its `with` block.")
        return self._stream()

    def _stream(self) -> Iterator[Frame | FieldFailure]:
        exposure = self._exposure if self._source == "csi" else None
        for number in itertools.count():
            if number == self._frames or (image := self._grab()) is None:
                return
            yield Frame(image, clock.read(), f"{self.name}#{number}", exposure)

    def _grab(self) -> Image | None:
        """Read one frame, or None at the end of the source."""
        width, height = self._size
        stride = -(-3 * width // 4) * 4  # GStreamer begins each row at a multiple of four bytes
        data = bytearray(stride * height)
        view, filled = memoryview(data), 0
        deadline = time.monotonic() + self._deadline
        while filled < len(data):
            if not select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise CameraLostError(
                    "camera-frozen",
                    f"{self.name} gave no frame within {self._deadline:g} seconds.",
                    "Check the camera's cable; on a Jetson: sudo systemctl restart nvargus-daemon",
                )
            count = os.readv(self._read, [view[filled:]])
            if count == 0:
                self._require_orderly_end(filled)
                return None
            filled += count
        self._same_format()
        rows = np.frombuffer(data, np.uint8).reshape(height, stride)
        return np.ascontiguousarray(rows[:, : 3 * width].reshape(height, width, 3))

    def _require_orderly_end(self, filled: int) -> None:
        code = self._process.wait(_ENDING_SECONDS) if self._process is not None else 0
        if code == 0 and filled == 0 and (self._frames is not None or self._source in _WITH_LOCATION):
            return
        raise CameraLostError(
            "camera-vanished",
            f"The pipeline of {self.name} ended ({code}): {self._last_words()}.",
            "Check the camera and its cable.",
        )

    def _format(self, deadline: float) -> tuple[int, int]:
        """Wait until the pipeline says what it will deliver."""
        while (size := self._stated()) is None:
            code = self._process.poll() if self._process is not None else 1
            if code is not None and self._stated() is None:
                raise CameraError(
                    "camera-unusable",
                    f"The pipeline of {self.name} does not run ({code}): {self._last_words()}.",
                    f"Try it by hand: {TOOL} -v {shlex.join(self.pipeline())} ! fakesink",
                )
            if time.monotonic() > deadline:
                raise CameraLostError(
                    "camera-frozen",
                    f"{self.name} did not start within {self._deadline:g} seconds.",
                    "Check the camera's cable; on a Jetson: sudo systemctl restart nvargus-daemon",
                )
            time.sleep(0.01)
        if any(wanted not in (None, got) for wanted, got in zip(self._wanted, size, strict=True)):
            asked = "x".join("?" if each is None else str(each) for each in self._wanted)
            raise CameraError(
                "camera-format", f"{self.name} gives {size[0]}x{size[1]}, not {asked}.", "Ask for what it has."
            )
        return size

    def _same_format(self) -> None:
        if self._log is None or os.fstat(self._log.fileno()).st_size == self._said:
            return
        if (size := self._stated()) != self._size:
            raise CameraLostError(
                "camera-format", f"{self.name} changed its format from {self._size} to {size}.", "Start it again."
            )

    def _stated(self) -> tuple[int, int] | None:
        said = self._words()
        self._said = len(said)
        found = _CAPS.findall(said)
        if not found:
            return None
        width, height = (re.search(rb"%s=\(int\)(\d+)" % name, found[-1]) for name in (b"width", b"height"))
        return (int(width.group(1)), int(height.group(1))) if width and height else None

    def _words(self) -> bytes:
        if self._log is None:
            return b""
        return os.pread(self._log.fileno(), 1 << 20, 0)

    def _last_words(self) -> str:
        lines = self._words().decode(errors="replace").splitlines()
        errors = [line.partition("ERROR")[2].lstrip(": ") for line in lines if "ERROR" in line]
        return (errors or lines or ["it said nothing"])[0].rstrip(".")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_ENDING_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _source(text: str) -> str:
    if text not in {"csi", "test"}:
        raise ValueError("write csi, test, file=PATH or pipeline=ELEMENTS")
    return text


def _file(text: str) -> str:
    return str(Path(text).absolute())


def _word(text: str) -> str:
    if not re.fullmatch(r"[\w-]+", text):
        raise ValueError("it is not a word")
    return text


_WITH_LOCATION: Final = ("file", "pipeline")

SPEC_KEYS: Final[Mapping[str, specification.Reader]] = {
    "source": _source,
    "sensor": specification.whole(0, 15),
    "pattern": _word,
    "width": specification.whole(16, 8192),
    "height": specification.whole(16, 8192),
    "fps": specification.whole(1, 240),
    "exposure": specification.real(0.01, 10_000),
    "gain": specification.real(1, 100),
    "white_balance": specification.whole(0, 9),
    "frames": specification.whole(1, 1_000_000_000),
    "deadline": specification.real(0.05, 600),
    "file": _file,
    "pipeline": str,
}
"""The keys of `GStreamerCamera.from_spec`."""

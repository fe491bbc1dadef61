"""A USB microscope or any other Video4Linux camera: its controls are found by its own automatics, then frozen.

A camera that goes on adjusting itself makes the same cell look different in every field. So it gets a moment on the
slide to find exposure, white balance and focus, or is given them; then everything automatic is switched off, and what
was found is set, read back, and stays.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from devices.cameras import specification, v4l2
from edge.core import clock
from edge.core.errors import CameraError, CameraLostError
from edge.core.types import FieldFailure, Frame

if TYPE_CHECKING:
    import cv2

SETTLE_FRAMES: Final = 20
"""Frames that the camera's automatics get to settle: most need ten at most."""


@dataclass(frozen=True, slots=True)
class _Automatic:
    """One thing that a camera can adjust by itself: the control of its value, the switch, and the switch's places."""

    name: str
    value: int
    switch: int
    on: tuple[int, ...]
    off: int


_AUTOMATICS: Final = (
    _Automatic(
        "exposure",
        v4l2.EXPOSURE_ABSOLUTE,
        v4l2.EXPOSURE_AUTO,
        (v4l2.EXPOSURE_APERTURE_PRIORITY, v4l2.EXPOSURE_FULLY_AUTO),
        v4l2.EXPOSURE_MANUAL,
    ),
    _Automatic("gain", v4l2.GAIN, v4l2.AUTOGAIN, (1,), 0),
    _Automatic("white_balance", v4l2.WHITE_BALANCE_TEMPERATURE, v4l2.AUTO_WHITE_BALANCE, (1,), 0),
    _Automatic("focus", v4l2.FOCUS_ABSOLUTE, v4l2.FOCUS_AUTO, (1,), 0),
)


class UvcCamera:
    """Frames of a Video4Linux device. Implements `CameraSource`; endless unless `frames` limits it.

    `width` and `height` are what the camera must deliver (None: as it stands), `format` its four-letter pixel format.
    `exposure` is in units of 100 microseconds, `white_balance` in kelvin, `gain` and `focus` in the camera's own units;
    what is None is left to the camera's automatics for `settle` frames, and then frozen at what they found.
    """

    def __init__(
        self,
        device: str = "/dev/video0",
        *,
        width: int | None = None,
        height: int | None = None,
        format: str | None = None,
        fps: float | None = None,
        exposure: int | None = None,
        gain: int | None = None,
        white_balance: int | None = None,
        focus: int | None = None,
        settle: int = SETTLE_FRAMES,
        frames: int | None = None,
    ) -> None:
        self.name = f"uvc:{device}"
        self._device, self._size, self._format, self._fps = device, (width, height), format, fps
        self._wanted = {"exposure": exposure, "gain": gain, "white_balance": white_balance, "focus": focus}
        self._settle, self._frames = settle, frames
        self._stack: ExitStack | None = None
        self._capture: cv2.VideoCapture | None = None
        self.frozen: dict[str, int] = {}
        """What each automatic control was frozen at, once the camera is open."""

    @classmethod
    def from_spec(cls, spec: str) -> UvcCamera:
        """Make a camera from "uvc:/dev/video0,width=1280,height=720". Raises UsageError for what cannot be."""
        return cls(**specification.parse(spec, "uvc", SPEC_KEYS, first="device"))

    def __enter__(self) -> UvcCamera:
        """Open, set, settle and freeze.

        Raises:
            CameraError: there is no such camera, it may not be opened, or it does not deliver the format that was asked
                for ("camera-format") or take a setting ("camera-control").
            CameraLostError: it gave no picture.
        """
        with ExitStack() as stack:
            controls = stack.enter_context(v4l2.opened(self._device))
            if controls.device() is None:
                raise CameraError(
                    "camera-unusable",
                    f"{self._device} gives no pictures: it is another node of the same camera.",
                    "See `leuko camera list` for the one that does.",
                )
            self._automatics(controls, on=True)
            self._capture = self._open()
            stack.callback(self._capture.release)
            for _ in range(self._settle):
                self._grab()
            self.frozen = self._automatics(controls, on=False)
            # What was grabbed before the freeze may still lie in the driver's buffers.
            for _ in range(4 if self.frozen else 1):
                self._grab()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stack, self._stack, self._capture = self._stack, None, None
        if stack is not None:
            stack.close()

    def frames(self) -> Iterator[Frame | FieldFailure]:
        """Yield frames. Raises CameraLostError when none comes, CameraError ("camera-closed") outside the block."""
        if self._stack is None:
            raise CameraError("camera-closed", f"{self.name} is not open.", "Ask for frames inside its `with` block.")
        return self._stream()

    def _stream(self) -> Iterator[Frame | FieldFailure]:
        numbers = itertools.count() if self._frames is None else range(self._frames)
        for number in numbers:
            exposure = self.frozen.get("exposure")
            yield Frame(
                self._grab(), clock.read(), f"{self.name}#{number}", None if exposure is None else exposure / 10
            )

    def _open(self) -> cv2.VideoCapture:
        import cv2

        capture = cv2.VideoCapture(self._device, cv2.CAP_V4L2)
        if not capture.isOpened():
            capture.release()
            raise CameraError(
                "camera-busy",
                f"{self._device} cannot be opened for pictures: another program may be using it.",
                "End that program; `fuser -v /dev/video*` names it.",
            )
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 2)
        if self._format is not None:
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*self._format))
        for wanted, key in zip((*self._size, self._fps), (3, 4, 5), strict=True):
            if wanted is not None:
                capture.set(key, wanted)
        given = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode("ascii", errors="replace")
        size = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        wrong = any(wanted not in (None, got) for wanted, got in zip(self._size, size, strict=True))
        if wrong or self._format not in (None, given):
            capture.release()
            asked = "x".join("?" if each is None else str(each) for each in self._size)
            raise CameraError(
                "camera-format",
                f"{self._device} gives {size[0]}x{size[1]} {given}, not {asked} {self._format or ''}".rstrip() + ".",
                f"See `v4l2-ctl -d {self._device} --list-formats-ext` for what it can.",
            )
        self._size = size
        return capture

    def _grab(self) -> Any:
        import numpy as np

        capture = self._capture
        read, image = capture.read() if capture is not None else (False, None)
        if not read or image is None or not image.size:
            raise CameraLostError(
                "camera-vanished", f"{self._device} gave no picture.", "Check its cable; plug it in again."
            )
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[1::-1] != self._size:
            raise CameraLostError(
                "camera-format",
                f"{self._device} gave a picture of {image.shape} {image.dtype} where {self._size} was agreed.",
                "Plug it in again.",
            )
        return np.ascontiguousarray(image)

    def _automatics(self, controls: v4l2.Controls, *, on: bool) -> dict[str, int]:
        """Switch on what shall find its own value; or switch everything automatic off and set, or keep, the values."""
        frozen = {}
        for each in _AUTOMATICS:
            switch, value, wanted = controls.query(each.switch), controls.query(each.value), self._wanted[each.name]
            if value is None and wanted is not None:
                raise CameraError(
                    "camera-control", f"{self._device} has no control of {each.name}.", f"Leave {each.name} out."
                )
            if on:
                if switch is not None and wanted is None:
                    _first_accepted(controls, switch, each.on)
                continue
            found = controls.get(each.value) if value is not None else None
            if switch is not None:
                self._must(controls, switch, each.off, 0)
            if value is not None and found is not None:
                target = found if wanted is None else wanted
                frozen[each.name] = self._must(controls, value, target, value.step)
        return frozen

    def _must(self, controls: v4l2.Controls, control: v4l2.Control, value: int, tolerance: int) -> int:
        got = controls.set(control, value)
        if abs(got - value) > tolerance:
            raise CameraError(
                "camera-control",
                f"{self._device} was told {control.name} = {value} and made {got} of it.",
                "Leave this setting to the camera, or use another camera: this one cannot be frozen.",
            )
        return got


def _first_accepted(controls: v4l2.Controls, switch: v4l2.Control, places: tuple[int, ...]) -> None:
    """Switch on whichever of the automatic modes this camera has: few have all that the standard names."""
    for place in places:
        try:
            controls.set(switch, place)
        except CameraError:
            continue
        return


def _four_letters(text: str) -> str:
    if len(text) != 4 or not text.isascii():
        raise ValueError("it must be four letters, such as MJPG or YUYV")
    return text


SPEC_KEYS: Final[Mapping[str, specification.Reader]] = {
    "device": str,
    "width": specification.whole(16, 8192),
    "height": specification.whole(16, 8192),
    "format": _four_letters,
    "fps": specification.real(0.1, 240),
    "exposure": specification.whole(0, 1_000_000),
    "gain": specification.whole(-10_000, 1_000_000),
    "white_balance": specification.whole(0, 100_000),
    "focus": specification.whole(-10_000, 1_000_000),
    "settle": specification.whole(0, 1000),
    "frames": specification.whole(1, 1_000_000_000),
}
"""The keys of `UvcCamera.from_spec`."""

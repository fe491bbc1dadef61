"""A Raspberry Pi camera through picamera2: opened once, in one mode, with a still and a preview stream.

Exposure and white balance are found by the camera's own automatics while it looks at the slide, then frozen: a camera
that goes on adjusting makes the same cell look different in every field.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import TimeoutError as FutureTimeoutError  # another class before Python 3.11
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Final

import numpy as np

from devices.cameras import specification
from edge.core import clock
from edge.core.errors import CameraError, CameraLostError, MissingExtraError
from edge.core.types import FieldFailure, Frame, Image

_STEADY: Final = 0.02
"""Relative change between two frames below which exposure, gain and colour gains count as found."""
_STEADY_FRAMES: Final = 5
_FOLLOWS_WITHIN: Final = 12
"""Frames until a control that was set shows in the metadata: the sensor's pipeline holds up to ten."""

MISSING: Final = (
    "Run: sudo apt-get install -y --no-install-recommends python3-picamera2, and make the virtual environment with"
    " --system-site-packages: picamera2 and libcamera come from the system, not from pip."
)


class Picamera2Camera:
    """Frames of a Pi camera. Implements `CameraSource`; endless unless `frames` limits it.

    `number` is the camera's place, `width` and `height` the still picture that is analysed, `preview_width` that of the
    small one. `exposure` is in microseconds, `gain` analogue gain, `red` and `blue` the white balance's gains; what is
    None is found by the automatics within `settle_seconds`. `make` makes the Picamera2 object of a camera number.
    """

    def __init__(
        self,
        number: int = 0,
        *,
        width: int = 1440,
        height: int = 1080,
        preview_width: int = 640,
        exposure: int | None = None,
        gain: float | None = None,
        red: float | None = None,
        blue: float | None = None,
        settle_seconds: float = 5.0,
        deadline_seconds: float = 5.0,
        frames: int | None = None,
        make: Callable[[int], Any] | None = None,
    ) -> None:
        self.name = f"picamera2:{number}"
        self._number, self._size = number, (width, height)
        self._preview = preview_size(width, height, preview_width)
        self._wanted = {"ExposureTime": exposure, "AnalogueGain": gain}
        self._gains = (red, blue)
        self._settle, self._deadline, self._frames = settle_seconds, deadline_seconds, frames
        self._make = _picamera2 if make is None else make
        self._stack: ExitStack | None = None
        self._camera: Any = None
        self.frozen: Mapping[str, Any] = {}
        """The controls as they were frozen, once the camera is open."""

    @classmethod
    def from_spec(cls, spec: str) -> Picamera2Camera:
        """Make a camera from "picamera2:0,width=2028,height=1520". Raises UsageError for what cannot be."""
        settings = specification.parse(spec, "picamera2", SPEC_KEYS, first="number")
        for key in ("settle", "deadline"):
            if key in settings:
                settings[f"{key}_seconds"] = settings.pop(key)
        return cls(**settings)

    def __enter__(self) -> Picamera2Camera:
        """Open, start, let exposure and white balance settle, and freeze them.

        Raises:
            MissingExtraError: picamera2 cannot be imported.
            CameraError: there is no such camera, it does not give the format, or its controls do not hold.
            CameraLostError: no frame came in time.
        """
        with ExitStack() as stack:
            try:
                camera = self._make(self._number)
            except (IndexError, RuntimeError) as error:
                raise CameraError(
                    "camera-missing",
                    f"There is no Pi camera number {self._number}, or another program has it: {error}.",
                    "See `leuko camera list`; check the ribbon cable with the power off.",
                ) from error
            stack.callback(camera.close)
            self._camera = camera
            # "RGB888" is the name that libcamera gives to bytes in the order blue, green, red.
            configuration = camera.create_still_configuration(
                main={"size": self._size, "format": "RGB888"},
                lores={"size": self._preview, "format": "YUV420"},
                buffer_count=3,
                queue=False,
                display=None,
            )
            try:
                camera.configure(configuration)
                camera.start()
            except (RuntimeError, ValueError, OSError) as error:
                raise CameraError(
                    "camera-format",
                    f"{self.name} cannot give {self._size[0]}x{self._size[1]}: {error}.",
                    "Choose a size that `rpicam-hello --list-cameras` names.",
                ) from error
            stack.callback(camera.stop)
            self.frozen = self._freeze()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stack, self._stack, self._camera = self._stack, None, None
        if stack is not None:
            stack.close()

    def frames(self) -> Iterator[Frame | FieldFailure]:
        """Yield frames with their previews.

        Raises CameraLostError when none comes in time, CameraError ("camera-closed") outside the `with` block.
        """
        if self._stack is None:
            raise CameraError("camera-closed", f"{self.name} is not open.", "Ask for frames inside its `with` block.")
        return self._stream()

    def _stream(self) -> Iterator[Frame | FieldFailure]:
        for number in itertools.count() if self._frames is None else range(self._frames):
            with self._request() as (image, preview, metadata):
                exposure = metadata.get("ExposureTime")
                yield Frame(
                    image(),
                    clock.read(),
                    f"{self.name}#{number}",
                    None if exposure is None else exposure / 1000,
                    preview(),
                )

    def _request(self) -> _Request:
        try:
            request = self._camera.capture_request(wait=self._deadline)
        except (TimeoutError, FutureTimeoutError) as error:
            raise CameraLostError(
                "camera-frozen",
                f"{self.name} gave no frame within {self._deadline:g} seconds.",
                "Check the ribbon cable with the power off, then start again.",
            ) from error
        except (RuntimeError, OSError) as error:
            raise CameraLostError(
                "camera-vanished", f"{self.name} stopped: {error}.", "Check the ribbon cable with the power off."
            ) from error
        return _Request(request, self._size, self._preview)

    def _freeze(self) -> Mapping[str, Any]:
        """Let the automatics find what was not given, fix all, and see in the metadata that it holds."""
        given = {key: value for key, value in self._wanted.items() if value is not None}
        wanted_gains = {} if None in self._gains else {"ColourGains": self._gains}
        offered = set(self._camera.camera_controls)
        if lacking := sorted({*given, *wanted_gains} - offered):
            raise CameraError("camera-control", f"{self.name} has no control {lacking[0]}.", "Leave this setting out.")
        automatic = {"AeEnable": len(given) < len(self._wanted), "AwbEnable": None in self._gains, **given}
        self._camera.set_controls({key: value for key, value in automatic.items() if key in offered})
        found = self._settled()
        red, blue = found.get("ColourGains", (None, None))
        gains = tuple(each if wanted is None else wanted for wanted, each in zip(self._gains, (red, blue), strict=True))
        frozen: dict[str, Any] = {
            key: found.get(key) if wanted is None else wanted for key, wanted in self._wanted.items()
        }
        if None not in gains:
            frozen["ColourGains"] = gains
        frozen = {key: value for key, value in frozen.items() if value is not None and key in offered}
        fixed = {"AeEnable": False, "AwbEnable": False, **frozen}
        self._camera.set_controls({key: value for key, value in fixed.items() if key in offered})
        followed: Mapping[str, Any] = {}
        for _ in range(_FOLLOWS_WITHIN):
            with self._request() as (_image, _preview, metadata):
                followed = metadata
            if all(_near(followed.get(key), value) for key, value in frozen.items()):
                return frozen
        wrong = [key for key, value in frozen.items() if not _near(followed.get(key), value)]
        raise CameraError(
            "camera-control",
            f"{self.name} was told {wrong[0]} = {frozen[wrong[0]]} and makes {followed.get(wrong[0])} of it.",
            "Choose an exposure and gain that the sensor has.",
        )

    def _settled(self) -> Mapping[str, Any]:
        """The metadata once they stand still, or as they are when the time is up."""
        until = time.monotonic() + self._settle
        before: Mapping[str, Any] = {}
        steady = 0
        while True:
            with self._request() as (_image, _preview, metadata):
                keys = ("ExposureTime", "AnalogueGain", "ColourGains")
                steady = steady + 1 if before and all(_near(metadata.get(k), before.get(k)) for k in keys) else 0
                before = metadata
            if steady >= _STEADY_FRAMES or time.monotonic() > until:
                return before


class _Request:
    """A captured request, given back at the end of its `with` block: one that is kept starves the camera of buffers."""

    def __init__(self, request: Any, size: tuple[int, int], preview: tuple[int, int]) -> None:
        self._request, self._size, self._preview = request, size, preview

    def __enter__(self) -> tuple[Callable[[], Image], Callable[[], Image], Mapping[str, Any]]:
        try:
            metadata: Mapping[str, Any] = self._request.get_metadata()
        except BaseException:
            self._request.release()
            raise
        return self._main, self._lores, metadata

    def __exit__(self, *_: object) -> None:
        self._request.release()

    def _main(self) -> Image:
        image = np.asarray(self._request.make_array("main"))
        width, height = self._size
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[0] < height or image.shape[1] < width:
            raise CameraLostError(
                "camera-format",
                f"The Pi camera gave {image.shape} {image.dtype}, not {width}x{height}.",
                "Start again.",
            )
        return np.ascontiguousarray(image[:height, :width, :3])

    def _lores(self) -> Image:
        import cv2

        width, height = self._preview
        planes = np.ascontiguousarray(self._request.make_array("lores"))
        whole = cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_I420)
        return np.ascontiguousarray(np.asarray(whole, dtype=np.uint8)[:height, :width])


def preview_size(width: int, height: int, preview_width: int) -> tuple[int, int]:
    """The preview's size: the shape of the picture, even numbers, a width that YUV rows are aligned to."""
    across = min(preview_width, width) // 64 * 64 or 64
    return across, max(2, round(across * height / width / 2) * 2)


def _near(value: Any, target: Any) -> bool:
    if value is None or target is None:
        return value is target
    return bool(np.allclose(value, target, rtol=_STEADY, atol=1e-6))


def _picamera2(number: int) -> Any:
    try:
        from picamera2 import Picamera2
    except ImportError as error:
        raise MissingExtraError("picamera2-missing", f"picamera2 cannot be imported ({error}).", MISSING) from error
    return Picamera2(number)


SPEC_KEYS: Final[Mapping[str, specification.Reader]] = {
    "number": specification.whole(0, 15),
    "width": specification.whole(64, 8192),
    "height": specification.whole(64, 8192),
    "preview_width": specification.whole(64, 1920),
    "exposure": specification.whole(1, 10_000_000),
    "gain": specification.real(1, 64),
    "red": specification.real(0.1, 16),
    "blue": specification.real(0.1, 16),
    "settle": specification.real(0, 60),
    "deadline": specification.real(0.05, 600),
    "frames": specification.whole(1, 1_000_000_000),
}
"""The keys of `Picamera2Camera.from_spec`."""

"""Video4Linux devices and their controls, by the kernel's own calls: which cameras there are, and what they are set to.

Structures and numbers are those of the kernel's linux/videodev2.h and linux/v4l2-controls.h.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge.core.errors import CameraError

_QUERYCAP: Final = 0x80685600
_QUERYCTRL: Final = 0xC0445624
_G_CTRL: Final = 0xC008561B
_S_CTRL: Final = 0xC008561C

_CAPABILITY: Final = struct.Struct("16s32s32sIII12x")
_QUERY: Final = struct.Struct("II32siiiiI8x")
_CONTROL: Final = struct.Struct("Ii")

_CAN_CAPTURE: Final = 0x00000001
_IS_DISABLED: Final = 0x00000001

AUTO_WHITE_BALANCE: Final = 0x0098090C
AUTOGAIN: Final = 0x00980912
GAIN: Final = 0x00980913
WHITE_BALANCE_TEMPERATURE: Final = 0x0098091A
EXPOSURE_AUTO: Final = 0x009A0901
EXPOSURE_ABSOLUTE: Final = 0x009A0902
EXPOSURE_AUTO_PRIORITY: Final = 0x009A0903
FOCUS_ABSOLUTE: Final = 0x009A090A
FOCUS_AUTO: Final = 0x009A090C

EXPOSURE_MANUAL: Final = 1
EXPOSURE_APERTURE_PRIORITY: Final = 3
EXPOSURE_FULLY_AUTO: Final = 0


@dataclass(frozen=True, slots=True)
class Device:
    """A capture device: its node, the driver behind it and what it calls itself."""

    path: str
    driver: str
    card: str
    bus: str


@dataclass(frozen=True, slots=True)
class Control:
    """A control that a camera offers, with its limits."""

    id: int
    name: str
    minimum: int
    maximum: int
    step: int
    default: int


def devices(folder: Path = Path("/dev")) -> Iterator[Device]:
    """Find all nodes that pictures can be captured from, in order of their number. One that cannot be opened is left
    out: `describe` says why.
    """
    for path in sorted(folder.glob("video[0-9]*"), key=lambda each: (len(each.name), each.name)):
        try:
            found = describe(str(path))
        except CameraError:
            continue
        if found is not None:
            yield found


def describe(path: str) -> Device | None:
    """Ask a node what it is; None when it is no capture device (a USB camera has a second node for its metadata).

    Raises CameraError when it cannot be opened or is no video device.
    """
    with opened(path) as controls:
        return controls.device()


def opened(path: str) -> Controls:
    """Open a node for its controls; to be used in a `with` block. Raises CameraError in `__enter__`."""
    return Controls(path)


class Controls:
    """The controls of one camera. Another program, or this one, may stream from it meanwhile."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = -1

    def __enter__(self) -> Controls:
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise CameraError(
                "camera-missing", f"There is no camera at {self._path}.", "Plug it in, then see `leuko camera list`."
            ) from None
        except PermissionError:
            raise CameraError(
                "camera-forbidden",
                f"This user may not open {self._path}.",
                'Run: sudo usermod -aG video "$USER", then log in again.',
            ) from None
        except OSError as error:
            raise CameraError(
                "camera-unusable", f"{self._path} cannot be opened: {error.strerror}.", "Plug the camera in again."
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)
        self._file = -1

    def device(self) -> Device | None:
        """What the node is; None when pictures cannot be captured from it. Raises CameraError for no video device."""
        buffer = bytearray(_CAPABILITY.size)
        try:
            fcntl.ioctl(self._file, _QUERYCAP, buffer)
        except OSError as error:
            raise CameraError(
                "camera-unusable", f"{self._path} is no video device: {error.strerror}.", "See `leuko camera list`."
            ) from error
        driver, card, bus, _version, capabilities, own = _CAPABILITY.unpack(buffer)
        if not (own or capabilities) & _CAN_CAPTURE:
            return None
        return Device(self._path, *(part.split(b"\0")[0].decode(errors="replace") for part in (driver, card, bus)))

    def query(self, control: int) -> Control | None:
        """A control's limits; None when the camera does not offer it."""
        buffer = bytearray(_QUERY.pack(control, 0, b"", 0, 0, 0, 0, 0))
        try:
            fcntl.ioctl(self._file, _QUERYCTRL, buffer)
        except OSError as error:
            if error.errno in {errno.EINVAL, errno.ENOTTY}:
                return None
            raise self._lost(error) from error
        number, _kind, name, low, high, step, default, flags = _QUERY.unpack(buffer)
        if flags & _IS_DISABLED:
            return None
        return Control(number, name.split(b"\0")[0].decode(errors="replace"), low, high, step, default)

    def get(self, control: int) -> int:
        """The present value of a control that the camera offers."""
        buffer = bytearray(_CONTROL.pack(control, 0))
        try:
            fcntl.ioctl(self._file, _G_CTRL, buffer)
        except OSError as error:
            raise self._lost(error) from error
        return int(_CONTROL.unpack(buffer)[1])

    def set(self, control: Control, value: int) -> int:
        """Set a control and read it back: returns what the camera made of it.

        Raises CameraError when the value is out of its limits or the camera refuses it.
        """
        if not control.minimum <= value <= control.maximum:
            raise CameraError(
                "camera-control",
                f"{control.name} of {self._path} cannot be {value}: it goes from {control.minimum} to"
                f" {control.maximum}.",
                "Choose a value within that.",
            )
        try:
            fcntl.ioctl(self._file, _S_CTRL, bytearray(_CONTROL.pack(control.id, value)))
        except OSError as error:
            if error.errno in {errno.ENODEV, errno.EIO}:
                raise self._lost(error) from error
            raise CameraError(
                "camera-control",
                f"{self._path} refuses {control.name} = {value}: {error.strerror}.",
                "Leave this setting out: the camera cannot be told.",
            ) from error
        return self.get(control.id)

    def _lost(self, error: OSError) -> CameraError:
        return CameraError(
            "camera-unusable", f"{self._path} no longer answers: {error.strerror}.", "Plug the camera in again."
        )

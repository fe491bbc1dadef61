"""The cameras that are hardware, as they are used: each in its own process, watched, and opened again."""

from __future__ import annotations

from functools import partial
from typing import Final

from devices.cameras.process import ProcessCamera
from devices.cameras.supervised import SupervisedCamera
from edge.core.protocols import CameraSource

DEADLINE_SECONDS: Final = 8.0
"""For one frame. Longer than a camera's own deadline, so that its own account of what is wrong comes first."""


def uvc(specification: str) -> SupervisedCamera:
    """Give a USB microscope: "uvc:/dev/video0,width=1280,height=720"."""
    from devices.cameras.uvc import UvcCamera

    UvcCamera.from_spec(specification)  # settings that cannot be are told now, not by a child later
    return _supervised("devices.cameras.uvc:UvcCamera.from_spec", specification)


def picamera2(specification: str) -> SupervisedCamera:
    """Give a Pi camera: "picamera2:0,width=2028,height=1520"."""
    from devices.cameras.picamera2 import Picamera2Camera

    Picamera2Camera.from_spec(specification)
    return _supervised("devices.cameras.picamera2:Picamera2Camera.from_spec", specification)


def gstreamer(specification: str) -> CameraSource:
    """Give a GStreamer pipeline: "gstreamer:csi", or "gstreamer:file=PATH", whose end is an end and not a fault."""
    from devices.cameras.gstreamer import GStreamerCamera

    factory = "devices.cameras.gstreamer:GStreamerCamera.from_spec"
    GStreamerCamera.from_spec(specification)
    if "file=" in specification:
        return ProcessCamera(factory, specification, live=False, deadline_seconds=DEADLINE_SECONDS)
    return _supervised(factory, specification)


def _supervised(factory: str, specification: str) -> SupervisedCamera:
    make = partial(ProcessCamera, factory, specification, live=True, deadline_seconds=DEADLINE_SECONDS)
    return SupervisedCamera(make, specification.partition(",")[0])

"""Draws the fields that the virtual machine's cameras and sessions play: a simulated slide, small to be fast.

python devices/verify/draw_fields.py FOLDER WIDTH HEIGHT COUNT
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2

from devices.cameras.simulated import SimulatedCamera
from edge.core.types import Frame

ACROSS_MICROMETRES = 192.0


def main() -> None:
    """Write the fields as 000.png, 001.png, ..."""
    folder, width, height, count = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    folder.mkdir(parents=True, exist_ok=True)
    scale = ACROSS_MICROMETRES / width
    with SimulatedCamera(
        11, fields=count, cells_per_field=12, width=width, height=height, micrometres_per_pixel=scale, overlap=0.2
    ) as camera:
        for number, frame in enumerate(camera.frames()):
            if isinstance(frame, Frame):
                cv2.imwrite(str(folder / f"{number:03}.png"), frame.image)


if __name__ == "__main__":
    main()

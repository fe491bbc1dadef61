"""Writes fields as raw YUYV pictures to standard output, each again and again: v4l2-ctl plays them into vivid.

python devices/verify/play_fields.py FOLDER REPEATS | v4l2-ctl -d /dev/video1 --stream-out-mmap --stream-from=-
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import cv2
import numpy as np


def main() -> None:
    """Play the fields in the order of their names, round and round, until nobody reads any more."""
    pictures = [yuyv(path) for path in sorted(Path(sys.argv[1]).glob("*.png"))]
    with contextlib.suppress(BrokenPipeError), open(1, "wb", closefd=False) as pipe:
        while True:
            for picture in pictures:
                for _ in range(int(sys.argv[2])):
                    pipe.write(picture)


def yuyv(path: Path) -> bytes:
    """A picture as YUYV 4:2:2 with limited range, from planes of half the height."""
    image = cv2.imread(str(path))
    if image is None:
        sys.exit(f"{path} cannot be read")
    height, width = image.shape[:2]
    planes = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420)).reshape(-1)
    luma, blue, red = np.split(planes, [height * width, height * width * 5 // 4])
    packed = np.empty((height, width, 2), np.uint8)
    packed[..., 0] = luma.reshape(height, width)
    for start, plane in ((0, blue), (1, red)):
        packed[:, start::2, 1] = plane.reshape(height // 2, width // 2).repeat(2, axis=0)
    return packed.tobytes()


if __name__ == "__main__":
    main()

"""How fast is a live session, and does its memory grow?

    python tests/bench/live_speed.py --seconds 60 [--cells 3] [--camera-fps 15]

Fields of 1440 x 900 pixels are drawn beforehand, since drawing one takes longer than analysing it, and come again and
again as from a stage that moves back and forth. The whole session runs on them: quality gate, cells, network,
registration, picture with boxes, journal; its state is read ten times a second, as a page does. Fields/s are given by
the wall clock and per second of processor time, which other programs on the machine do not change. Memory is the
resident set after the first fifth and at the end. With `--camera-fps` the camera does not wait: what the loop has no
time for is dropped, and every frame must be accounted for.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import msgspec
import psutil

from devices.cameras.simulated import SimulatedCamera
from edge import app, config
from edge.core.identifiers import uuid7
from edge.live import wiring
from edge.live.order import SessionOrder
from edge.live.session import LiveSession

DRAWN = 24


class Again:
    """A camera that shows the same fields to and fro, by its own clock or as fast as they are taken."""

    def __init__(self, frames: list[Any], seconds: float, per_second: float) -> None:
        self._frames, self._seconds, self._per_second = frames, seconds, per_second
        self.shown = 0

    def __enter__(self) -> Again:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def frames(self) -> Iterator[Any]:
        end = time.monotonic() + self._seconds
        while time.monotonic() < end:
            place = self.shown % (2 * len(self._frames) - 2)
            self.shown += 1
            yield self._frames[min(place, 2 * len(self._frames) - 2 - place)]
            if self._per_second:
                time.sleep(1 / self._per_second)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--cells", type=float, default=3.0, help="mean cells in a field")
    parser.add_argument("--camera-fps", type=float, default=0.0)
    parser.add_argument("--drawn", type=int, default=DRAWN)
    chosen = parser.parse_args()
    cv2.setNumThreads(1)
    with SimulatedCamera(7, fields=chosen.drawn, cells_per_field=chosen.cells, overlap=0.25) as camera:
        frames = list(camera.frames())
    process = psutil.Process()
    with tempfile.TemporaryDirectory() as folder:
        settings = msgspec.structs.replace(config.load(), data_folder=folder)
        source = Again(frames, chosen.seconds, chosen.camera_fps)
        order = SessionOrder("speed", "simulated:", target=400)
        with app.open_classifier(settings) as classifier:
            parts = dataclasses.replace(
                wiring.parts(order.camera, settings),
                open_camera=lambda: source,
                open_classifier=lambda: contextlib.nullcontext(classifier),
                waits=not chosen.camera_fps,
            )
            begun, used = time.monotonic(), time.process_time()
            session = LiveSession(parts, order, uuid7()).start()
            early: int | None = None
            last = begun
            while not (state := session.state()).ended and time.monotonic() - begun < chosen.seconds:
                if early is None and time.monotonic() - begun > chosen.seconds / 5:
                    early = process.memory_info().rss
                last = time.monotonic()
                time.sleep(0.1)
            wall, spent = last - begun, time.process_time() - used
            late, seen = process.memory_info().rss, session.state().fields
            state = session.wait(120)
        size = Path(folder, "results.sqlite3").stat().st_size
    print(
        json.dumps(
            {
                "fields": seen.seen,
                "cells a field": chosen.cells,
                "fields/s by the wall clock": round(seen.seen / wall, 2),
                "fields/s of processor time": round((seen.seen - seen.dropped) / spent, 2),
                "resident after a fifth, MB": None if early is None else round(early / 1e6, 1),
                "resident at the end, MB": round(late / 1e6, 1),
                "memory drift, percent": None if early is None else round(100 * (late - early) / early, 2),
                "dropped": state.fields.dropped,
                "frames of the camera not accounted for": source.shown - state.fields.seen,
                "phase": state.phase,
                "database, MB": round(size / 1e6, 2),
            }
        )
    )


if __name__ == "__main__":
    main()

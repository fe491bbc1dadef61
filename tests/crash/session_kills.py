"""Kills a live session again and again at random moments and resumes it: what was shown as saved must be there.

    python tests/crash/session_kills.py --kills 200 [--seed 1]
    sudo python tests/crash/session_kills.py --kills 50 --power [--seed 1]     the power goes, not only the process

With --power the results lie on an ext4 file system of their own. At the moment of the kill it is shut down without its
log being flushed (FS_IOC_SHUTDOWN, as file systems' own crash tests do): what the kernel held in memory is gone. It is
then mounted anew, which replays its log, and checked by e2fsck. A disk that lies about its own cache is not simulated.

A server process draws the fields and loads the bundle once, then forks a child for each attempt. The child runs the
session and reports every change of what its state shows as saved, until it is killed.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import fcntl
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

FIELDS = 14
SAMPLE = "S-killed"


class Fields:
    """A camera over fields that were drawn before."""

    def __init__(self, frames: list[Any]) -> None:
        self._frames = frames

    def __enter__(self) -> Fields:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def frames(self) -> Iterator[Any]:
        yield from self._frames


def serve(folder: Path) -> None:
    """Fork a session for each line "start ID" or "resume ID" of standard input."""
    import cv2
    import msgspec

    from devices.cameras.simulated import SimulatedCamera
    from edge import app, config
    from edge.live import wiring
    from edge.live.order import SessionOrder
    from edge.live.session import LiveSession

    cv2.setNumThreads(1)
    settings = msgspec.structs.replace(config.load(), data_folder=str(folder))
    with SimulatedCamera(
        11, fields=FIELDS, cells_per_field=12, width=480, height=300, micrometres_per_pixel=0.4, overlap=0.2
    ) as camera:
        frames = list(camera.frames())
    order = SessionOrder(SAMPLE, "simulated:seed=11", target=100)
    with app.open_classifier(settings) as classifier:
        say("ready")
        for line in sys.stdin:
            work, identifier = line.split()
            child = os.fork()
            if child == 0:
                try:
                    parts = dataclasses.replace(
                        wiring.parts(order.camera, settings),
                        open_camera=lambda: Fields(frames),
                        open_classifier=lambda: contextlib.nullcontext(classifier),
                    )
                    follow(LiveSession(parts, order, identifier, resumed=work == "resume").start())
                finally:
                    os._exit(70)
            _, status = os.waitpid(child, 0)
            say("gone", os.waitstatus_to_exitcode(status))


def follow(session: Any) -> None:
    """Report what the session shows as saved, whenever it changes; stay alive at the end, to be killed then too."""
    say("started", os.getpid())
    told: tuple[object, ...] = ()
    while True:
        state = session.state()
        news = (state.fields.saved, state.cells.saved, state.phase, state.result)
        if news != told:
            told = news
            say("saved", *news)
        if state.phase == "failed":
            say("failed", state.trouble)
        time.sleep(0.001)


def say(*words: object) -> None:
    os.write(1, (" ".join(str(word) for word in words) + "\n").encode())


class Disk:
    """An ext4 file system in a file, mounted at `folder`, whose power can be cut. Needs root."""

    SHUTDOWN, WITHOUT_LOG = 0x8004587D, 2

    def __init__(self, image: Path, folder: Path) -> None:
        self._image, self._folder = image, folder

    def __enter__(self) -> Disk:
        subprocess.run(["mke2fs", "-q", "-t", "ext4", self._image, "256M"], check=True)
        self._mount()
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", self._folder], check=False)

    def cut(self) -> None:
        """Stop all writing at once; what was not on the disk never will be."""
        handle = os.open(self._folder, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, self.SHUTDOWN, struct.pack("I", self.WITHOUT_LOG))
        finally:
            os.close(handle)

    def back(self) -> None:
        """Give the power back: mount, which replays the log, and check that the file system is whole."""
        subprocess.run(["umount", self._folder], check=True)
        self._mount()
        subprocess.run(["umount", self._folder], check=True)
        subprocess.run(["e2fsck", "-fn", self._image], check=True, stdout=subprocess.DEVNULL)
        self._mount()

    def _mount(self) -> None:
        subprocess.run(["mount", "-o", "loop", self._image, self._folder], check=True)


def kill_often(kills: int, seed: int, folder: Path, disk: Disk | None = None) -> dict[str, Any]:
    """Kill so often; return what was found. Raises AssertionError for the first thing that was lost."""
    from edge.core.identifiers import uuid7
    from edge.store.journal import SessionJournal
    from edge.store.results import ResultStore

    moments = random.Random(seed)
    path = folder / "results.sqlite3"
    found: dict[str, Any] = {"kills": 0, "sessions": 0, "resumed": 0, "after_a_save": 0, "results": []}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, __file__, "--serve", str(folder)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as server:
        assert server.stdin is not None and server.stdout is not None
        assert server.stdout.readline().strip() == "ready"
        identifier, known, fields, cells = uuid7(), False, 0, 0
        while found["kills"] < kills:
            server.stdin.write(f"{'resume' if known else 'start'} {identifier}\n")
            found["resumed"] += known
            child, reports, result = 0, 0, None
            after = moments.choice([0, 1, 2, 3, 4, 6, 40])
            while True:
                words = server.stdout.readline().split()
                assert words and words[0] != "failed", words
                if words[0] == "started":
                    child = int(words[1])
                elif words[0] == "saved":
                    reports += 1
                    # The count goes on: no later report may be below an earlier one of the same session.
                    if words[3] != "starting":
                        assert int(words[1]) >= fields and int(words[2]) >= cells, (words, fields, cells)
                    fields, cells = max(fields, int(words[1])), max(cells, int(words[2]))
                    result = words[4] if words[3] == "finished" else None
                if child and (reports > after or result is not None):
                    break
            time.sleep(moments.uniform(0, 0.02))
            if disk is not None:
                disk.cut()
            os.kill(child, signal.SIGKILL)
            found["kills"] += 1
            found["after_a_save"] += fields > 0
            while (words := server.stdout.readline().split())[0] != "gone":
                if words[0] == "saved":
                    fields, cells = max(fields, int(words[1])), max(cells, int(words[2]))
                    result = words[4] if words[3] == "finished" else result
            assert words == ["gone", str(-signal.SIGKILL)], words
            if disk is not None:
                disk.back()
            if not path.exists():
                assert fields == 0, f"{fields} fields were shown as saved, there is no database"
                known = False
                continue
            with SessionJournal(path) as journal:
                known = any(each.id == identifier for each in journal.sessions())
                entries = list(journal.fields(identifier)) if known else []
            assert len(entries) >= fields, f"{fields} fields were shown as saved, {len(entries)} are there"
            kept = sum(len(each.field.cells) for each in entries)
            assert kept >= cells, f"{cells} cells were shown as saved, {kept} are there"
            with ResultStore(path) as store:
                assert store.check_integrity() == ()
                assert store.verify_audit().problems == ()
                record = store.get(identifier)
            if result is not None:
                assert record is not None, "a result that was shown as saved is not there"
            if record is not None and result is not None:
                counts = record.document["differential"]
                total = [counts["counted"] + counts["other"], *(c["count"] for c in counts["classes"].values())]
                found["results"].append(total)
                found["sessions"] += 1
                identifier, known, fields, cells = uuid7(), False, 0, 0
        server.stdin.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--power", action="store_true", help="cut the power of a file system: needs root")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve is not None:
        serve(chosen.serve)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not chosen.power:
            print(json.dumps(kill_often(chosen.kills, chosen.seed, folder)))
            return
        (folder / "data").mkdir()
        with Disk(folder / "disk.img", folder / "data") as disk:
            print(json.dumps(kill_often(chosen.kills, chosen.seed, folder / "data", disk)))


if __name__ == "__main__":
    main()

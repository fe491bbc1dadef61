"""How fast the device path is, beside its peer, in one run on one thread.

The peer is Google's MobileNetV2 1.0 224 in INT8 (`make_peer.py`). Student and peer take the same cells of the same
fields by turns, each with its own crop and preprocessing, so that what else the machine does falls on both alike;
medians are reported.

    python tests/bench/speed.py --peer PEER.tflite [--fields 40] [--markdown] [--check]

Prints one JSON document, or a table for a page. `--check` ends with status 3 when a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

TARGETS = {
    "peer_to_student": ("at least", 8.0),
    "locate_and_classify_milliseconds": ("at most", 60.0),
    "resident_megabytes": ("at most", 200.0),
    "help_seconds": ("at most", 0.5),
}
"""The student's time per cell against the peer's, a field with three cells, memory, and `leuko --help`."""

COMMAND = "import sys; from edge.cli.main import main; sys.argv = ['leuko', *sys.argv[1:]]; main()"
COMMAND_WITH_MEMORY = (
    "import atexit, sys\n"
    "from edge.health.machine import resident_memory\n"
    "atexit.register(lambda: sys.stderr.write(f'\\nPEAK {resident_memory()[1]}\\n'))\n" + COMMAND
)


def measure(peer_file: Path, bundle: Path | None, fields: int) -> dict[str, Any]:
    """All figures of one run."""
    import cv2

    from devices.cameras.simulated import SimulatedCamera
    from devices.runtimes.litert import LiteRTRuntime
    from edge import app, config
    from edge.health import bench
    from edge.imaging import flatfield
    from edge.imaging.crop import cut
    from edge.imaging.locate import locate
    from edge.imaging.preprocess import Preprocessing, to_input

    cv2.setNumThreads(1)
    settings = config.load(environment={**os.environ, **({"LEUKO_BUNDLE": str(bundle)} if bundle else {})})
    with SimulatedCamera.from_spec(f"simulated:seed=11,fields={fields + 1},cells=3") as camera:
        frames = list(camera.frames())

    student_times: list[float] = []
    peer_times: list[float] = []
    field_times: list[bench.FieldTimes] = []
    with app.open_classifier(settings) as classifier, LiteRTRuntime(peer_file, threads=1) as peer:
        margin, size = classifier.manifest.preprocessing.margin, classifier.manifest.preprocessing.size
        peer_side = peer.input_shape[0]
        peer_preprocessing = Preprocessing(size=peer_side, margin=margin)

        def student_cell(corrected: Any, cell: Any) -> float:
            started = time.perf_counter()
            classifier.classify([cut(corrected, cell, size, margin)], [cell.box], with_activation=True)
            return 1000 * (time.perf_counter() - started)

        def peer_cell(corrected: Any, cell: Any) -> float:
            started = time.perf_counter()
            peer.run(to_input(cut(corrected, cell, peer_side, margin), peer_preprocessing)[None])
            return 1000 * (time.perf_counter() - started)

        for number, frame in enumerate(frames):
            times = bench.time_field(frame, classifier)
            corrected = flatfield.correct(frame.image)
            for index, cell in enumerate(locate(corrected)):
                # By turns in the order too: the second finds the cell's pixels in the cache.
                if index % 2:
                    first, second = peer_cell(corrected, cell), student_cell(corrected, cell)
                    peer_one, student_one = first, second
                else:
                    student_one, peer_one = student_cell(corrected, cell), peer_cell(corrected, cell)
                if number:
                    student_times.append(student_one)
                    peer_times.append(peer_one)
            if number:
                field_times.append(times)
        speed = bench.summarise(field_times, classifier)
        peer_info = f"{peer.info} {peer.info.version}"
    if not student_times:
        sys.exit("no cell was located in any field: nothing to compare")

    student_ms, peer_ms = statistics.median(student_times), statistics.median(peer_times)
    three = [field for field in field_times if field.cells == 3] or [field for field in field_times if field.cells]
    stages = ("locate", "crop", "classify")
    located = [sum(field.milliseconds[stage] for stage in stages) for field in three]
    located_processor = [sum(field.processor_milliseconds[stage] for stage in stages) for field in three]
    figures = {
        "machine": asdict(speed.machine),
        "bundle": speed.bundle,
        "runtime": f"{speed.runtime} {speed.runtime.version}",
        "peer": {"file": peer_file.name, "runtime": peer_info, "side": peer_side},
        "fields": speed.fields,
        "cells": speed.cells,
        "stages_milliseconds": dict(speed.stages),
        "stages_processor_milliseconds": dict(speed.stages_processor),
        "field_milliseconds": speed.milliseconds_per_field,
        "fields_with_three_cells": len([field for field in field_times if field.cells == 3]),
        "locate_and_classify_milliseconds": statistics.median(located),
        "locate_and_classify_processor_milliseconds": statistics.median(located_processor),
        "student_cell_milliseconds": student_ms,
        "peer_cell_milliseconds": peer_ms,
        "peer_to_student": peer_ms / student_ms,
        "resident_megabytes": resident_megabytes(frames[1:6], bundle),
        "help_seconds": help_seconds(),
    }
    figures["missed"] = missed(figures)
    return figures


def environment(home: Path, bundle: Path | None = None) -> dict[str, str]:
    """A child's environment: nothing of the user's configuration, one thread."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "LEUKO_CONFIG"))}
    added = {
        "PYTHONPATH": str(ROOT),
        "HOME": str(home),
        "OMP_NUM_THREADS": "1",
        "LEUKO_DATA_FOLDER": str(home / "data"),
    }
    return {**kept, **added, **({"LEUKO_BUNDLE": str(bundle)} if bundle else {})}


def resident_megabytes(frames: Sequence[Any], bundle: Path | None) -> float:
    """Peak resident memory of a fresh process that analyses these fields into the store, in units of 10^6 bytes."""
    import cv2

    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        (home / "fields").mkdir()
        for number, frame in enumerate(frames):
            cv2.imwrite(str(home / "fields" / f"{number}.png"), frame.image)
        done = subprocess.run(
            [sys.executable, "-c", COMMAND_WITH_MEMORY, "analyze", str(home / "fields"), "--json"],
            env=environment(home, bundle),
            capture_output=True,
            text=True,
            check=False,
        )
    peaks = [line for line in done.stderr.splitlines() if line.startswith("PEAK ")]
    if done.returncode != 0 or not peaks:
        sys.exit(f"analyze ended with status {done.returncode}:\n{done.stderr}")
    return int(peaks[-1].split()[1]) / 1e6


def help_seconds(runs: int = 11) -> float:
    """Median wall time of `leuko --help` in a fresh process, in seconds."""
    times = []
    with tempfile.TemporaryDirectory() as name:
        for _ in range(runs):
            started = time.perf_counter()
            subprocess.run(
                [sys.executable, "-c", COMMAND, "--help"],
                env=environment(Path(name)),
                stdout=subprocess.DEVNULL,
                check=True,
            )
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def missed(figures: dict[str, Any]) -> list[str]:
    """The targets that the figures miss."""
    return [
        name
        for name, (sense, bound) in TARGETS.items()
        if (figures[name] < bound if sense == "at least" else figures[name] > bound)
    ]


def markdown(figures: dict[str, Any]) -> str:
    """The figures as a table."""
    machine = figures["machine"]
    rows = [
        ("figure", "measured", "of it processor", "target"),
        ("---", "---:", "---:", "---:"),
        *(
            (f"{stage}, ms a field", f"{value:.2f}", f"{figures['stages_processor_milliseconds'][stage]:.2f}", "")
            for stage, value in figures["stages_milliseconds"].items()
        ),
        ("whole field, ms", f"{figures['field_milliseconds']:.1f}", "", ""),
        (
            "locate + crop + classify, three cells, ms",
            f"{figures['locate_and_classify_milliseconds']:.1f}",
            f"{figures['locate_and_classify_processor_milliseconds']:.1f}",
            "<= 60",
        ),
        ("student, ms a cell", f"{figures['student_cell_milliseconds']:.2f}", "", ""),
        ("peer, ms a cell", f"{figures['peer_cell_milliseconds']:.2f}", "", ""),
        ("peer / student", f"{figures['peer_to_student']:.1f}", "", ">= 8"),
        ("resident memory of `leuko analyze`, peak, MB", f"{figures['resident_megabytes']:.0f}", "", "<= 200"),
        ("`leuko --help`, s", f"{figures['help_seconds']:.2f}", "", "<= 0.5"),
    ]
    note = (
        f"{figures['bundle']} on {figures['runtime']}, one thread; peer MobileNetV2 1.0 {figures['peer']['side']} on "
        f"{figures['peer']['runtime']}; {machine['processor']}, {machine['cores']} cores, {machine['architecture']}, "
        f"Python {machine['python']}; medians of {figures['fields']} fields of 1440x900 with {figures['cells']} cells."
    )
    return "\n".join(["| " + " | ".join(row) + " |" for row in rows] + ["", note])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True, help="the peer's file, as make_peer.py writes it")
    parser.add_argument("--bundle", type=Path, help="folder of a bundle; the shipped one when left out")
    parser.add_argument("--fields", type=int, default=40)
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    figures = measure(arguments.peer, arguments.bundle, max(1, arguments.fields))
    print(markdown(figures) if arguments.markdown else json.dumps(figures, indent=2))
    if arguments.check and figures["missed"]:
        sys.exit(3)


if __name__ == "__main__":
    main()

"""How fast the device path is, beside its peer, in one run on one thread.

The peer is Google's MobileNetV2 1.0 224 in INT8 (`make_peer.py`). Student and peer take all the cells of the same
fields by turns, each with its own crop and preprocessing, so that what else the machine does falls on both alike;
medians are reported.

    python tests/bench/speed.py --peer PEER.tflite [--fields 40] [--by-field] [--markdown] [--check]

Prints one JSON document, or a table for a page. `--check` ends with status 3 when a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge.core.types import Image, LocatedCell

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

TARGETS = {
    "peer_to_student": ("at least", 8.0),
    "locate_and_classify_milliseconds": ("at most", 60.0),
    "resident_megabytes": ("at most", 200.0),
    "help_seconds": ("at most", 0.5),
}
"""The student's time per cell against the peer's, a field with three cells, memory, and `leuko --help`."""

ROUNDS = 4
"""How often all the cells are taken by either, after one turn that is not counted."""

COMMAND = "import sys; from edge.cli.main import main; sys.argv = ['leuko', *sys.argv[1:]]; main()"
COMMAND_WITH_MEMORY = (
    "import atexit, sys\n"
    "from edge.health.machine import resident_memory\n"
    "atexit.register(lambda: sys.stderr.write(f'\\nPEAK {resident_memory()[1]}\\n'))\n" + COMMAND
)


Times = tuple[float, float]
"""A time on the wall and of the processor; per cell in milliseconds."""


def per_cell(work: Callable[[], object], cells: int) -> Times:
    """Time `work`, which takes that many cells."""
    started, started_processor = time.perf_counter(), time.process_time()
    work()
    wall, processor = time.perf_counter() - started, time.process_time() - started_processor
    return 1000 * wall / cells, 1000 * processor / cells


def medians(times: Sequence[Times]) -> Times:
    """The median of each."""
    return statistics.median(wall for wall, _ in times), statistics.median(processor for _, processor in times)


def fastest_tenth(times: Sequence[Times]) -> float:
    """The time on the wall that a tenth of the runs stay below: what the machine does when it is left alone."""
    ranked = sorted(wall for wall, _ in times)
    return ranked[len(ranked) // 10]


def measure(peer_file: Path, bundle: Path | None, fields: int, by_field: bool = False) -> dict[str, Any]:
    """All figures of one run."""
    import cv2
    import numpy as np

    from devices.cameras.simulated import SimulatedCamera
    from devices.runtimes.litert import LiteRTRuntime
    from edge import app, config
    from edge.health import bench
    from edge.imaging import flatfield
    from edge.imaging.crop import cut
    from edge.imaging.locate import locate
    from edge.imaging.preprocess import Preprocessing, to_input
    from edge.inference.classifier import cut_wider

    cv2.setNumThreads(1)
    settings = config.load(environment={**os.environ, **_other(bundle)})
    with SimulatedCamera.from_spec(f"simulated:seed=11,fields={fields + 1},cells=3") as camera:
        frames = list(camera.frames())

    student_times: list[Times] = []
    peer_times: list[Times] = []
    field_times: list[bench.FieldTimes] = []
    with app.open_classifier(settings) as classifier, LiteRTRuntime(peer_file, threads=1) as peer:
        margin, size = classifier.manifest.preprocessing.margin, classifier.manifest.preprocessing.size
        peer_side = peer.input_shape[0]
        peer_preprocessing = Preprocessing(size=peer_side, margin=margin)

        def student_cells(corrected: Image, cells: Sequence[LocatedCell]) -> object:
            crops = [cut(corrected, cell, size, margin) for cell in cells]
            wider = cut_wider(corrected, cells, classifier.manifest.preprocessing)
            return classifier.classify(crops, [cell.box for cell in cells], with_activation=True, wider=wider)

        def peer_cells(corrected: Image, cells: Sequence[LocatedCell]) -> object:
            crops = [cut(corrected, cell, peer_side, margin) for cell in cells]
            return peer.run(np.stack([to_input(crop, peer_preprocessing) for crop in crops]))

        located_fields: list[tuple[Image, tuple[LocatedCell, ...]]] = []
        for number, frame in enumerate(frames):
            times = bench.time_field(frame, classifier)
            corrected = flatfield.correct(frame.image)
            if cells := locate(corrected):
                located_fields.append((corrected, cells))
            if number:
                field_times.append(times)
        pairs = [(student_cells, student_times), (peer_cells, peer_times)]
        # In blocks each takes all the cells in a row, as on a device that runs one network; by field, either finds the
        # caches filled with the other's weights, which costs the small network more.
        blocks = [[field] for field in located_fields] if by_field else [located_fields]
        for turn in range(ROUNDS + 1):
            for block in blocks:
                for work, kept in pairs[:: -1 if turn % 2 else 1]:
                    for corrected, cells in block:
                        found = per_cell(partial(work, corrected, cells), len(cells))
                        if turn:
                            kept.append(found)
        speed = bench.summarise(field_times, classifier)
        peer_info = f"{peer.info} {peer.info.version}"
    if not student_times:
        sys.exit("no cell was located in any field: nothing to compare")

    student, student_processor = medians(student_times)
    peer_cell, peer_processor = medians(peer_times)
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
        "student_cell_milliseconds": student,
        "student_cell_processor_milliseconds": student_processor,
        "peer_cell_milliseconds": peer_cell,
        "peer_cell_processor_milliseconds": peer_processor,
        "peer_to_student": peer_cell / student,
        "peer_to_student_processor": peer_processor / student_processor,
        "student_cell_fastest_tenth_milliseconds": fastest_tenth(student_times),
        "peer_cell_fastest_tenth_milliseconds": fastest_tenth(peer_times),
        "peer_to_student_fastest_tenth": fastest_tenth(peer_times) / fastest_tenth(student_times),
        "resident_megabytes": resident_megabytes(frames[1:6], bundle),
    }
    figures["help_seconds"], figures["help_processor_seconds"] = help_seconds()
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
    return {**kept, **added, **_other(bundle)}


def _other(bundle: Path | None) -> dict[str, str]:
    """Settings that name another bundle, which nobody has signed."""
    return {"LEUKO_BUNDLE": str(bundle), "LEUKO_ALLOW_UNSIGNED_BUNDLE": "1"} if bundle else {}


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


def help_seconds(runs: int = 11) -> Times:
    """Median time of `leuko --help` in a fresh process, in seconds: on the wall, and of the processor."""
    times: list[Times] = []
    with tempfile.TemporaryDirectory() as name:
        for _ in range(runs):
            started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(
                [sys.executable, "-c", COMMAND, "--help"],
                env=environment(Path(name)),
                stdout=subprocess.DEVNULL,
                check=True,
            )
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            processor = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
            times.append((time.perf_counter() - started, processor))
    return medians(times)


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
        *(
            (
                f"{who}, ms a cell",
                f"{figures[f'{who}_cell_milliseconds']:.2f}",
                f"{figures[f'{who}_cell_processor_milliseconds']:.2f}",
                "",
            )
            for who in ("student", "peer")
        ),
        (
            "peer / student",
            f"{figures['peer_to_student']:.1f}",
            f"{figures['peer_to_student_processor']:.1f}",
            ">= 8",
        ),
        ("peer / student, fastest tenth of the runs", f"{figures['peer_to_student_fastest_tenth']:.1f}", "", ""),
        ("resident memory of `leuko analyze`, peak, MB", f"{figures['resident_megabytes']:.0f}", "", "<= 200"),
        ("`leuko --help`, s", f"{figures['help_seconds']:.2f}", f"{figures['help_processor_seconds']:.2f}", "<= 0.5"),
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
    parser.add_argument("--by-field", action="store_true", help="change networks at every field, not in blocks")
    arguments = parser.parse_args()
    figures = measure(arguments.peer, arguments.bundle, max(1, arguments.fields), arguments.by_field)
    print(markdown(figures) if arguments.markdown else json.dumps(figures, indent=2))
    if arguments.check and figures["missed"]:
        sys.exit(3)


if __name__ == "__main__":
    main()

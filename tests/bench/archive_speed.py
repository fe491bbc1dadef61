"""The same fields on one worker, two, and a Ray cluster: are the tables equal to the byte, and how long does each take?

    python tests/bench/archive_speed.py FIELDS [--fields 120] [--ray-address HOST:PORT] [--engine serial ...]

Runs `leuko analyze --archive` for each engine. Prints JSON lines: seconds from start to end of the command, and of the
work alone; fields a second of the work; processor seconds of the command and its processes, without those of a
cluster; the load of the machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from commands import LEUKO, environment  # noqa: E402

ENGINES = {
    "serial": ["--engine", "serial"],
    "one process": ["--engine", "processes", "--workers", "1"],
    "two processes": ["--engine", "processes", "--workers", "2"],
    "ray": ["--engine", "ray", "--workers", "2"],
}


def measure(name: str, fields: Path, home: Path, address: str) -> dict[str, object]:
    """Run the command once."""
    out = home / name
    words = ["analyze", str(fields), "--archive", str(out), "--json", *ENGINES[name]]
    words += ["--ray-address", address] if name == "ray" and address else []
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    done = subprocess.run([*LEUKO, *words], env=environment(home), cwd=home, capture_output=True, check=False)
    took = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in {0, 1}:
        raise SystemExit(done.stderr.decode())
    summary = json.loads(done.stdout)
    digest = hashlib.sha256()
    for table in ("fields.jsonl", "folders.jsonl"):
        digest.update((out / table).read_bytes())
    placed = [line for line in done.stderr.decode().splitlines() if "nodes" in line]
    return {
        "engine": name,
        "placed": placed[0] if placed else "this machine",
        "fields": summary["fields"],
        "counted": summary["counted"],
        "seconds": round(took, 1),
        "seconds_of_work": summary["seconds"],
        "fields_per_second": round(summary["fields"] / summary["seconds"], 2),
        "processor_seconds": round(after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime, 1),
        "largest_process_mb": round(after.ru_maxrss / 1000),
        "load_average": round(os.getloadavg()[0], 1),
        "tables_sha256": digest.hexdigest()[:16],
    }


def main() -> None:
    """Measure, and print; ends with 1 when the tables differ."""
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("folder", type=Path)
    reader.add_argument("--fields", type=int, default=120)
    reader.add_argument("--ray-address", default="")
    reader.add_argument("--engine", action="append", choices=list(ENGINES), default=[])
    asked = reader.parse_args()
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        fields = home / "fields"
        fields.mkdir()
        for path in sorted(asked.folder.iterdir())[: asked.fields]:
            (fields / path.name).symlink_to(path.resolve())
        found = []
        for name in asked.engine or ENGINES:
            found.append(measure(name, fields, home, asked.ray_address))
            print(json.dumps(found[-1]), flush=True)
    sys.exit(len({each["tables_sha256"] for each in found}) != 1)


if __name__ == "__main__":
    main()

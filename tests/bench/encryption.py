"""What encryption costs: processor time to open the store, to save a result and to read it, with and without.

python tests/bench/encryption.py --results 200 --picture-bytes 60000
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from edge.core.clock import read
from edge.core.identifiers import uuid7
from edge.core.types import Picture, ResultRecord
from edge.store import encrypting
from edge.store.results import ResultStore


def record(size: int) -> ResultRecord:
    """A result with a field and ten cells."""
    source = random.Random(7)
    identifier = uuid7()
    pictures = (
        Picture("field", 0, None, identifier.encode() + source.randbytes(size)),
        *(Picture("cell", 0, cell, identifier.encode() + source.randbytes(size // 20)) for cell in range(10)),
    )
    document = {"id": identifier, "cells": [source.random() for _ in range(1000)]}
    return ResultRecord(
        *(identifier, 1, "S-1", "operator", "device", read(), "preliminary", "bundle@1", "0" * 64, "litert-int8"),
        *(None, None, document, pictures),
    )


def measure(path: Path, count: int, size: int) -> tuple[float, float, float, int]:
    """Milliseconds of the processor: opening, saving one, reading one; and bytes of the file."""
    records = [record(size) for _ in range(count)]
    start = time.process_time()
    for _ in range(20):
        with ResultStore(path):
            pass
    opened = (time.process_time() - start) / 20
    with ResultStore(path) as store:
        start = time.process_time()
        for each in records:
            store.save(each)
        saved = (time.process_time() - start) / count
        start = time.process_time()
        for each in records:
            assert store.get(each.id) is not None
        got = (time.process_time() - start) / count
    return opened * 1000, saved * 1000, got * 1000, path.stat().st_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=int, default=200)
    parser.add_argument("--picture-bytes", type=int, default=60_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        encrypting.make_key(folder / "key")
        with ResultStore(folder / "plain.sqlite3"):
            pass
        encrypting.encrypt(folder / "encrypted.sqlite3", str(folder / "key"))
        for name in ("plain", "encrypted"):
            opened, saved, got, size = measure(folder / f"{name}.sqlite3", given.results, given.picture_bytes)
            sys.stdout.write(
                f"{name}: open {opened:.2f} ms, save {saved:.2f} ms, read {got:.2f} ms a result, {size / 1e6:.1f} MB\n"
            )


if __name__ == "__main__":
    main()

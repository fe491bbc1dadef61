"""The child that crash tests kill: it saves results and reports each once the store says that it is safe.

    saver.py serve             forks a child for each line "WORK PATH" of standard input, and tells when it is gone
    saver.py fill PATH LIMIT   saves until the disk refuses, then reads back what was saved

Imports stand at the top so that a forked child starts at once.
"""

from __future__ import annotations

import json
import os
import random
import resource
import sys
from pathlib import Path

from edge.core.clock import read
from edge.core.durable import write_text
from edge.core.errors import StoreError
from edge.core.identifiers import uuid7
from edge.core.types import Picture, ResultRecord
from edge.store.results import ResultStore


def made(identifier: str, pictures: int = 3, size: int = 3_000) -> ResultRecord:
    """A result whose contents follow from its id, so that a reader can tell whether it is whole."""
    source = random.Random(identifier)
    return ResultRecord(
        id=identifier,
        version=1,
        sample=f"sample-{source.randrange(5)}",
        operator="operator",
        device="device",
        created=read(),
        status="preliminary",
        bundle="bundle@1",
        bundle_sha256="0" * 64,
        runtime="litert-int8",
        calibration=None,
        throttle_bits=None,
        document={"id": identifier, "cells": [source.random() for _ in range(100)]},
        pictures=tuple(Picture("cell", 0, number, source.randbytes(size)) for number in range(pictures)),
    )


def say(*words: object) -> None:
    """Report in one write, which a pipe takes whole or not at all."""
    os.write(1, (" ".join(str(word) for word in words) + "\n").encode())


def save_for_ever(path: Path) -> None:
    with ResultStore(path) as store:
        while True:
            record = made(uuid7())
            store.save(record)
            say("saved", record.id, 1)
            if record.id[-1] in "0123":
                store.sign(record.id, "physician", "reviewed")
                say("saved", record.id, 2)


def write_for_ever(path: Path) -> None:
    number = 0
    while True:
        number += 1
        write_text(path, f"{number}\n" * 5_000)
        say("written", number)


WORK = {"save": save_for_ever, "write": write_for_ever}


def serve() -> None:
    for line in sys.stdin:
        work, path = line.rstrip("\n").split(" ", 1)
        child = os.fork()
        if child == 0:
            try:
                WORK[work](Path(path))
            finally:
                # Reached only when the work failed: the test reads it as a child that was not killed.
                os._exit(70)
        say("started", child)
        _, status = os.waitpid(child, 0)
        say("gone", os.waitstatus_to_exitcode(status))


def fill(path: Path, limit: int) -> None:
    saved: list[str] = []
    codes: list[str] = []
    with ResultStore(path) as store:
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        while len(codes) < 3 and len(saved) < 10_000:
            record = made(uuid7())
            try:
                store.save(record)
                saved.append(record.id)
            except StoreError as error:
                codes.append(error.code)
                assert error.cure
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.getrlimit(resource.RLIMIT_FSIZE)[1],) * 2)
    with ResultStore(path) as store:
        intact = store.verify_audit().intact
        sound = store.check_integrity() == ()
        kept = [entry.id for entry in store.outbox()]
    sys.stdout.write(
        json.dumps({"saved": saved, "codes": codes, "kept": kept, "intact": intact, "sound": sound}) + "\n"
    )


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        fill(Path(sys.argv[2]), int(sys.argv[3]))

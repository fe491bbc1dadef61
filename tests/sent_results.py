"""Results to be sent, and a device that sends them, for the tests of `edge.sync`."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import msgspec

from edge import config
from edge.core.clock import read
from edge.core.identifiers import uuid7
from edge.core.types import Picture, ResultRecord
from edge.store.results import ResultStore
from edge.sync import service
from edge.sync.settings import HubDestination, Local, local_file

LABELS = ("neutrophil", "lymphocyte", "monocyte", "eosinophil", "basophil")


def jpeg(seed: int, size: int = 300) -> bytes:
    """Bytes that begin as a JPEG does, and are no picture."""
    body = random.Random(seed).randbytes(size).replace(b"\xff", b"\x00")
    return b"\xff\xd8\xff\xda\x00\x02" + body + b"\xff\xd9"


def document(sample: str, counted: int = 200, other: int = 3) -> dict[str, Any]:
    counts = [counted - 4 * (counted // 6), *[counted // 6] * 4]
    claimed = counted >= 100

    def share(count: int) -> dict[str, Any]:
        percent = 100 * count / counted if counted else 0
        limits = [round(max(0.0, percent - 5), 4), round(percent + 5, 4)] if claimed else None
        return {
            "count": count,
            "percent": round(percent, 4) if claimed else None,
            "wilson": limits,
            "clopper_pearson": limits,
        }

    return {
        "sample": sample,
        "fields": [
            {
                "file": "/media/card/Okafor Ann 1971/f1.jpg",
                "width": 640,
                "height": 480,
                "quality": {"accepted": True, "reasons": [], "focus": 0.4},
                "cells": [],
            },
            {
                "file": "/media/card/Okafor Ann 1971/f2.jpg",
                "error": {"code": "truncated", "message": "Okafor's is cut"},
            },
        ],
        "differential": {
            "counted": counted,
            "tier": "differential" if claimed else "insufficient",
            "classes": {label: share(count) for label, count in zip(LABELS, counts, strict=True)},
            "other": other,
            "flags": [] if claimed else ["low-count"],
        },
        "bundle": "wbc-student@0.2.0",
        "runtime": "litert-int8",
        "elapsed_seconds": 2.5,
    }


def made(sample: str = "S-1", seed: int = 0, *, pictures: int = 3, size: int = 300, **changes: Any) -> ResultRecord:
    kept = tuple(
        Picture("field" if n == 0 else "cell", 0, None if n == 0 else n - 1, jpeg(1000 * seed + n, size))
        for n in range(pictures)
    )
    record = ResultRecord(
        id=uuid7(),
        version=1,
        sample=sample,
        operator="Ann",
        device="scope-7",
        created=read(),
        status="preliminary",
        bundle="wbc-student@0.2.0",
        bundle_sha256="ab" * 32,
        runtime="litert-int8",
        calibration=None,
        throttle_bits=None,
        document=document(sample),
        pictures=kept,
    )
    return dataclasses.replace(record, **changes)


class Device:
    """A store with its configuration, and the worker on it."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        loaded = config.load(environment={"LEUKO_DATA_FOLDER": str(folder), "LEUKO_DEVICE": "scope-7"})
        sync = msgspec.structs.replace(
            loaded.sync, first_retry_seconds=0.001, longest_retry_seconds=0.02, metered="no", **changes.pop("sync", {})
        )
        storage = msgspec.structs.replace(
            loaded.storage, refuse_below_megabytes=0, release_below_megabytes=0, **changes.pop("storage", {})
        )
        self.config = msgspec.structs.replace(loaded, sync=sync, storage=storage, **changes)
        self.folder = folder
        with self.store():
            pass

    def store(self) -> ResultStore:
        return ResultStore(self.config.database_path)

    def save(self, *records: ResultRecord) -> None:
        with self.store() as store:
            for record in records:
                store.save(record)

    def enrol(self, url: str, code: str = "CODE-1") -> None:
        service.enrol(self.config, url, code, name="hub", ca_file="", device_class="pi5")

    def point_at(self, url: str) -> None:
        local_file(self.folder).write_bytes(msgspec.json.encode(Local((HubDestination("hub", url),))))

    def run(self, *names: str, patience: float = 20.0) -> dict[str, Any]:
        return {tally.name: tally for tally in service.run(self.config, names, patience=patience)}

    def counts(self, name: str = "hub") -> dict[str, int]:
        found = {each.destination.name: each.counts for each in service.status(self.config)}[name]
        return {state: count for state, count in found.items() if count}

"""What comes of an archive: `fields.jsonl`, a line a field; `folders.jsonl`, a count a folder; `summary.json`, sums.

Each is written a line at a time and put in its place when it is whole; `summary.json` last. The first two hold nothing
that depends on the engine, the number of workers, or when it ran.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Final

from edge import files, session
from edge.archive import codec
from edge.archive.fields import Identity
from edge.archive.workfile import WorkFile
from edge.core import durable
from edge.core.differential import differential
from edge.core.labels import LABELS
from edge.core.types import Box, BundleOrigin, CellCall, FieldFailure, FieldResult
from edge.imaging.quality import QualityReference
from edge.report import document

REFERENCE_LIMIT: Final = 10_000
"""Fields of a folder, from its first, whose medians the others are held against: memory must not grow with a folder."""

SUMMARY: Final = "summary.json"


@dataclass
class Summary:
    """Sums over an archive. There are no percentages: its folders are not one sample."""

    folders: int
    fields: int
    refused: int
    unreadable: int
    counted: int
    other: int
    classes: dict[str, int]
    software: str
    bundle: str
    bundle_sha256: str
    bundle_origin: BundleOrigin
    runtime: str
    calibration: str | None
    engine: str
    seconds: float


def finished(out: Path) -> bool:
    """Whether a folder holds a finished analysis."""
    return (out / SUMMARY).exists()


def write(
    work: WorkFile,
    out: Path,
    *,
    ranges: Mapping[str, tuple[float, float]],
    identity: Identity,
    reference: QualityReference | None,
    origin: BundleOrigin,
    engine: str,
    seconds: float,
) -> Summary:
    """Write the three files of a work file of which every piece is done."""
    total: Counter[str] = Counter()
    with tempfile.TemporaryFile(dir=out) as counts:
        durable.write_chunks(out / "fields.jsonl", _fields(work, counts, total, ranges, origin=origin, known=reference))
        counts.seek(0)
        durable.write_chunks(out / "folders.jsonl", counts)
    summary = Summary(
        folders=total["folders"],
        fields=total["fields"],
        refused=total["refused"],
        unreadable=total["unreadable"],
        counted=total["counted"],
        other=total["other"],
        classes={label: total[label] for label in LABELS},
        software=identity.software,
        bundle=identity.bundle,
        bundle_sha256=identity.bundle_sha256,
        bundle_origin=origin,
        runtime=identity.runtime,
        calibration=identity.calibration or None,
        engine=engine,
        seconds=round(seconds, 1),
    )
    durable.write_text(out / SUMMARY, json.dumps(asdict(summary), indent=2) + "\n")
    return summary


def _fields(  # each is another thing
    work: WorkFile,
    counts: IO[bytes],
    total: Counter[str],
    ranges: Mapping[str, tuple[float, float]],
    *,
    origin: BundleOrigin,
    known: QualityReference | None,
) -> Iterator[bytes]:
    """Give the line of each field; on the way write the line of each folder to `counts`, and add up `total`."""
    for folder in work.folders():
        fields = (codec.decode(data, pictures=False) for data in work.parts(folder.first, folder.end))
        accepted = (each.quality for each in fields if isinstance(each, FieldResult) and each.quality.accepted)
        reference = session.own_reference(itertools.islice(accepted, REFERENCE_LIMIT), known)
        tally: Counter[str] = Counter(folders=1)
        calls: Counter[tuple[str, bool]] = Counter()
        for data in work.parts(folder.first, folder.end):
            found = codec.decode(data, pictures=False)
            if reference is not None:
                found = session.held_against(found, reference)
            tally["fields"] += 1
            if isinstance(found, FieldFailure):
                tally["unreadable"] += 1
            else:
                tally["refused"] += not found.quality.accepted
                calls.update((cell.call.label, cell.call.abstained) for cell in found.cells)
            yield _line(document.entry(found))
        counted = differential(_alike(calls), ranges)
        figures = {name: tally[name] for name in ("fields", "refused", "unreadable")}
        shares = document.differential_document(session.stamped(counted, origin))
        counts.write(_line({"folder": files.display_name(folder.name), **figures, "differential": shares}))
        total.update(tally)
        total.update({"counted": counted.counted, "other": counted.other})
        total.update({label: share.count for label, share in counted.classes.items()})


def _alike(calls: Counter[tuple[str, bool]]) -> Iterator[CellCall]:
    """Give as many calls of each kind as were counted: a count needs nothing else of them."""
    for (label, abstained), number in calls.items():
        yield from itertools.repeat(CellCall(label, (), abstained, None, Box(0, 0, 0, 0)), number)


def _line(value: object) -> bytes:
    return json.dumps(value, allow_nan=False).encode() + b"\n"

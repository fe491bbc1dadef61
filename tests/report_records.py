"""Made-up records for the tests of the report; their pictures are drawn."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from edge.core.differential import differential
from edge.core.labels import LABELS, OTHER
from edge.core.types import (
    Analysis,
    Box,
    CellCall,
    CellResult,
    ClockReading,
    FieldFailure,
    FieldResult,
    Quality,
    ResultRecord,
    RuntimeInfo,
)
from edge.report.document import document, pictures
from edge.report.html import render

RANGES = {
    "neutrophil": (40.0, 70.0),
    "lymphocyte": (20.0, 40.0),
    "monocyte": (2.0, 8.0),
    "eosinophil": (0.0, 4.0),
    "basophil": (0.0, 1.0),
}
PROFILE = "adult - replace with local"


def drawn(seed, height=96, width=96):
    """A disc on a light ground, different for every seed."""
    image = np.full((height, width, 3), (228, 224, 236), np.uint8)
    colour = (90 + seed % 60, 40 + seed % 40, 100 + seed % 90)
    cv2.circle(image, (width // 2, height // 2), min(height, width) // 4, colour, -1)
    return image


def cell(label, top=0.95, abstained=False, seed=0, activation=True):
    best = LABELS.index(label) if label in LABELS else seed % 5
    rest = (1 - top) / 4
    return CellResult(
        CellCall(
            label=label,
            probabilities=tuple(top if i == best else rest for i in range(5)),
            abstained=abstained,
            reason="low-confidence" if abstained else None,
            box=Box(10 * (seed % 20), 8 * (seed % 25), 60, 60),
            activation=np.eye(6, dtype=np.float32) if activation else None,
        ),
        drawn(seed),
    )


def field(cells=(), accepted=True, reasons=(), source="/slides/a/field.jpg", preview=True):
    return FieldResult(
        source=source,
        width=640,
        height=400,
        quality=Quality(accepted, reasons, focus=0.41, exposure=0.7, clipped_dark=0.0, clipped_bright=float("nan")),
        cells=tuple(cells),
        preview=drawn(1, 400, 640) if preview else None,
    )


def analysis(*fields, sample="S-1"):
    calls = [c.call for f in fields if isinstance(f, FieldResult) for c in f.cells]
    return Analysis(
        sample=sample,
        fields=tuple(fields),
        differential=differential(calls, RANGES),
        bundle="student@1.2.3",
        bundle_sha256="ab" * 32,
        runtime=RuntimeInfo("litert", "2.1", "int8", "cpu", 1),
        elapsed_seconds=1.5,
    )


def counted(*numbers, other=0, per_field=40):
    """Fields with the given number of cells of each class, spread over as many fields as needed."""
    labels = [label for label, n in zip(LABELS, numbers, strict=True) for _ in range(n)]
    cells = [cell(label, seed=i, activation=False) for i, label in enumerate(labels)]
    cells += [cell("monocyte", 0.4, abstained=True, seed=i, activation=False) for i in range(other)]
    return analysis(*(field(cells[i : i + per_field]) for i in range(0, len(cells), per_field)))


def record(found, **changes):
    return replace(
        ResultRecord(
            id="0193a7c2-5b1e-7c44-9d2e-4f1a2b3c4d5e",
            version=1,
            sample=found.sample,
            operator="A. Okafor",
            device="scope-03",
            created=ClockReading("2026-11-23T09:14:52Z", 12.5, "boot-1", "rtc"),
            status="preliminary",
            bundle=found.bundle,
            bundle_sha256=found.bundle_sha256,
            runtime=str(found.runtime),
            calibration=None,
            throttle_bits=None,
            document=document(found),
            pictures=pictures(found),
        ),
        **changes,
    )


def rendered(kept, ranges=RANGES):
    return render(kept, ranges=ranges, range_profile=PROFILE)


FULL = analysis(
    field([cell("neutrophil", seed=1), cell("basophil", 0.6, seed=2)]),
    field([cell("lymphocyte", 0.45, abstained=True, seed=3), cell(OTHER, 0.5, seed=4)]),
    field(accepted=False, reasons=("blurred", "unheard-of")),
    FieldFailure("/slides/a/broken.jpg", "image-truncated", "The file ends too early."),
)

"""The public JSON of an analysis (`leuko analyze --json`), and the JPEG pictures that are kept beside it.

The document holds only what JSON has. Percentages and the limits of both intervals are in 0..100, rounded to four
decimals, and null while too few cells were counted to claim them; probabilities are in 0..1, rounded to six.
Pictures are addressed by position: `Picture.field` is an index into `document["fields"]`, `Picture.cell` into that
field's `cells`, both from 0.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np

from edge.core.types import (
    Analysis,
    CellResult,
    ClassShare,
    Differential,
    FieldFailure,
    FieldResult,
    Image,
    Interval,
    Picture,
    Quality,
)
from edge.inference import saliency

PICTURE_BUDGET = 5_500_000
"""Bytes of JPEG a result may carry: as base64 in one HTML file they stay below 8 MB with the rest of the page."""

# Longest side of a field preview, its JPEG quality, side of a cell, its JPEG quality; from fine to small.
_LADDER = ((960, 80, 112, 88), (800, 74, 96, 84), (640, 68, 96, 78), (480, 62, 80, 72), (320, 55, 64, 62))


def document(analysis: Analysis) -> dict[str, Any]:
    """Give the analysis as the public JSON document described in the module's docstring."""
    return {
        "sample": analysis.sample,
        "fields": [entry(found) for found in analysis.fields],
        "differential": differential_document(analysis.differential),
        "bundle": analysis.bundle,
        "bundle_origin": analysis.bundle_origin,
        "runtime": str(analysis.runtime),
        "elapsed_seconds": round(float(analysis.elapsed_seconds), 3),
    }


def pictures(analysis: Analysis, budget: int = PICTURE_BUDGET) -> tuple[Picture, ...]:
    """Encode field previews, cell crops and class-activation overlays as JPEG.

    Together they take at most `budget` bytes where that is possible: many fields or cells are encoded smaller, all
    alike, and none is left out.
    """
    encoded: tuple[Picture, ...] = ()
    for rung in _LADDER:
        encoded = tuple(
            picture
            for index, found in enumerate(analysis.fields)
            if isinstance(found, FieldResult)
            for picture in _field_pictures(index, found, rung)
        )
        if sum(len(picture.jpeg) for picture in encoded) <= budget:
            break
    return encoded


def entry(found: FieldResult | FieldFailure) -> dict[str, Any]:
    """Give a field as its entry in the document."""
    if isinstance(found, FieldFailure):
        return {"file": found.source, "error": {"code": found.code, "message": found.message}}
    return {
        "file": found.source,
        "width": int(found.width),
        "height": int(found.height),
        "quality": _quality(found.quality),
        "cells": [_cell(cell) for cell in found.cells],
    }


def _quality(quality: Quality) -> dict[str, Any]:
    background = quality.background
    return {
        "accepted": bool(quality.accepted),
        "reasons": list(quality.reasons),
        "focus": _figure(quality.focus),
        "exposure": _figure(quality.exposure),
        "clipped_dark": _figure(quality.clipped_dark),
        "clipped_bright": _figure(quality.clipped_bright),
        "illumination_falloff": _figure(quality.illumination_falloff),
        "background": None if background is None else [_figure(value) for value in background],
        "stain": _figure(quality.stain),
    }


def _figure(value: float | None) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return round(float(value), 6)


def _cell(cell: CellResult) -> dict[str, Any]:
    call = cell.call
    return {
        "box": [int(call.box.x), int(call.box.y), int(call.box.width), int(call.box.height)],
        "label": call.label,
        "probabilities": {name: round(float(p), 6) for name, p in call.probability_by_label().items()},
        "abstained": bool(call.abstained),
        "reason": call.reason,
    }


def differential_document(differential: Differential) -> dict[str, Any]:
    """Give a differential as the part of the public document that holds it."""
    return {
        "counted": int(differential.counted),
        "tier": differential.tier,
        "classes": {label: _share(share) for label, share in differential.classes.items()},
        "other": int(differential.other),
        "flags": list(differential.flags),
    }


def _share(share: ClassShare) -> dict[str, Any]:
    return {
        "count": int(share.count),
        "percent": None if share.percent is None else round(float(share.percent), 4),
        "wilson": _limits(share.wilson),
        "clopper_pearson": _limits(share.clopper_pearson),
    }


def _limits(interval: Interval | None) -> list[float] | None:
    if interval is None:
        return None
    return [round(100.0 * float(interval.low), 4), round(100.0 * float(interval.high), 4)]


def _field_pictures(index: int, found: FieldResult, rung: tuple[int, int, int, int]) -> list[Picture]:
    preview_side, preview_quality, cell_side, cell_quality = rung
    taken: list[Picture] = []
    if found.preview is not None:
        taken.append(Picture("field", index, None, _jpeg(found.preview, preview_side, preview_quality)))
    for position, cell in enumerate(found.cells):
        taken.append(Picture("cell", index, position, _jpeg(cell.crop, cell_side, cell_quality)))
        if cell.call.activation is not None:
            shown = saliency.overlay(cell.crop, cell.call.activation)
            taken.append(Picture("activation", index, position, _jpeg(shown, cell_side, cell_quality)))
    return taken


def _jpeg(image: Image, longest: int, quality: int) -> bytes:
    height, width = image.shape[:2]
    scale = longest / max(height, width)
    if scale < 1.0:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    done, buffer = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"OpenCV could not encode a picture of {width}x{height} pixels as JPEG.")
    return buffer.tobytes()

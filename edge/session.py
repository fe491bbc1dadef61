"""The way of a cell, as one readable flow: frame, quality gate, locate, crop, classify, count."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np

from edge.core.differential import differential
from edge.core.types import (
    UNSIGNED_BUNDLE,
    Analysis,
    BundleOrigin,
    CellCall,
    CellResult,
    Differential,
    FieldFailure,
    FieldResult,
    FloatImage,
    Frame,
    Image,
    LocatedCell,
    Quality,
)
from edge.imaging import flatfield
from edge.imaging.crop import cut
from edge.imaging.locate import locate, single_cell
from edge.imaging.quality import QualityReference, assess, completed, judge, reference_from
from edge.inference.classifier import Classifier, cut_wider

PREVIEW_SIDE = 640
"""Longer side of the copy of a field that is kept for the report, in pixels."""

PREVIEWS = 60
"""Fields of one analysis that keep a preview: memory must not grow with the length of a session."""

REFERENCE_FIELDS = 8
"""Fields from which on a run can be its own quality reference: fewer would let one bad field set the standard."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What a field goes through. Without commissioning records, `surface` and `reference` come from the fields."""

    classifier: Classifier
    surface: FloatImage | None = None
    reference: QualityReference | None = None


def analyse_field(frame: Frame, pipeline: Pipeline, with_preview: bool = True) -> FieldResult:
    """Locate and call the cells of one field. A field that the quality gate refuses has no cells."""
    height, width = frame.image.shape[:2]
    corrected = flatfield.correct(frame.image, pipeline.surface)
    cells = locate(corrected)
    quality = assess(frame.image, corrected, cells, pipeline.reference)
    called = _call(corrected, cells, pipeline.classifier) if quality.accepted else ()
    preview = _preview(corrected) if with_preview else None
    return FieldResult(
        source=frame.source,
        width=width,
        height=height,
        quality=quality,
        cells=called,
        preview=preview,
        preview_scale=preview.shape[1] / width if preview is not None else 1.0,
    )


def analyse(
    frames: Iterable[Frame | FieldFailure],
    pipeline: Pipeline,
    sample: str,
    *,
    ranges: Mapping[str, tuple[float, float]],
    on_field: Callable[[FieldResult | FieldFailure], None] | None = None,
) -> Analysis:
    """Run every frame through the pipeline and count the cells of those that pass.

    `on_field` hears of each field as it is done. What no commissioning record says of a good field the run itself can
    say at its end: then its fields are judged once more.
    """
    started = time.monotonic()
    fields: list[FieldResult | FieldFailure] = []
    for frame in frames:
        field = frame if isinstance(frame, FieldFailure) else analyse_field(frame, pipeline, len(fields) < PREVIEWS)
        fields.append(field)
        if on_field is not None:
            on_field(field)
    return conclude(fields, pipeline, sample, ranges=ranges, elapsed_seconds=time.monotonic() - started)


def conclude(
    fields: list[FieldResult | FieldFailure],
    pipeline: Pipeline,
    sample: str,
    *,
    ranges: Mapping[str, tuple[float, float]],
    elapsed_seconds: float,
) -> Analysis:
    """Judge the fields of a run once more, where the run itself is the reference, and count the cells."""
    qualities = (field.quality for field in fields if isinstance(field, FieldResult))
    if (reference := own_reference(qualities, pipeline.reference)) is not None:
        fields = [held_against(field, reference) for field in fields]
    calls = [cell.call for field in fields if isinstance(field, FieldResult) for cell in field.cells]
    manifest = pipeline.classifier.manifest
    return Analysis(
        sample=sample,
        fields=tuple(fields),
        differential=stamped(differential(calls, ranges), pipeline.classifier.origin),
        bundle=manifest.identity,
        bundle_sha256=manifest.sha256,
        bundle_origin=pipeline.classifier.origin,
        runtime=pipeline.classifier.runtime.info,
        elapsed_seconds=elapsed_seconds,
    )


def stamped(counts: Differential, origin: BundleOrigin) -> Differential:
    """The same counts, flagged where they were made with a bundle that nobody has signed."""
    return replace(counts, flags=(*counts.flags, UNSIGNED_BUNDLE)) if origin == "unsigned" else counts


def classify_picture(image: Image, classifier: Classifier) -> CellCall:
    """Call the one cell of a single-cell picture, uint8[H, W, 3] BGR."""
    corrected = flatfield.white_balance(image)
    cell = single_cell(corrected)
    return _call(corrected, (cell,), classifier)[0].call


def _call(corrected: Image, cells: tuple[LocatedCell, ...], classifier: Classifier) -> tuple[CellResult, ...]:
    preprocessing = classifier.manifest.preprocessing
    crops = [cut(corrected, cell, preprocessing.size, preprocessing.margin) for cell in cells]
    wider = cut_wider(corrected, cells, preprocessing)
    calls = classifier.classify(crops, [cell.box for cell in cells], with_activation=True, wider=wider)
    return tuple(CellResult(call, crop) for call, crop in zip(calls, crops, strict=True))


def own_reference(qualities: Iterable[Quality], known: QualityReference | None = None) -> QualityReference | None:
    """Give what a run's fields are held against at its end: what is known, the rest as the medians of its own.

    None when nothing is to be held again: all is known, or too few fields were accepted to set a standard.
    """
    if known is not None and known.focus is not None:
        return None
    accepted = [quality for quality in qualities if quality.accepted]
    return completed(known, reference_from(accepted)) if len(accepted) >= REFERENCE_FIELDS else None


def held_against(field: FieldResult | FieldFailure, reference: QualityReference) -> FieldResult | FieldFailure:
    """Judge an accepted field against a reference; when it is refused now, it loses its cells."""
    if isinstance(field, FieldFailure) or not field.quality.accepted:
        return field
    quality = judge(field.quality, reference)
    return replace(field, quality=quality, cells=field.cells if quality.accepted else ())


def _preview(corrected: Image) -> Image:
    scale = PREVIEW_SIDE / max(corrected.shape[:2])
    if scale >= 1:
        return corrected
    small = cv2.resize(corrected, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8)

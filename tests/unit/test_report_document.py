"""The public document and the pictures beside it."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from report_records import FULL, analysis, cell, counted, field, record, rendered

from edge.core.labels import LABELS
from edge.report.document import PICTURE_BUDGET, document, pictures

# --- the document -----------------------------------------------------------------------------------------------------


def test_document_has_exactly_the_keys_of_the_contract():
    written = document(FULL)
    analysis = ["sample", "fields", "differential", "bundle", "bundle_origin", "runtime", "elapsed_seconds"]
    assert list(written) == analysis
    assert list(written["fields"][0]) == ["file", "width", "height", "quality", "cells"]
    assert list(written["fields"][0]["quality"])[:3] == ["accepted", "reasons", "focus"]
    assert list(written["fields"][0]["cells"][0]) == ["box", "label", "probabilities", "abstained", "reason"]
    assert list(written["fields"][0]["cells"][0]["probabilities"]) == list(LABELS)
    assert written["fields"][3] == {
        "file": "/slides/a/broken.jpg",
        "error": {"code": "image-truncated", "message": "The file ends too early."},
    }
    assert list(written["differential"]) == ["counted", "tier", "classes", "other", "flags"]
    assert list(written["differential"]["classes"]["monocyte"]) == ["count", "percent", "wilson", "clopper_pearson"]
    assert (written["bundle"], written["runtime"]) == ("student@1.2.3", "litert-int8")


def test_document_is_strict_json_even_with_figures_that_are_not_numbers():
    written = document(FULL)
    assert json.loads(json.dumps(written, allow_nan=False)) == written
    assert written["fields"][0]["quality"]["clipped_bright"] is None


def test_percentages_and_intervals_are_in_percent():
    # 40 of 200: the published vectors of the two intervals.
    share = document(counted(40, 160, 0, 0, 0))["differential"]["classes"]["neutrophil"]
    assert share["percent"] == pytest.approx(20.0)
    assert share["wilson"] == pytest.approx([15.045, 26.086], abs=1e-3)
    assert share["clopper_pearson"] == pytest.approx([14.689, 26.223], abs=1e-3)


def test_no_percentages_below_a_hundred_cells():
    for share in document(counted(60, 30, 5, 3, 1))["differential"]["classes"].values():
        assert (share["percent"], share["wilson"], share["clopper_pearson"]) == (None, None, None)


# --- the pictures -----------------------------------------------------------------------------------------------------


def test_pictures_are_addressed_by_their_place_in_the_document():
    places = {(p.kind, p.field, p.cell) for p in pictures(FULL)}
    cells = {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert places == {("field", i, None) for i in range(3)} | {(k, *c) for k in ("cell", "activation") for c in cells}


def test_pictures_decode_to_what_they_show():
    shown = {(p.kind, p.field, p.cell): cv2.imdecode(np.frombuffer(p.jpeg, np.uint8), 1) for p in pictures(FULL)}
    assert shown["field", 0, None].shape == (400, 640, 3)
    crop = FULL.fields[0].cells[0].crop
    assert np.abs(shown["cell", 0, 0].astype(int) - crop).mean() < 4
    assert np.abs(shown["activation", 0, 0].astype(int) - crop).mean() > 4


def test_no_activation_picture_without_an_activation():
    assert {p.kind for p in pictures(counted(3, 0, 0, 0, 0))} == {"field", "cell"}


def test_sixty_fields_and_five_hundred_cells_stay_below_eight_megabytes():
    # Noise is the worst case for JPEG.
    noise = np.random.default_rng(7).integers(0, 256, (400, 640, 3), dtype=np.uint8)
    cells = [replace(cell(LABELS[i % 5], seed=i), crop=noise[:96, i : i + 96].copy()) for i in range(500)]
    found = analysis(*(replace(field(cells[i::60]), preview=noise) for i in range(60)))
    kept = record(found)
    assert len(kept.pictures) == 60 + 2 * 500
    assert sum(len(p.jpeg) for p in kept.pictures) <= PICTURE_BUDGET
    assert len(rendered(kept).encode("utf-8")) < 8_000_000

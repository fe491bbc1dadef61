"""Commissioning: what is measured is what was drawn, what is unusable is refused, and drift is flagged by name."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from devices.cameras.simulated import SimulatedCamera
from devices.cameras.slide_optics import Optics
from edge.calibration import commission, drift, measure
from edge.calibration.records import CalibrationFolder, camera_of
from edge.core.errors import InputError, NothingToDoError, StoreError
from edge.core.labels import LABELS
from edge.core.types import FieldFailure, Frame
from edge.imaging import flatfield


def pictures(count: int, **settings: Any) -> list[Frame | FieldFailure]:
    with SimulatedCamera(5, fields=count, width=360, height=240, micrometres_per_pixel=0.5, **settings) as camera:
        return list(camera.frames())


def blanks(count: int = 3, optics: Optics | None = None) -> list[Frame | FieldFailure]:
    return pictures(count, cells_per_field=0.0, crowding=0.0, optics=optics)


def test_the_light_of_blank_fields_is_measured_and_evens_them_out(tmp_path: Path) -> None:
    optics = Optics(vignetting=0.5, blank=(150.0, 210.0, 240.0))
    made = commission.light(blanks(4, optics), 4, CalibrationFolder(tmp_path), "uvc", "me", surface=True)
    record = made.record
    assert made.refused == ()
    # The middle is as bright as the lamp, half of the field is darker than this.
    assert record.background == pytest.approx((150, 210, 240), rel=0.25)
    assert record.falloff == pytest.approx(0.45, abs=0.12)
    assert record.gains == pytest.approx((210 / 150, 1, 210 / 240), rel=0.03)
    frame = blanks(1, optics)[0]
    assert isinstance(frame, Frame) and record.surface is not None
    even = flatfield.correct(frame.image, record.surface.array()).reshape(-1, 3)
    assert np.quantile(even, 0.02) == pytest.approx(230, abs=12)
    assert np.quantile(even, 0.98) == pytest.approx(230, abs=12)
    reference = record.reference()
    assert reference is not None and reference.background == record.background


def test_fields_that_are_not_blank_dark_or_clipped_are_named_and_refused(tmp_path: Path) -> None:
    smear = pictures(1, cells_per_field=8)
    dark = blanks(1, Optics(exposure=0.2))
    bright = blanks(1, Optics(exposure=1.6))
    broken = FieldFailure("frame 9", "damaged-frame", "It arrived damaged.")
    folder = CalibrationFolder(tmp_path)
    made = commission.light([*blanks(3), *smear, *dark, *bright, broken], 7, folder, "uvc", "", surface=False)
    assert [reason.split(":")[0] for _, reason in made.refused] == [
        "damaged-frame",
        "not blank",
        "too dark",
        "too bright",
    ]
    assert made.record.surface is None
    with pytest.raises(NothingToDoError) as refused:
        commission.light([*smear, *dark], 8, folder, "uvc", "", surface=True)
    assert refused.value.code == "too-few-fields" and refused.value.cure
    dimmed = [frame for level in (1.0, 0.9, 0.75) for frame in blanks(1, Optics(exposure=level))]
    with pytest.raises(InputError) as unsteady:
        commission.light(dimmed, 3, folder, "uvc", "", surface=True)
    assert unsteady.value.code == "light-unsteady"


def test_a_sweep_finds_the_best_focus_and_nothing_in_a_blank_field(tmp_path: Path) -> None:
    frames = [pictures(1, cells_per_field=10, optics=Optics(defocus_micrometres=z))[0] for z in (-3, -1.5, 0, 1.5)]
    made = commission.focus(frames, 10, CalibrationFolder(tmp_path), "uvc", "")
    values = [value or 0.0 for _, value in made.sharpness]
    assert int(np.argmax(values)) == 2
    assert made.record.focus == values[2]
    with pytest.raises(NothingToDoError):
        commission.focus(blanks(1), 1, CalibrationFolder(tmp_path), "uvc", "")


@pytest.mark.parametrize("period", [9.0, 17.3, 40.5])
@pytest.mark.parametrize("upright", [True, False])
def test_the_scale_is_read_off_the_lines_of_a_stage_micrometer(period: float, upright: bool) -> None:
    place = np.arange(600)
    lines = 220 - 150 * (np.abs((place + 0.3) % period - period / 2) > period / 2 - 1.2)
    picture = np.repeat(np.tile(lines.astype(np.uint8), (400, 1))[:, :, None], 3, axis=2)
    if not upright:
        picture = np.ascontiguousarray(picture.transpose(1, 0, 2))
    assert measure.scale_from_lines(picture, 10.0) == pytest.approx(10.0 / period, rel=0.01)


def test_a_scale_needs_lines_or_red_cells() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3)).astype(np.uint8)
    with pytest.raises(InputError, match="No evenly spaced lines"):
        measure.scale_from_lines(noise, 10.0)
    smear = [frame.image for frame in pictures(2) if isinstance(frame, Frame)]
    # Red cells that touch look larger: within a fifth, as the documentation says.
    assert measure.scale_from_red_cells(smear) == pytest.approx(0.5, rel=0.2)


def test_records_are_versions_and_the_latest_is_in_force(tmp_path: Path) -> None:
    folder = CalibrationFolder(tmp_path / "calibration")
    assert folder.latest("uvc") is None
    first = folder.add("scale", "uvc", "me", 1, micrometres_per_pixel=0.2)
    second = folder.add("focus", "uvc", "me", 9, focus=1.7)
    folder.add("focus", "picamera2", "me", 9, focus=1.2)
    assert folder.latest("uvc") == second
    assert (second.parent, second.micrometres_per_pixel, second.focus) == (first.id, 0.2, 1.7)
    assert folder.all("uvc") == (first, second)
    assert first.reference() is None
    path = tmp_path / "calibration" / f"{second.id}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "focus": "sharp"}))
    with pytest.raises(StoreError) as damaged:
        folder.latest("uvc")
    assert damaged.value.code == "calibration-damaged" and str(path) in damaged.value.message


def test_a_record_belongs_to_the_camera_whatever_its_other_settings() -> None:
    assert camera_of("simulated:seed=1,cells=5") == camera_of("simulated:seed=2") == "simulated"
    assert camera_of("uvc:device=/dev/video2,width=1280") == "uvc:/dev/video2"
    assert camera_of("replay:/some/folder") == "replay"


def result(number: int, **changed: Any) -> drift.Point:
    point = drift.Point(f"r{number}", "2026-11-24", 0.8, (190.0, 205.0, 217.0), 1.8, 0.4, 2, 200, (116, 58, 14, 8, 2))
    return dataclasses.replace(point, **changed)


@pytest.mark.parametrize(
    ("flag", "changed"),
    [
        ("illumination", {"illumination": 0.6}),
        ("colour", {"colour": (150.0, 205.0, 217.0)}),
        ("focus", {"focus": 1.1}),
        ("stain", {"stain": 0.2}),
        ("abstention", {"other": 30}),
    ],
)
def test_what_has_drifted_is_flagged_by_name(flag: str, changed: dict[str, Any]) -> None:
    points = [*(result(number) for number in range(8)), result(8, **changed)]
    judged = drift.judge(points, None)
    assert all(each.flags == () for each in judged[:-1])
    assert judged[-1].flags == (flag,)


def test_one_odd_patient_is_no_drift_of_the_class_mix_but_ten_are() -> None:
    odd = (40, 140, 10, 8, 2)
    calm = [result(number) for number in range(10)]
    assert drift.judge([*calm, result(10, classes=odd)], None)[-1].flags == ()
    judged = drift.judge([*calm, *(result(10 + number, classes=odd) for number in range(10))], None)
    assert judged[-1].flags == ("class-mix",)


def test_a_sharper_picture_and_a_few_abstentions_are_no_drift() -> None:
    points = [*(result(number) for number in range(6)), result(6, focus=3.0), result(7, other=3, located=20)]
    assert all(each.flags == () for each in drift.judge(points, None))


def test_a_point_is_taken_from_a_results_document() -> None:
    quality = {"accepted": True, "reasons": [], "focus": 1.5, "stain": 0.3, "background": [200, 210, 220]}
    refused = {**quality, "accepted": False, "focus": 0.1}
    shares = {label: {"count": index} for index, label in enumerate(LABELS)}
    found = drift.point(
        "id",
        "2026-11-24",
        {
            "fields": [{"quality": quality}, {"quality": refused}, {"file": "x", "error": {}}],
            "differential": {"counted": 10, "other": 1, "classes": shares},
        },
    )
    assert (found.focus, found.stain, found.colour, found.located) == (1.5, 0.3, (200, 210, 220), 11)
    assert found.classes == (0, 1, 2, 3, 4)
    assert found.illumination == pytest.approx(210 / 255)

"""Stored fields are corrected as their microscope was commissioned, or the answer says plainly that they were not."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from devices.cameras.simulated import SimulatedCamera
from devices.cameras.slide_optics import Optics
from edge.calibration import commission
from edge.calibration.commissioned import Commissioned, fitting
from edge.calibration.records import Calibration, CalibrationFolder
from edge.core import clock
from edge.core.types import FieldFailure, Frame
from tests.commands import leuko

SIZE = {"width": 480, "height": 300, "micrometres_per_pixel": 0.4}
DIM = Optics(vignetting=0.5, blank=(150.0, 210.0, 240.0))


def drawn(count: int, cells: float, crowding: float = 1.0, seed: int = 5) -> list[Frame]:
    with SimulatedCamera(seed, fields=count, cells_per_field=cells, crowding=crowding, optics=DIM, **SIZE) as camera:
        return [frame for frame in camera.frames() if isinstance(frame, Frame)]


@pytest.fixture
def record(tmp_path: Path) -> Calibration:
    folder = CalibrationFolder(tmp_path / "data" / "calibration")
    return commission.light(drawn(4, 0.0, 0.0), 4, folder, "uvc:/dev/video0", "me", surface=True).record


@pytest.fixture
def fields(tmp_path: Path) -> Path:
    folder = tmp_path / "fields"
    folder.mkdir()
    for number, frame in enumerate(drawn(2, 10)):
        assert cv2.imwrite(str(folder / f"{number}.png"), frame.image)
    return folder


@pytest.mark.slow
def test_analyze_names_the_record_it_used_and_stamps_it_on_the_result(
    tmp_path: Path, record: Calibration, fields: Path
) -> None:
    pytest.importorskip("ai_edge_litert")
    data = str(tmp_path / "data")
    turned = cv2.imread(str(fields / "0.png"))
    assert turned is not None and cv2.imwrite(str(fields / "turned.png"), cv2.rotate(turned, cv2.ROTATE_90_CLOCKWISE))
    done = leuko(
        tmp_path,
        "analyze",
        fields,
        "--camera",
        "uvc:device=/dev/video0,width=480",
        "--sample",
        "S",
        "--json",
        LEUKO_DATA_FOLDER=data,
    )
    assert done.code == 1, done.err
    assert done.document["calibration"] == record.id
    assert f"corrected with commissioning record {record.id}" in done.err
    assert [field.get("error", {}).get("code") for field in done.document["fields"]] == [
        None,
        None,
        "calibration-shape",
    ]
    shown = leuko(tmp_path, "export", "S", "--format", "json", "--out", "-", LEUKO_DATA_FOLDER=data)
    assert record.id in shown.out

    without = leuko(tmp_path, "analyze", fields / "0.png", "--sample", "T", "--json", LEUKO_DATA_FOLDER=data)
    assert without.code == 0, without.err
    assert without.document["calibration"] is None
    assert "no commissioning record was used" in without.err

    unknown = leuko(tmp_path, "analyze", fields, "--camera", "picamera2:0", LEUKO_DATA_FOLDER=data)
    assert unknown.code == 2
    assert "no-calibration" in unknown.err and "uvc:/dev/video0" in unknown.err
    assert json.dumps(unknown.out) == '""'


def test_a_field_of_another_shape_is_named_and_another_size_is_not(record: Calibration) -> None:
    assert record.surface is not None
    known = Commissioned(record.id, record.surface.array(), record.reference())
    frame = drawn(1, 3)[0]
    smaller = Frame(cv2.resize(frame.image, (240, 150)), clock.read(), "smaller")
    cropped = Frame(frame.image[:, :300].copy(), clock.read(), "cropped")
    broken = FieldFailure("broken", "damaged-frame", "It arrived damaged.")
    seen = list(fitting([frame, smaller, cropped, broken], known))
    assert seen[:2] == [frame, smaller]
    assert isinstance(seen[2], FieldFailure) and (seen[2].source, seen[2].code) == ("cropped", "calibration-shape")
    assert seen[3] == broken
    # A record without a surface says nothing of shape.
    assert list(fitting([cropped], Commissioned("id", None, None))) == [cropped]

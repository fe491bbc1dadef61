"""The locator on the simulated slide, whose truth is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from devices.cameras.simulated import SimulatedCamera
from edge.core.types import Image, LocatedCell
from edge.imaging import flatfield
from edge.imaging.locate import locate, single_cell


def fields(specification: str) -> list[tuple[Image, list[tuple[float, float]]]]:
    """Fields of a simulated slide with the centres of the cells drawn in them."""
    with SimulatedCamera.from_spec(specification) as camera:
        return [(frame.image, [cell.centre for cell in camera.truth(frame.source)]) for frame in camera.frames()]  # type: ignore[union-attr]


def found(centres: list[tuple[float, float]], cells: tuple[LocatedCell, ...]) -> int:
    """How many of the centres lie in the box of a located cell."""
    return sum(
        any(c.box.x <= x <= c.box.x + c.box.width and c.box.y <= y <= c.box.y + c.box.height for c in cells)
        for x, y in centres
    )


SLIDE = fields("simulated:seed=11,fields=8,cells=4")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda image: image, id="as taken"),
        pytest.param(lambda image: cv2.resize(image, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA), id="smaller"),
        pytest.param(lambda image: cv2.resize(image, None, fx=1.8, fy=1.8), id="larger"),
        pytest.param(lambda image: cv2.multiply(image, (0.9, 0.75, 0.6, 0)), id="colour cast"),
        pytest.param(lambda image: cv2.GaussianBlur(image, (0, 0), 2.5), id="slightly out of focus"),
    ],
)
def test_finds_the_drawn_cells_whatever_the_camera(change) -> None:
    drawn = hit = located = 0
    for image, centres in SLIDE:
        changed = np.asarray(change(image), dtype=np.uint8)
        scale = changed.shape[1] / image.shape[1]
        cells = locate(flatfield.correct(changed))
        drawn += len(centres)
        located += len(cells)
        hit += found([(x * scale, y * scale) for x, y in centres], cells)
    assert drawn >= 20
    assert hit >= 0.9 * drawn
    assert hit >= 0.85 * located


def test_a_vignetted_field_is_evened_out() -> None:
    image, _ = SLIDE[0]
    height, width = image.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    shade = np.stack([1 - strength * (x**2 + y**2) / 2 for strength in (0.3, 0.5, 0.6)], axis=2)
    corrected = flatfield.correct((image * shade).astype(np.uint8))
    corners = [corrected[:150, :150], corrected[-150:, -150:], corrected[375:525, 645:795]]
    blank = np.array([np.quantile(corner.reshape(-1, 3), 0.9, axis=0) for corner in corners])
    assert np.ptp(blank) < 0.1 * flatfield.BLANK
    assert abs(blank.mean() - flatfield.BLANK) < 0.08 * flatfield.BLANK


def test_an_empty_field_stays_empty() -> None:
    located = [len(locate(flatfield.correct(image))) for image, _ in fields("simulated:seed=12,fields=10,cells=0")]
    assert sum(located) <= 2


@pytest.mark.parametrize("level", [0, 128, 230, 255])
def test_nothing_is_found_in_a_plain_picture(level: int) -> None:
    assert locate(np.full((300, 400, 3), level, dtype=np.uint8)) == ()


def blank_with_nuclei(*centres: tuple[int, int], radius: int = 30) -> Image:
    """A corrected field with pale red cells of radius 20 and nuclei at `centres`."""
    image = np.full((480, 480, 3), flatfield.BLANK, dtype=np.uint8)
    for x in range(30, 480, 60):
        for y in range(30, 480, 60):
            if all(abs(x - cx) > 70 or abs(y - cy) > 70 for cx, cy in centres):
                cv2.circle(image, (x, y), 20, (190, 170, 225), -1)
    for centre in centres:
        cv2.circle(image, centre, radius, (150, 60, 90), -1)
    return image


def test_touching_cells_are_split_at_their_waist() -> None:
    cells = locate(blank_with_nuclei((200, 240), (262, 240), radius=32))
    assert [round(cell.centre[0] / 10) for cell in cells] == [20, 26]


def test_the_lobes_of_one_nucleus_are_one_cell() -> None:
    (cell,) = locate(blank_with_nuclei((220, 240), (252, 240), (236, 262), radius=14))
    assert abs(cell.centre[0] - 236) < 6


@pytest.mark.parametrize("centre_x", [-12, 0, 12, 240, 468, 480, 492])
def test_a_cell_belongs_to_the_field_that_holds_its_centre(centre_x: int) -> None:
    cells = locate(blank_with_nuclei((centre_x, 240)))
    assert len(cells) == (1 if 0 <= centre_x <= 480 else 0)


def test_a_platelet_is_too_small_for_a_nucleus() -> None:
    assert locate(blank_with_nuclei((240, 240), radius=7)) == ()


@pytest.mark.parametrize("zoom", [0.5, 1.0, 3.0])
def test_the_single_cell_is_measured_alike_at_every_magnification(zoom: float) -> None:
    image = np.full((240, 240, 3), flatfield.BLANK, dtype=np.uint8)
    cv2.circle(image, (130, 110), 40, (150, 60, 90), -1)
    resized = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
    cell = single_cell(np.asarray(resized, dtype=np.uint8))
    assert cell.centre == pytest.approx((130 * zoom, 110 * zoom), abs=4 * zoom)
    assert cell.diameter == pytest.approx(80 * zoom, rel=0.1)


def test_a_picture_without_a_nucleus_is_taken_whole() -> None:
    cell = single_cell(np.full((100, 120, 3), 225, dtype=np.uint8))
    assert (cell.box.width, cell.box.height) == (120, 100)

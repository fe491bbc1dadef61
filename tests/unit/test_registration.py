"""Where fields lie to each other and which cells were seen before, on slides whose every cell is known."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import pytest

from devices.cameras.simulated import SimulatedCamera
from edge.core.types import Box
from edge.imaging import registration
from edge.live.atlas import Atlas

WIDTH, HEIGHT, SCALE = 480, 300, 0.44


@dataclass(frozen=True)
class Seen:
    signature: registration.Signature
    left: int
    top: int
    boxes: list[Box]
    identities: list[tuple[int, int]]


@pytest.fixture(scope="module")
def fields() -> list[Seen]:
    """Two rows of a serpentine that overlap on all sides, with the true cells whose middle lies inside."""
    found = []
    with SimulatedCamera(
        4, fields=16, cells_per_field=12, overlap=0.3, width=WIDTH, height=HEIGHT, micrometres_per_pixel=SCALE
    ) as camera:
        for number, frame in enumerate(camera.frames()):
            window = camera.window(number)
            inside = [
                cell for cell in camera.truth(number) if 0 <= cell.centre[0] < WIDTH and 0 <= cell.centre[1] < HEIGHT
            ]
            found.append(
                Seen(
                    registration.signature(frame.image),
                    window.left,
                    window.top,
                    [clipped(cell.box) for cell in inside],
                    [(round(window.left + cell.centre[0]), round(window.top + cell.centre[1])) for cell in inside],
                )
            )
    return found


def clipped(box: Box) -> Box:
    left, top = max(0, box.x), max(0, box.y)
    return Box(left, top, min(WIDTH, box.x + box.width) - left, min(HEIGHT, box.y + box.height) - top)


def test_the_shift_of_overlapping_fields_is_found_and_no_other(fields: list[Seen]) -> None:
    for i, one in enumerate(fields):
        for two in fields[i + 1 :]:
            x, y = two.left - one.left, two.top - one.top
            common = max(0, WIDTH - abs(x)) * max(0, HEIGHT - abs(y)) / (WIDTH * HEIGHT)
            shift = registration.register(one.signature, two.signature)
            if common >= 0.2:
                assert shift is not None
            if shift is not None:
                assert (shift.x, shift.y) == pytest.approx((x, y), abs=3)
                assert shift.overlap == pytest.approx(common, abs=0.05)


def test_fields_of_other_size_or_without_anything_in_them_are_not_laid_over_each_other(fields: list[Seen]) -> None:
    flat = registration.signature(np.full((HEIGHT, WIDTH, 3), 230, np.uint8))
    assert registration.register(flat, flat) is None
    assert registration.register(fields[0].signature, registration.signature(np.zeros((99, 80, 3), np.uint8))) is None


def count(fields: list[Seen], order: list[int]) -> tuple[int, int, int]:
    """Cells counted twice, cells never counted, cells there."""
    atlas = Atlas()
    counted: list[tuple[int, int]] = []
    for number in order:
        field = fields[number]
        placed = atlas.look(field.signature, (WIDTH, HEIGHT), field.boxes)
        new = [index for index, again in enumerate(placed.repeated) if not again]
        atlas.enter(field.signature, (WIDTH, HEIGHT), placed.place, [field.boxes[index] for index in new])
        counted += [field.identities[index] for index in new]
    there = {identity for number in set(order) for identity in fields[number].identities}
    return len(counted) - len(set(counted)), len(there - set(counted)), len(there)


def test_each_cell_is_counted_once_in_whatever_order_the_fields_come(fields: list[Seen]) -> None:
    straight = list(range(16))
    back_and_forth = straight + straight[::-1]
    orders = [straight, back_and_forth, [0, 0, 0, *straight, 0]]
    for seed in range(3):
        jumps = list(straight)
        random.Random(seed).shuffle(jumps)
        orders.append(jumps)
    for order in orders:
        twice, never, there = count(fields, order)
        assert there > 50
        assert twice <= 0.01 * there
        assert never <= 0.01 * there


def test_a_field_that_did_not_move_is_known_as_such(fields: list[Seen]) -> None:
    atlas = Atlas()
    first = fields[0]
    place = atlas.look(first.signature, (WIDTH, HEIGHT), first.boxes)
    assert not place.still and not any(place.repeated)
    atlas.enter(first.signature, (WIDTH, HEIGHT), place.place, first.boxes)
    again = atlas.look(first.signature, (WIDTH, HEIGHT), first.boxes)
    assert again.still and all(again.repeated)


def test_islands_become_one_when_a_field_lies_on_both(fields: list[Seen]) -> None:
    atlas = Atlas()
    size = (WIDTH, HEIGHT)
    left, middle, right = fields[0], fields[1], fields[2]
    shared = Box(400, 130, 40, 40)
    for number, (field, box) in enumerate(((left, shared), (right, Box(300, 130, 40, 40)))):
        placed = atlas.look(field.signature, size, [box])
        assert (placed.place.island, placed.repeated) == (number, (False,))
        atlas.enter(field.signature, size, placed.place, [box])
    between = atlas.look(middle.signature, size, [Box(shared.x - middle.left, 130, 40, 40)])
    assert between.place.island == 0
    assert between.place.x == pytest.approx(middle.left, abs=4)
    assert between.repeated == (True,)

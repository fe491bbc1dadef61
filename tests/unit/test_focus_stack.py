"""The sharpest plane of a stack: of a drawn one whose focus is known, and of a real one."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from devices.cameras.replay import ReplayCamera
from devices.cameras.simulated import SimulatedCamera
from devices.cameras.slide_optics import Optics
from edge.core.types import FieldFailure, Frame
from edge.imaging import focus_stack
from edge.live.capture import stacked


def plane(defocus: float) -> Frame:
    optics = Optics(defocus_micrometres=defocus)
    with SimulatedCamera(3, fields=1, width=480, height=300, optics=optics) as camera:
        frame = next(camera.frames())
    assert isinstance(frame, Frame)
    return frame


def test_the_plane_in_focus_is_chosen_and_sharpness_falls_away_from_it() -> None:
    defocus = (-2.0, -1.2, -0.6, 0.1, 0.8, 1.6)
    choice = focus_stack.choose([plane(each).image for each in defocus])
    assert choice.best == 3
    values = [value or 0.0 for value in choice.sharpness]
    assert values[:4] == sorted(values[:4])
    assert values[3:] == sorted(values[3:], reverse=True)


def test_what_is_no_stack_is_refused_and_planes_without_anything_give_the_middle_one() -> None:
    with pytest.raises(ValueError, match="at least one"):
        focus_stack.choose([])
    blank = np.full((200, 300, 3), 230, np.uint8)
    with pytest.raises(ValueError, match="one size"):
        focus_stack.choose([blank, blank[:100]])
    assert focus_stack.choose([blank] * 5).best == 2


def test_of_each_stack_one_frame_goes_on_and_a_damaged_plane_is_named() -> None:
    sharp, blurred = plane(0.0), plane(2.0)
    damaged = FieldFailure("plane 3", "truncated", "It ends too early.")
    frames = [blurred, replace(sharp, source="a"), damaged, replace(sharp, source="b"), blurred, blurred]
    found = list(stacked(frames, 3))
    assert found[0] is damaged
    assert [each.source for each in found[1:]] == ["a (plane 2 of 3)", "b (plane 1 of 3)"]
    assert list(stacked(frames, 1)) == frames


@pytest.mark.data
def test_the_real_stack_has_its_best_plane_in_the_middle_and_its_truncated_file_is_named(data: Path) -> None:
    with ReplayCamera(str(data / "milab_focus" / "fields")) as camera:
        planes = list(camera.frames())
    frames = [each for each in planes if isinstance(each, Frame)]
    failures = [each for each in planes if isinstance(each, FieldFailure)]
    assert [Path(each.source).name for each in failures] == ["0152_22800_54359_009_15111.jpg"]
    choice = focus_stack.choose([each.image for each in frames])
    # By eye the granules of the neutrophil are crispest in 004 and 005; 003 and 006 are softer.
    assert Path(frames[choice.best].source).name == "0152_22800_54359_005_22250.jpg"
    values = [value or 0.0 for value in choice.sharpness]
    assert all(before < after * 1.005 for before, after in pairwise(values[:6]))
    assert all(after < before for before, after in pairwise(values[5:]))

"""The locator on real fields: the figures of the README hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from locator import TARGETS, matches, measure, overlap


@pytest.mark.data
@pytest.mark.parametrize("source", sorted(TARGETS))
def test_finds_the_white_cells_of_real_fields(data: Path, source: str) -> None:
    figures = measure(data, source)
    for name, least in TARGETS[source].items():
        assert getattr(figures, name) >= least, figures


def test_boxes_match_one_to_one() -> None:
    box = (0.0, 0.0, 10.0, 10.0)
    assert overlap(box, (5.0, 0.0, 15.0, 10.0)) == pytest.approx(1 / 3)
    assert matches([box], [box, box]) == 1
    assert matches([box, (100.0, 0.0, 110.0, 10.0)], [(1.0, 0.0, 11.0, 10.0)]) == 1
    assert matches([box], [(5.0, 0.0, 15.0, 10.0)]) == 0

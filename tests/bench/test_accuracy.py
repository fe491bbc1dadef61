"""The shipped model on the held-out PBC cells, through `leuko classify`."""

from __future__ import annotations

from pathlib import Path

import pytest
from accuracy import TARGETS, measure


@pytest.mark.data
@pytest.mark.slow
def test_calls_held_out_cells_as_the_readme_says(data: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    (row,) = measure(data, ["pbc"])
    assert row.figures.n == 750
    assert row.figures.macro_f1 >= TARGETS["pbc"], row
    assert row.abstained <= 0.05

"""A live session survives a kill at any moment: what it showed as saved is there, and its count goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
import session_kills

KILLS = 12


@pytest.mark.slow
def test_nothing_shown_as_saved_is_lost_and_the_count_goes_on(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ai_edge_litert")
    monkeypatch.setenv("PYTHONPATH", str(root))
    found = session_kills.kill_often(KILLS, 20_261_124, tmp_path)
    assert found["kills"] == KILLS
    assert found["resumed"] >= 3
    assert found["after_a_save"] >= KILLS / 2
    # However often it was cut off, the same slide gives the same count.
    assert len({tuple(each) for each in found["results"]}) <= 1

"""The speed comparison runs and its figures are sound. How fast is never a test: `speed.py --check` judges that."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import bundles
import pytest
import small_networks as small

BENCH = Path(__file__).parent


@pytest.mark.slow
def test_the_comparison_runs_and_its_ratios_are_positive(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    bundle = bundles.build(tmp_path / "bundle")
    peer = tmp_path / "peer.tflite"
    peer.write_bytes(small.tflite_network(quantized=True, with_maps=False))
    done = subprocess.run(
        [sys.executable, str(BENCH / "speed.py"), "--peer", str(peer), "--bundle", str(bundle), "--fields", "3"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["fields"] == 3
    assert figures["cells"] > 0
    for name in (
        "field_milliseconds",
        "locate_and_classify_milliseconds",
        "student_cell_milliseconds",
        "peer_cell_milliseconds",
        "peer_to_student",
        "resident_megabytes",
        "help_seconds",
    ):
        assert figures[name] > 0, name
    assert set(figures["stages_milliseconds"]) == {"flatfield", "locate", "quality", "crop", "classify"}
    assert all(value > 0 for value in figures["stages_milliseconds"].values())
    assert figures["peer_to_student"] == pytest.approx(
        figures["peer_cell_milliseconds"] / figures["student_cell_milliseconds"]
    )

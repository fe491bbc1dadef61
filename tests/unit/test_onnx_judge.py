"""What an ONNX variant may lose against the float network, and who says so."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("keras", reason="the train extra is not installed")

from quantization import onnx_judge

pytestmark = pytest.mark.train


def judged(split: str, n: int, wrong: int, precision: str = "int8") -> onnx_judge.Score:
    """A set whose float network is always right, and whose variant calls `wrong` lymphocytes neutrophils."""
    labels = np.arange(n) % 2
    reference = np.eye(6, dtype=np.float32)[labels]
    logits = reference.copy()
    logits[np.flatnonzero(labels == 1)[:wrong]] = reference[0]
    item = onnx_judge.JudgedSet("pbc", split, np.zeros((n, 1, 1, 3), np.float32), labels.astype(np.int64))
    return onnx_judge.score(precision, item, reference, logits)


def test_half_a_point_is_allowed_and_more_is_not() -> None:
    assert onnx_judge.fault([judged("validation", 400, 2), judged("test", 400, 2)], "int8") is None
    reason = onnx_judge.fault([judged("validation", 400, 2), judged("test", 400, 3)], "int8")
    assert "0.75 points" in reason and "test cells" in reason
    assert "lymphocyte of pbc pays most, 1.5 points" in reason


def test_a_cell_of_a_small_source_decides_nothing() -> None:
    assert onnx_judge.fault([judged("validation", 1000, 0), judged("validation", 20, 1)], "int8") is None


def test_evaluation_cells_count_as_test_cells() -> None:
    assert onnx_judge.drop([judged("evaluation", 100, 5)], "int8", "test") == pytest.approx(0.05)

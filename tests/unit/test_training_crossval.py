"""Cross-validation: whole groups, every cell once, and figures of the held-out cells alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras", reason="the train extra is not installed")

import tiny_training
from tiny_training import TINY, tiny_cells

from edge.core.errors import UsageError
from training import crossval
from training.data.cells import EVALUATION, Cells

pytestmark = pytest.mark.train

CONFIG = replace(TINY, epochs=1)


@pytest.fixture(autouse=True, scope="module")
def _tiny() -> Iterator[None]:
    with tiny_training.registered():
        yield


def mixed() -> Cells:
    """Real cells, some of them for evaluation only, and rendered ones."""
    cells = tiny_cells(n=120)
    source = cells.source.astype(object)
    source[:6], source[6:12] = "jtsc", "rendered"
    split = np.where(source == "jtsc", EVALUATION, cells.split.astype(object)).astype(str)
    return replace(cells, source=source.astype(str), split=split)


def test_every_trainable_cell_is_held_out_once_with_its_whole_group() -> None:
    cells = mixed()
    fold = crossval.held_out_folds(cells, 4, seed=0)
    assert (fold[np.isin(cells.source, ["jtsc", "rendered"])] == -1).all()
    assert (fold[12:] >= 0).all()
    for group in np.unique(cells.group[12:]):
        assert len(np.unique(fold[12:][cells.group[12:] == group])) == 1
    counts = np.array([np.bincount(cells.labels[fold == number], minlength=6) for number in range(4)])
    assert (counts > 0).all()
    np.testing.assert_array_equal(fold, crossval.held_out_folds(cells, 4, seed=0))
    assert not np.array_equal(fold, crossval.held_out_folds(cells, 4, seed=1))


def test_the_fold_is_the_test_the_next_chooses_and_rendered_cells_train() -> None:
    cells = mixed()
    fold = crossval.held_out_folds(cells, 4, seed=0)
    for number in range(4):
        own = crossval.divided(cells, fold, number)
        assert set(own.split[fold == number]) == {"test"}
        assert set(own.split[fold == (number + 1) % 4]) == {"validation"}
        assert set(own.split[cells.source == "rendered"]) == {"train"}
        assert set(own.split[cells.source == "jtsc"]) == {EVALUATION}
        assert not {*own.group[own.split == "test"]} & {*own.group[own.split == "train"]}


def test_folds_are_trained_once_and_summed_up(tmp_path: Path) -> None:
    done = [rows for _, rows in crossval.crossval(mixed(), CONFIG, None, tmp_path, 3)]
    again = [rows for _, rows in crossval.crossval(mixed(), CONFIG, None, tmp_path, 3)]
    assert done == again
    assert sum(rows[0].n for rows in done) == 108
    document = crossval.save(tmp_path, CONFIG, done)
    assert json.loads((tmp_path / crossval.RESULT).read_text()) == json.loads(json.dumps(document))
    values = [rows[0].balanced_accuracy for rows in done]
    found = document["summary"][crossval.ALL]["balanced_accuracy"]
    assert found == {"mean": pytest.approx(np.mean(values)), "low": min(values), "high": max(values), "folds": 3}


def test_too_few_folds_or_groups_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as few:
        list(crossval.crossval(mixed(), CONFIG, None, tmp_path, 2))
    assert few.value.code == "too-few-folds"
    with pytest.raises(UsageError) as groups:
        crossval.held_out_folds(tiny_cells(n=6), 5, seed=0)
    assert groups.value.code == "too-few-groups"

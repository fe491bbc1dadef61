"""Grid search shared by processes and resumed after a kill, on a tiny network."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("keras", reason="the train extra is not installed")
pytest.importorskip("optuna", reason="optuna is not installed")

import optuna
import tiny_training
from tiny_training import GRID, TINY, tiny_cells

from edge.core.errors import InputError, UsageError
from training import fit
from training.search import JOURNAL, RESULT, Grid, folder_name, search

pytestmark = pytest.mark.train

CONFIG = replace(TINY, epochs=2)


@pytest.fixture(autouse=True, scope="module")
def _tiny() -> Iterator[None]:
    with tiny_training.registered():
        yield


def trials(folder: Path) -> list[optuna.trial.FrozenTrial]:
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder / JOURNAL)))
    return optuna.load_study(study_name="leukoscope", storage=storage).trials


@pytest.mark.slow
def test_two_processes_share_a_grid_of_which_a_killed_one_left_a_part(tmp_path: Path) -> None:
    first = tiny_training.child("search", str(tmp_path))
    deadline = time.monotonic() + 300
    while not any((tmp_path / folder_name(point) / "history.json").is_file() for point in GRID.points):
        assert first.poll() is None, first.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    begun = len(trials(tmp_path))
    assert 1 <= begun <= 4
    other = tiny_training.child("search", str(tmp_path))
    rows = search(tiny_cells(), CONFIG, None, tmp_path, GRID, prune=False)
    error = other.communicate(timeout=300)[1]
    assert other.returncode == 0, error
    assert {(row.batch, row.learning_rate, row.dropout) for row in rows} == set(GRID.points)
    assert [row.score for row in rows] == sorted((row.score for row in rows), reverse=True)
    for row in rows:
        best = max(epoch["score"] for epoch in fit.history(tmp_path / row.run))
        assert row.score == best
        assert row.epochs == 2
    document = json.loads((tmp_path / RESULT).read_text())
    assert [trial["score"] for trial in document["trials"]] == [row.score for row in rows]


def test_a_finished_search_only_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Grid((8,), (1e-3,), (0.0, 0.5))
    database = f"sqlite:///{tmp_path / 'search.db'}"
    rows = search(tiny_cells(), CONFIG, None, tmp_path / "out", grid, database)
    monkeypatch.setattr(fit, "fit", None)
    assert search(tiny_cells(), CONFIG, None, tmp_path / "out", grid, database) == rows
    with pytest.raises(UsageError) as caught:
        search(tiny_cells(), CONFIG, None, tmp_path / "out", Grid((8,), (1e-3,), (0.0,)), database)
    assert caught.value.code == "another-search"


def test_a_point_that_ended_in_an_error_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Grid((8,), (1e-3,), (0.0, 0.5))
    train = fit.fit

    def fail(*arguments: object, **named: object) -> Path:
        raise OSError("no space")

    monkeypatch.setattr(fit, "fit", fail)
    with pytest.raises(OSError, match="no space"):
        search(tiny_cells(), CONFIG, None, tmp_path, grid)
    monkeypatch.setattr(fit, "fit", train)
    assert len(search(tiny_cells(), CONFIG, None, tmp_path, grid)) == 2


def test_a_run_below_the_median_is_pruned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []

    def scored(cells: object, config: fit.RunConfig, weights: object, folder: Path, watch: object) -> None:
        begun.append(config.batch)
        for number in range(config.epochs):
            watch({"epoch": number, "score": 0.9 if len(begun) < 6 else 0.1})

    monkeypatch.setattr(fit, "fit", scored)
    grid = Grid((2, 4, 8, 16, 32, 64), (1e-3,), (0.0,))
    rows = search(tiny_cells(), replace(TINY, epochs=6), None, tmp_path, grid)
    assert [row.pruned for row in rows] == [False] * 5 + [True]
    assert rows[-1].batch == begun[-1]
    assert rows[-1].epochs == 3
    assert rows[-1].score == 0.1


def test_a_storage_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    for place in (str(tmp_path / "missing" / "file"), "nosuch://place"):
        with pytest.raises(InputError) as caught:
            search(tiny_cells(), CONFIG, None, tmp_path, GRID, place)
        assert caught.value.code == "storage-unusable"

"""Learning rate, stages and the early end; settings from a network's own, a file and options."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core.errors import InputError, UsageError
from training import schedule
from training.config import RunConfig
from training.settings import resolve

CONFIG = RunConfig(epochs=10, steps=20, warmup_epochs=1.0, learning_rate=1e-3)


def test_the_rate_warms_up_and_falls_to_a_hundredth() -> None:
    rates = [schedule.learning_rate(CONFIG, step) for step in range(200)]
    assert rates[0] == pytest.approx(1e-3 / 20)
    assert rates[19] == max(rates) == pytest.approx(1e-3)
    assert rates[110] == pytest.approx(1e-3 * (0.01 + 0.99 / 2), rel=1e-2)
    assert rates[-1] == pytest.approx(1e-5, rel=0.05)
    assert all(later <= earlier for earlier, later in pairwise(rates[19:]))


def test_fine_tuning_has_a_warm_up_and_a_peak_of_its_own() -> None:
    config = RunConfig(epochs=10, steps=20, frozen_epochs=3, learning_rate=1e-3, fine_tuning_rate=1e-4)
    rates = [schedule.learning_rate(config, step) for step in range(200)]
    assert rates[20:60] == [pytest.approx(1e-3)] * 40
    assert rates[60] == pytest.approx(1e-4 / 20)
    assert max(rates[60:]) == pytest.approx(1e-4)
    assert [schedule.frozen(config, epoch) for epoch in (0, 2, 3)] == [True, True, False]


def history(*scores: float) -> list[dict[str, float]]:
    return [{"score": score} for score in scores]


@pytest.mark.parametrize(
    ("scores", "settings", "over"),
    [
        ((), {}, False),
        ((0.5,) * 10, {}, True),
        ((0.9, 0.1, 0.1, 0.1), {}, False),
        ((0.9, 0.1), {"patience": 2}, False),
        ((0.9, 0.1, 0.1), {"patience": 2}, True),
        # An equal score is as good: it is chosen, too.
        ((0.9, 0.1, 0.9), {"patience": 2}, False),
        ((0.9, 0.1, 0.1), {"patience": 2, "frozen_epochs": 3}, False),
        # What the frozen stage reached does not end a fine-tuning that has hardly begun.
        ((0.9, 0.1, 0.1, 0.2), {"patience": 2, "frozen_epochs": 3}, False),
        ((0.9, 0.1, 0.1, 0.2, 0.3), {"patience": 2, "frozen_epochs": 3}, True),
    ],
)
def test_the_early_end(scores: tuple[float, ...], settings: dict[str, int], over: bool) -> None:
    assert schedule.ended(history(*scores), RunConfig(epochs=10, **settings)) is over


@given(st.integers(0, 10_000), st.floats(0.5, 0.9999))
def test_the_average_lies_between_what_it_averages(updates: int, decay: float) -> None:
    (found,) = schedule.average([np.zeros(3)], [np.ones(3)], updates, decay)
    assert (found >= 0).all()
    assert (found <= 1).all()


def test_options_come_before_the_file_and_the_file_before_the_networks_own(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model": "full", "dropout": 0.1, "steps": 7}), encoding="utf-8")
    assert resolve({"model": None}) == RunConfig()
    assert resolve({"model": "full"}).size == 224
    found = resolve({"steps": 9, "epochs": None}, path)
    assert (found.model, found.dropout, found.steps, found.batch, found.epochs) == ("full", 0.1, 9, 32, 20)


def test_the_settings_of_a_run_make_the_same_run_again(tmp_path: Path) -> None:
    config = RunConfig(model="baseline", leave_out=("bccd",), loss="focal", distillation_share=0.5)
    config.save(tmp_path / "config.json")
    assert resolve({}, tmp_path / "config.json") == config


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"model": "alexnet"}, "unknown-model"),
        ({"loss": "hinge"}, "setting-out-of-range"),
        ({"batch": 1}, "setting-out-of-range"),
        ({"dropout": 1.0}, "setting-out-of-range"),
        ({"learning_rate": float("nan")}, "setting-out-of-range"),
        ({"epochs": "many"}, "setting-out-of-range"),
        ({"attention": 1}, "setting-out-of-range"),
        ({"leave_out": "pbc"}, "setting-out-of-range"),
        ({"sise": 96}, "unknown-setting"),
    ],
)
def test_settings_that_cannot_be_are_refused(given: dict[str, object], code: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(given)
    assert caught.value.code == code
    assert caught.value.cure


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe"])
def test_a_file_that_holds_no_settings_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        resolve({}, path)
    assert caught.value.code == "settings-unreadable"
    with pytest.raises(InputError):
        resolve({}, tmp_path / "missing.json")

"""The loop on a tiny network: resumed, killed, frozen, taught, stopped early."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras", reason="the train extra is not installed")

import tiny_training
from tiny_training import TINY, tiny_cells

from edge.core.errors import InputError, UsageError
from training import distillation, fit
from training.checkpoint import Checkpoint
from training.data.sampling import BatchMaker
from training.models import registry

pytestmark = pytest.mark.train


@pytest.fixture(autouse=True, scope="module")
def _tiny() -> Iterator[None]:
    with tiny_training.registered():
        yield


class PowerCut(Exception):
    pass


def run(folder: Path, config: fit.RunConfig, *teachers: Path, cut_after: int | None = None) -> Checkpoint:
    def watch(epoch: dict[str, object]) -> None:
        if epoch["epoch"] == cut_after:
            raise PowerCut

    fit.fit(tiny_cells(), config, None, folder, teachers, watch)
    stored = Checkpoint.load(folder)
    assert stored is not None
    return stored


def same(one: Checkpoint, other: Checkpoint) -> None:
    for name in ("model", "average", "optimizer"):
        for first, second in zip(getattr(one, name), getattr(other, name), strict=True):
            np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)
    assert [epoch["loss"] for epoch in one.epochs] == pytest.approx([epoch["loss"] for epoch in other.epochs])


STAGED = replace(TINY, frozen_epochs=2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A run with a frozen stage that nothing broke off."""
    return run(tmp_path_factory.mktemp("whole"), STAGED)


@pytest.mark.parametrize("cut_after", [0, 1, 2])
def test_a_run_with_a_frozen_stage_goes_on_to_the_same_end(tmp_path: Path, cut_after: int, whole: Checkpoint) -> None:
    with pytest.raises(PowerCut):
        run(tmp_path, STAGED, cut_after=cut_after)
    same(run(tmp_path, STAGED), whole)


def test_a_frozen_base_keeps_its_weights_and_statistics_until_it_is_released(tmp_path: Path) -> None:
    config = replace(TINY, epochs=2, frozen_epochs=2)
    fit.keras.utils.set_random_seed(config.seed)
    before = registry.build(config, None)
    run(tmp_path / "frozen", config)
    frozen, _ = fit.load(tmp_path / "frozen")
    run(tmp_path / "released", replace(config, epochs=3))
    released, _ = fit.load(tmp_path / "released")
    for name in ("base", "base_bn"):
        for first, second in zip(
            before.get_layer(name).get_weights(), frozen.get_layer(name).get_weights(), strict=True
        ):
            # Averaging equal numbers rounds them.
            np.testing.assert_allclose(first, second, rtol=1e-5)
    assert not np.array_equal(before.get_layer("own").get_weights()[0], frozen.get_layer("own").get_weights()[0])
    stored = Checkpoint.load(tmp_path / "released")
    assert stored is not None
    assert not np.array_equal(stored.model[0], before.get_weights()[0])
    assert released.count_params() == frozen.count_params()


@pytest.mark.slow
def test_a_killed_process_loses_at_most_the_epoch_it_was_in(tmp_path: Path, whole: Checkpoint) -> None:
    child = tiny_training.child("fit", str(tmp_path / "killed"), "4", "1.5")
    history = tmp_path / "killed" / "history.json"
    deadline = time.monotonic() + 300
    while not (history.is_file() and len(json.loads(history.read_text())) >= 3):
        assert child.poll() is None, child.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    child.communicate()
    assert len(json.loads(history.read_text())) == 3
    same(run(tmp_path / "killed", STAGED), whole)


def test_a_kill_between_checkpoint_and_history_is_mended(tmp_path: Path) -> None:
    config = replace(TINY, epochs=2)
    whole = run(tmp_path / "run", config)
    history = tmp_path / "run" / "history.json"
    history.write_text(json.dumps(json.loads(history.read_text())[:1]), encoding="utf-8")
    run(tmp_path / "run", config)
    assert json.loads(history.read_text()) == whole.epochs


@pytest.mark.parametrize("loss", ["weighted", "class-balanced", "focal"])
def test_every_loss_and_both_optimizers_train(tmp_path: Path, loss: str) -> None:
    optimizer = "adam" if loss == "focal" else "adamw"
    stored = run(tmp_path, replace(TINY, loss=loss, optimizer=optimizer, epochs=1))
    assert np.isfinite(stored.epochs[0]["loss"])


def test_half_precision_gives_a_network_that_loads_in_single(tmp_path: Path) -> None:
    run(tmp_path, replace(TINY, epochs=1, mixed_precision=True))
    model, _ = fit.load(tmp_path)
    assert model.get_layer("own").compute_dtype == "float32"
    assert fit.keras.config.dtype_policy().name == "float32"


def test_a_run_ends_early_and_stays_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.5, 0.9, 0.3, 0.2, 0.1, 1.0, 1.0])
    monkeypatch.setattr(fit, "score", lambda rows, leave_out: next(scores))
    config = replace(TINY, epochs=6, patience=2)
    assert len(run(tmp_path, config).epochs) == 4
    assert len(run(tmp_path, config).epochs) == 4


def test_curves_are_written_where_tensorboard_finds_them(tmp_path: Path) -> None:
    from tensorflow import make_ndarray
    from tensorflow.compat.v1.train import summary_iterator

    stored = run(tmp_path, replace(TINY, epochs=2))
    (file,) = (tmp_path / "tensorboard").glob("events.*")
    found: dict[str, list[float]] = {}
    for event in summary_iterator(str(file)):
        for value in event.summary.value:
            assert value.metadata.plugin_data.plugin_name == "scalars"
            found.setdefault(value.tag, []).append(float(make_ndarray(value.tensor)))
    assert found["loss"] == pytest.approx([epoch["loss"] for epoch in stored.epochs])


def test_a_student_learns_what_its_teachers_answer(tmp_path: Path) -> None:
    """With the teacher's share at 1 the labels do not matter: the loss is the divergence from the teachers' mean."""
    for name, epochs in (("first", 1), ("second", 2)):
        run(tmp_path / name, replace(TINY, epochs=epochs))
    teachers = (tmp_path / "first", tmp_path / "second")
    config = replace(TINY, epochs=3, distillation_share=0.7)
    with pytest.raises(PowerCut):
        run(tmp_path / "student", config, *teachers, cut_after=0)
    same(run(tmp_path / "student", config, *teachers), run(tmp_path / "whole", config, *teachers))
    told = json.loads((tmp_path / "student" / "teachers.json").read_text())
    assert [item["run"] for item in told] == ["first", "second"]
    with pytest.raises(UsageError) as caught:
        run(tmp_path / "student", config, teachers[0])
    assert caught.value.code == "another-run"


def test_teachers_answer_with_the_mean_of_their_logits_at_their_own_size(tmp_path: Path) -> None:
    large = replace(TINY, size=64, epochs=1)
    fit.fit(tiny_cells(64), large, None, tmp_path / "large")
    fit.fit(tiny_cells(64), replace(TINY, epochs=1), None, tmp_path / "small")
    folders = [tmp_path / "large", tmp_path / "small"]
    taught = distillation.load(folders, TINY)
    maker = BatchMaker(tiny_cells(64), TINY, teachers=taught.preprocessings)
    batch = maker.make(0, 0)
    assert batch.inputs.shape == (8, 32, 32, 3)
    assert {key.size: value.shape for key, value in batch.teacher_inputs.items()} == {
        64: (8, 64, 64, 3),
        32: (8, 32, 32, 3),
    }
    answers = [
        fit.load(folder)[0].predict(batch.teacher_inputs[wanted], verbose=0)["logits"]
        for folder, wanted in zip(folders, taught.preprocessings, strict=True)
    ]
    np.testing.assert_allclose(taught.targets(batch)[:, 6:], np.mean(answers, axis=0), atol=1e-5)
    np.testing.assert_array_equal(taught.targets(batch)[:, :6], batch.targets)


def test_the_student_sees_what_its_teacher_sees() -> None:
    """Halved by averaging areas, the teacher's view is the student's."""
    plain = replace(TINY, stain="none")
    batch = BatchMaker(tiny_cells(64), plain, teachers=[replace(plain, size=64).preprocessing]).make(0, 0)
    (large,) = batch.teacher_inputs.values()
    halved = large.reshape(8, 32, 2, 32, 2, 3).mean(axis=(2, 4))
    # Both were rounded to grey levels, which are 2 / 255 apart.
    np.testing.assert_allclose(batch.inputs, halved, atol=1.01 / 127.5)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"split_seed": 1}, "teacher-of-another-split"),
        ({"leave_out": ("bccd",)}, "teacher-saw-left-out"),
        ({"margin": 2.5}, "teacher-of-another-margin"),
    ],
)
def test_a_teacher_that_would_give_held_out_cells_away_is_refused(change: dict[str, object], code: str) -> None:
    with pytest.raises(UsageError) as caught:
        distillation.require_honest(TINY, replace(TINY, **change), "run")
    assert caught.value.code == code


def test_mistakes_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(InputError) as unfinished:
        fit.load(tmp_path)
    assert unfinished.value.code == "no-finished-run"
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "config.json").write_text('{"denoise": false}', encoding="utf-8")
    for use in (fit.load, lambda folder: run(folder, TINY)):
        with pytest.raises(InputError) as old:
            use(tmp_path / "old")
        assert old.value.code == "settings-unreadable"
    with pytest.raises(UsageError) as small:
        BatchMaker(tiny_cells(), replace(TINY, size=64))
    assert small.value.code == "crops-too-small"
    with pytest.raises(UsageError) as share:
        run(tmp_path, replace(TINY, distillation_share=0.5))
    assert share.value.code == "teacher-without-share"


def test_workers_together_make_the_batch_that_one_makes_alone() -> None:
    whole = BatchMaker(tiny_cells(), TINY).make(1, 2)
    parts = [BatchMaker(tiny_cells(), TINY, range(start, start + 4)).make(1, 2) for start in (0, 4)]
    for name in ("inputs", "targets", "weights"):
        np.testing.assert_array_equal(getattr(whole, name), np.concatenate([getattr(part, name) for part in parts]))

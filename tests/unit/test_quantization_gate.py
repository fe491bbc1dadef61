"""The parity gate: which variants may stand for a network, and who pays where one may not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import small_networks
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from edge.bundle import manifest
from edge.core.errors import RuntimeUnavailableError, UsageError
from edge.core.types import Outputs, RuntimeInfo
from edge.inference.classifier import softmax
from edge.inference.second_look import look_again
from quantization import gate, latency, variants
from quantization.errors import ParityError
from quantization.looks import looks
from training.predictions import SECOND_LOOK, SecondLook


def logits(called: np.ndarray) -> np.ndarray:
    return np.eye(6, dtype=np.float32)[called] * 5


def judged(labels: np.ndarray, before: np.ndarray, after: np.ndarray, source: str = "bccd") -> gate.Row:
    return gate.judge("int8", source, labels, logits(before), logits(after))


def balanced(each: int) -> np.ndarray:
    return np.repeat(np.arange(6), each)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=200))
def test_the_figures_are_those_of_their_definitions(cells: list[tuple[int, int, int]]) -> None:
    labels, before, after = np.array(cells).T
    row = judged(labels, before, after)
    present = np.unique(labels)
    expected = metrics.f1_score(labels, after, labels=present, average="macro", zero_division=0)
    assert row.macro_f1 == pytest.approx(expected)
    recalls = metrics.recall_score(labels, after, labels=present, average=None, zero_division=0)
    assert [item.after / item.n for item in row.classes] == pytest.approx(list(recalls))
    assert row.logits.agreement == pytest.approx(np.mean(before == after))
    # What changes nothing, or one call, breaks no rule; what only repairs breaks none about a class.
    if (before != after).sum() <= 1:
        assert not row.faults
    assert not any("pays" in fault for fault in judged(labels, before, labels).faults)


def test_one_percent_of_the_cells_may_change_and_no_more() -> None:
    labels = balanced(200)
    after = labels.copy()
    # Between classes, so that none loses more than 2 of its 200.
    after[::100] = (after[::100] + 1) % 6
    assert np.sum(labels != after) == 12
    assert not [fault for fault in judged(labels, labels, after).faults if "another class" in fault]
    after[1] = 3
    assert any("13 of 1200 cells get another class" in fault for fault in judged(labels, labels, after).faults)


def test_the_class_that_pays_is_named() -> None:
    labels = balanced(100)
    after = labels.copy()
    after[100:103] = 4
    row = judged(labels, labels, after)
    assert row.faults == ("lymphocyte pays: 100 of 100 were right, now 97",)
    after[102] = 1
    assert not judged(labels, labels, after).faults


def test_pbc_has_the_stricter_rule_for_macro_f1() -> None:
    labels = balanced(150)
    after = labels.copy()
    after[[0, 150, 300, 450, 600, 750]] = [1, 2, 3, 4, 5, 0]
    assert not judged(labels, labels, after, "embedded").faults
    assert any("macro-F1 falls" in fault for fault in judged(labels, labels, after, "pbc").faults)


def test_one_cell_of_a_small_class_is_let_go_and_two_are_not() -> None:
    labels = np.repeat(np.arange(5), [4, 6, 4, 8, 2])
    after = labels.copy()
    after[-1] = 0
    assert not judged(labels, labels, after).faults
    after[0] = 1
    faults = judged(labels, labels, after).faults
    assert any("another class" in fault for fault in faults)
    assert any("macro-F1" in fault for fault in faults)


def test_a_variant_that_fails_is_refused_with_its_source_and_class() -> None:
    labels = balanced(100)
    after = labels.copy()
    after[400:410] = 2
    row = judged(labels, labels, after, "pbc")
    gate.require([judged(labels, labels, labels)])
    with pytest.raises(ParityError) as caught:
        gate.require([judged(labels, labels, labels), row])
    assert caught.value.code == "parity-failed"
    assert "int8 on pbc" in caught.value.message
    assert "basophil pays" in caught.value.message
    assert "basophil -10 of 100 (-10.0)" in gate.table([row])


@dataclass(frozen=True)
class _Set:
    name: str
    inputs: np.ndarray
    labels: np.ndarray
    wider: Callable[[int, float], np.ndarray] | None = None


class _Definition:
    """The small network computed from its definition, in place of the trained one."""

    info = RuntimeInfo("numpy", np.__version__, "float64", "cpu", 1)

    def __enter__(self) -> _Definition:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def run(self, batch: np.ndarray) -> Outputs:
        return Outputs(small_networks.expected(batch)[0].astype(np.float32))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "student-int8.tflite").write_bytes(small_networks.tflite_network(quantized=True))
    (tmp_path / "student-float32.tflite").write_bytes(small_networks.tflite_network(quantized=False))
    (tmp_path / "history.json").write_text("[]")
    return tmp_path


def pictures(n: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (n, 16, 16, 3)).astype(np.float32)


def test_every_file_of_a_run_is_compared_on_its_own_runtime(run: Path) -> None:
    pytest.importorskip("onnxruntime")
    (run / "student-float32.onnx").write_bytes(small_networks.onnx_network())
    found = variants.all_of(run)
    assert [item.name for item in found] == [
        "student-float32 on onnxruntime",
        "student-float32 on litert",
        "student-int8 on litert",
    ]
    batch = pictures(40)
    truth = small_networks.expected(batch)[0].argmax(axis=1)
    rows = gate.measure(variants.Variant("definition", None, _Definition), found, [_Set("pbc", batch, truth)]).rows
    assert [row.variant for row in rows] == [item.name for item in found]
    assert rows[0].logits.largest < 1e-5
    assert rows[1].logits.largest < 1e-5
    assert 0.001 < rows[2].logits.largest < 0.2
    timed = latency.measure(found, batch[:2], rounds=3)
    assert [row.size for row in timed] == [item.file.stat().st_size for item in found if item.file]
    assert all(0 < row.fastest_tenth <= row.median for row in timed)
    assert all(row.processor >= 0 for row in timed)
    assert latency.table(timed).count("\n") == len(timed) + 1


def test_the_device_s_second_look_is_what_is_judged(run: Path) -> None:
    reference = variants.Variant("definition", None, _Definition)
    quantized = variants.of_file("litert", run / "student-int8.tflite")
    batch = pictures(60)
    truth = small_networks.expected(batch)[0].argmax(axis=1)
    probabilities = np.sort(softmax(small_networks.expected(batch)[0]).max(axis=1))
    below = float(probabilities[20:22].mean())
    compared = gate.measure(reference, [quantized], [_Set("pbc", batch, truth)], SecondLook(below))
    with reference.open() as one, quantized.open() as other:
        expected = [look_again(batch, item.run(batch), item.run, below).logits for item in (one, other)]
        first = [item.run(batch).logits for item in (one, other)]
    assert (expected[0] != first[0]).any(axis=1).sum() == 21
    assert compared.rows[0] == gate.judge(quantized.name, "pbc", truth, expected[0], expected[1])
    assert compared.first[0] == gate.judge(quantized.name, "pbc", truth, first[0], first[1])
    once = gate.measure(reference, [quantized], [_Set("pbc", batch, truth)])
    assert once.rows == once.first == compared.first
    assert once.table().count("| student-int8") == 1
    assert compared.table().count("| student-int8") == 2


def test_the_second_look_is_that_of_the_manifest_or_of_a_run(run: Path, root: Path) -> None:
    shipped = root / "edge" / "shipped" / "wbc-student"
    calibration = manifest.load(shipped).calibration
    assert variants.second_look(shipped) == SecondLook(calibration.second_look, calibration.second_look_widths)
    assert variants.second_look(run) == SECOND_LOOK


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**31), st.floats(0, 1), st.sampled_from([(), (1.2,), (1.2, 1.4)]))
def test_a_variant_takes_the_device_s_second_look_in_batches_that_it_can_hold(
    seed: int, below: float, widths: tuple[float, ...]
) -> None:
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(7, 6, 6, 3)).astype(np.float32)
    weights = generator.normal(size=(6, 6, 3, 6)) * 0.3
    calls = []

    def network(batch: np.ndarray) -> Outputs:
        calls.append(len(batch))
        # One picture at a time: another number of rows in a product may round otherwise.
        return Outputs(np.stack([np.tensordot(item, weights, 3) for item in batch]).astype(np.float32))

    def wider(row: int, width: float) -> np.ndarray:
        return (inputs[row] * width).astype(np.float32)

    found = looks(network, inputs, SecondLook(below, widths), wider)
    assert max(calls) <= 7, "seven pictures were given; a cell has seven further views at most"
    np.testing.assert_array_equal(found.first, network(inputs).logits)
    np.testing.assert_array_equal(
        found.called, look_again(inputs, network(inputs), network, below, widths, wider).logits
    )


def test_another_interpreter_runs_the_same_file(run: Path) -> None:
    found = variants.all_of(run, python=Path(sys.executable))[-1]
    assert not found.quick
    batch = pictures(3)
    with found.open() as there, variants.of_file("litert", run / "student-int8.tflite").open() as here:
        assert there.info.precision == "int8"
        np.testing.assert_array_equal(there.run(batch).logits, here.run(batch).logits)
    assert not latency.measure([found], batch)


def test_an_interpreter_without_a_runtime_is_one_clear_error(run: Path, tmp_path: Path) -> None:
    for python in (tmp_path / "absent", Path("/bin/false")):
        with (
            pytest.raises(RuntimeUnavailableError, match=r"cannot run student-int8\.tflite"),
            variants.elsewhere(run / "student-int8.tflite", python).open(),
        ):
            pass


@pytest.mark.parametrize(("text", "code"), [("warp:x.tflite", "variant-missing"), ("warp:{file}", "unknown-runtime")])
def test_a_further_variant_must_exist(run: Path, text: str, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        variants.all_of(run, [text.format(file=run / "student-int8.tflite")])
    assert caught.value.code == code


def test_the_variants_of_a_bundle_are_those_of_its_manifest(root: Path) -> None:
    (found,) = variants.in_folder(root / "edge" / "shipped" / "wbc-student")
    assert found.name == "int8 on litert"
    with found.open() as runtime:
        assert runtime.run(np.zeros((1, 96, 96, 3), np.float32)).logits.shape == (1, 6)

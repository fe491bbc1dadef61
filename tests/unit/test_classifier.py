"""From logits to a call: probabilities, `other`, abstention, and where the call comes from."""

from __future__ import annotations

import math
from pathlib import Path

import bundles
import msgspec
import numpy as np
import pytest
import small_networks as small
from hypothesis import given
from hypothesis import strategies as st

from edge.bundle import manifest
from edge.bundle.manifest import NETWORK_LABELS, Calibration
from edge.core.errors import BundleError, RuntimeUnavailableError
from edge.core.labels import LABELS, OTHER
from edge.core.types import Box, CellCall, LocatedCell, Outputs, RuntimeInfo
from edge.inference import negotiate
from edge.inference.classifier import LOW_CONFIDENCE, Classifier, cut_wider, decide, evidence
from edge.inference.saliency import overlay

BOX = Box(1, 2, 3, 4)
logits_of_six = st.lists(st.floats(-1000, 1000, width=32), min_size=6, max_size=6).map(
    lambda v: np.array(v, np.float32)
)


def call(*logits: float, temperature: float = 1.0, threshold: float = 0.0) -> CellCall:
    calibration = Calibration(temperature=temperature, abstention_threshold=threshold)
    return decide(np.array([logits], np.float32), [BOX], calibration)[0]


def evidence_for(maps: np.ndarray, label: str) -> np.ndarray:
    return evidence(maps[None], np.array([NETWORK_LABELS.index(label)]))[0]


class FixedRuntime:
    """Gives the outputs it was made with, row by row, whatever it is shown; remembers the sizes of the batches."""

    info = RuntimeInfo("fixed", "1", "float32", "cpu", 1)

    def __init__(self, logits: np.ndarray, features: np.ndarray | None = None) -> None:
        self._logits, self._features = logits, features
        self.batches: list[int] = []

    def __enter__(self) -> FixedRuntime:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def run(self, batch: np.ndarray) -> Outputs:
        start = sum(self.batches)
        self.batches.append(len(batch))
        rows = slice(start, start + len(batch))
        return Outputs(self._logits[rows], None if self._features is None else self._features[rows])


@pytest.fixture
def stated(tmp_path: Path) -> manifest.Manifest:
    pytest.importorskip("ai_edge_litert")
    return manifest.load(bundles.build(tmp_path / "bundle"))


# By hand: e^2 / (e^2 + e^1 + 3), and with temperature 2, e^1 / (e^1 + e^0.5 + 3).
def test_probabilities_are_the_softmax_of_the_five() -> None:
    found = call(2, 1, 0, 0, 0, -50)
    assert found.label == "neutrophil"
    assert found.probabilities[0] == pytest.approx(math.e**2 / (math.e**2 + math.e + 3), rel=1e-6)
    warm = call(2, 1, 0, 0, 0, -50, temperature=2)
    assert warm.probabilities[0] == pytest.approx(math.e / (math.e + math.e**0.5 + 3), rel=1e-6)
    assert found.box == BOX


@pytest.mark.parametrize(("row", "label"), list(enumerate(NETWORK_LABELS)))
def test_the_largest_of_the_six_is_the_label(row: int, label: str) -> None:
    logits = [0.0] * 6
    logits[row] = 1.0
    assert call(*logits).label == label


def test_other_wins_over_a_confident_five_and_is_no_abstention() -> None:
    found = call(9, 0, 0, 0, 0, 9.5, threshold=0.9)
    assert found.label == OTHER
    assert not found.abstained
    assert found.reason is None
    assert found.probabilities[0] > 0.99


def test_below_the_threshold_the_call_abstains_and_keeps_its_best_label() -> None:
    found = call(1, 0.9, 0, 0, 0, -5, threshold=0.6)
    assert (found.label, found.abstained, found.reason) == ("neutrophil", True, LOW_CONFIDENCE)


def test_a_probability_equal_to_the_threshold_is_enough() -> None:
    assert not call(0, 0, 0, 0, 0, -1, threshold=0.2).abstained
    assert call(0, 0, 0, 0, 0, -1, threshold=math.nextafter(0.2, 1)).abstained


@given(logits_of_six, st.floats(0.01, 100), st.floats(0, 1))
def test_every_call_is_consistent(logits: np.ndarray, temperature: float, threshold: float) -> None:
    (found,) = decide(logits[None], [BOX], Calibration(temperature=temperature, abstention_threshold=threshold))
    assert len(found.probabilities) == len(LABELS)
    assert sum(found.probabilities) == pytest.approx(1, abs=1e-9)
    assert all(0 <= p <= 1 for p in found.probabilities)
    assert logits[NETWORK_LABELS.index(found.label)] == logits.max()
    if found.label == OTHER:
        assert not found.abstained
    else:
        best = found.probability_by_label()[found.label]
        assert best == max(found.probabilities)
        assert found.abstained == (best < threshold)
    assert (found.reason is not None) == found.abstained


@given(logits_of_six, st.floats(-100, 100))
def test_adding_to_all_logits_alike_changes_nothing(logits: np.ndarray, shift: float) -> None:
    exact = np.round(logits.astype(np.float64))
    calibration = Calibration(temperature=1, abstention_threshold=0.5)
    before, after = decide(np.stack([exact, exact + round(shift)]), [BOX, BOX], calibration)
    assert before.label == after.label
    assert before.probabilities == pytest.approx(after.probabilities, abs=1e-12)


def test_the_classifier_gives_the_network_s_own_answer(stated: manifest.Manifest, tmp_path: Path) -> None:
    pictures = bundles.crops(40)
    logits, maps = small.expected(bundles.network_input(pictures))
    boxes = [Box(n, 0, 5, 5) for n in range(len(pictures))]
    folder = tmp_path / "bundle"
    with negotiate.choose(stated, folder).open(folder) as runtime:
        calls = Classifier(stated, runtime).classify(list(pictures), boxes, with_activation=True)
    assert [found.box for found in calls] == boxes
    for found, row, where in zip(calls, logits, maps, strict=True):
        (exact,) = decide(row[None].astype(np.float32), [found.box], stated.calibration)
        np.testing.assert_allclose(found.probabilities, exact.probabilities, atol=0.05)
        if np.sort(row)[-1] - np.sort(row)[-2] > 0.2:
            assert found.label == exact.label
            np.testing.assert_allclose(found.activation, evidence_for(where.astype(np.float32), found.label), atol=0.2)


def test_many_cells_go_in_bounded_batches_and_come_back_in_order(stated: manifest.Manifest) -> None:
    count = 100
    logits = np.zeros((count, 6), np.float32)
    logits[np.arange(count), np.arange(count) % 6] = 5
    runtime = FixedRuntime(logits)
    calls = Classifier(stated, runtime).classify(list(bundles.crops(count)))
    assert [found.label for found in calls] == [NETWORK_LABELS[n % 6] for n in range(count)]
    assert sum(runtime.batches) == count
    assert max(runtime.batches) <= 32


def test_no_cells_give_no_calls_and_do_not_bother_the_runtime(stated: manifest.Manifest) -> None:
    runtime = FixedRuntime(np.zeros((0, 6), np.float32))
    assert Classifier(stated, runtime).classify([], []) == []
    assert runtime.batches == []


def test_activation_is_there_only_when_asked_for(stated: manifest.Manifest) -> None:
    outputs = np.eye(6, dtype=np.float32), np.ones((6, 2, 2, 6), np.float32)
    plain = Classifier(stated, FixedRuntime(*outputs)).classify(list(bundles.crops(6)))
    assert all(found.activation is None for found in plain)


def test_a_network_without_maps_cannot_be_asked_for_them(stated: manifest.Manifest) -> None:
    with pytest.raises(BundleError) as caught:
        Classifier(stated, FixedRuntime(np.eye(6, dtype=np.float32))).classify(list(bundles.crops(6)), None, True)
    assert caught.value.code == "model-without-activation"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_cannot_be_are_never_called(stated: manifest.Manifest, bad: float) -> None:
    logits = np.zeros((4, 6), np.float32)
    logits[2, 1] = bad
    with pytest.raises(RuntimeUnavailableError) as caught:
        Classifier(stated, FixedRuntime(logits)).classify(list(bundles.crops(4)))
    assert caught.value.code == "runtime-not-finite"


def test_a_network_of_other_classes_is_refused(stated: manifest.Manifest) -> None:
    with pytest.raises(BundleError) as caught:
        Classifier(stated, FixedRuntime(np.zeros((4, 5), np.float32))).classify(list(bundles.crops(4)))
    assert caught.value.code == "model-mismatch"


def test_wrong_arguments_are_refused(stated: manifest.Manifest) -> None:
    classifier = Classifier(stated, FixedRuntime(np.zeros((4, 6), np.float32)))
    with pytest.raises(ValueError, match="boxes"):
        classifier.classify(list(bundles.crops(4)), [BOX])
    with pytest.raises(ValueError, match="crop"):
        classifier.classify([np.zeros((17, 16, 3), np.uint8)])


def test_the_manifest_s_colour_order_is_obeyed(stated: manifest.Manifest) -> None:
    seen: list[np.ndarray] = []

    class Watcher(FixedRuntime):
        def run(self, batch: np.ndarray) -> Outputs:
            seen.append(batch)
            return super().run(batch)

    blue = np.zeros((small.SIDE, small.SIDE, 3), np.uint8)
    blue[..., 0] = 255
    for order, channel in (("RGB", 2), ("BGR", 0)):
        preprocessing = msgspec.structs.replace(stated.preprocessing, colour_order=order)
        changed = msgspec.structs.replace(stated, preprocessing=preprocessing)
        Classifier(changed, Watcher(np.zeros((1, 6), np.float32))).classify([blue])
        assert seen[-1][0, 0, 0].argmax() == channel


def test_a_doubtful_cell_is_cut_wider_by_its_own_place(stated: manifest.Manifest) -> None:
    calibration = msgspec.structs.replace(stated.calibration, second_look=1.0, second_look_widths=(1.5,))
    changed = msgspec.structs.replace(stated, calibration=calibration)
    asked: list[tuple[int, float]] = []
    crops = list(bundles.crops(20))

    def wider(index: int, width: float) -> np.ndarray:
        asked.append((index, width))
        return crops[index]

    class Doubtful(FixedRuntime):
        def run(self, batch: np.ndarray) -> Outputs:
            return Outputs(np.zeros((len(batch), 6), np.float32))

    Classifier(changed, Doubtful(np.zeros((1, 6), np.float32))).classify(crops, wider=wider)
    assert asked == [(index, 1.5) for index in range(20)], "more than one batch, each cell once"


def test_a_wider_cut_shows_more_of_the_field(stated: manifest.Manifest) -> None:
    field = np.zeros((400, 400, 3), np.uint8)
    field[150:250, 150:250] = 200
    cell = LocatedCell(Box(150, 150, 100, 100), (200.0, 200.0), 100.0)
    wider = cut_wider(field, [cell], msgspec.structs.replace(stated.preprocessing, margin=1.0))
    assert wider(0, 1.0).mean() == 200
    assert wider(0, 2.0).mean() == pytest.approx(50, abs=5)


# Where a call comes from.


def test_evidence_is_where_the_class_stands_out() -> None:
    maps = np.zeros((3, 3, 6), np.float32)
    maps[1, 2, 4] = 6
    maps[0, 0, 4] = 3
    maps[2, 2, 1] = 9
    found = evidence_for(maps, "basophil")
    assert found[1, 2] == 1
    assert found[0, 0] == pytest.approx(0.5)
    assert found[2, 2] == 0
    assert found.dtype == np.float32


@given(st.integers(0, 2**32 - 1), st.sampled_from(NETWORK_LABELS), st.floats(-50, 50))
def test_evidence_is_a_map_of_shares_blind_to_what_all_classes_share(seed: int, label: str, shift: float) -> None:
    maps = np.random.default_rng(seed).normal(size=(3, 4, 6)).astype(np.float32)
    found = evidence_for(maps, label)
    assert found.shape == (3, 4)
    assert found.min() >= 0
    assert found.max() in (0, 1)
    np.testing.assert_allclose(evidence_for(maps + np.float32(shift), label), found, atol=1e-3)


def test_nothing_for_the_class_is_all_zero_and_never_divided() -> None:
    assert not evidence_for(np.full((2, 2, 6), 7, np.float32), "monocyte").any()


def test_the_overlay_leaves_what_does_not_matter_and_marks_what_does() -> None:
    crop = np.full((32, 32, 3), 100, np.uint8)
    untouched = overlay(crop, np.zeros((2, 2), np.float32))
    np.testing.assert_array_equal(untouched, crop)
    marked = overlay(crop, np.array([[1, 0], [0, 0]], np.float32))
    assert marked.shape == crop.shape
    assert marked.dtype == np.uint8
    changed = np.abs(marked.astype(int) - crop).sum(axis=2)
    assert changed[4, 4] > 50
    assert changed[28, 28] < 5


def test_strong_evidence_is_bright_for_every_eye() -> None:
    """Luminance must carry the scale: colour alone is lost to a reader with colour-vision deficiency."""
    crop = np.full((8, 8, 3), 120, np.uint8)
    levels = [
        overlay(crop, np.full((1, 1), share, np.float32), strength=1.0).mean(axis=(0, 1)) for share in (0.5, 0.75, 1)
    ]
    luminance = [0.114 * b + 0.587 * g + 0.299 * r for b, g, r in levels]
    assert luminance == sorted(luminance)
    assert luminance[-1] - luminance[0] > 30

"""Commissioning without a network: folds, gate, the site's statistics and stain, pictures of a site, replay."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from devices.cameras.simulated import SimulatedCamera
from edge.bundle.manifest import DataSource
from edge.core.errors import InputError, NothingToDoError, UsageError
from edge.core.types import Quality
from edge.imaging import crop, flatfield, locate
from edge.inference.classifier import softmax
from training.adaptation import folds, gate, pictures, replay, statistics, trust
from training.config import RunConfig
from training.data import rendered
from training.data.cells import Cells

CONFIG = RunConfig(size=48)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 12)), min_size=8, max_size=70), st.integers(0, 5))
def test_a_group_never_crosses_folds_and_no_fold_is_empty(cells: list[tuple[int, int]], seed: int) -> None:
    labels, groups = np.array([label for label, _ in cells]), np.array([f"v{group}" for _, group in cells])
    count = len(np.unique(groups))
    if count < 4:
        with pytest.raises(ValueError, match="groups"):
            folds.assign(labels, groups, 4, seed)
        return
    found = folds.assign(labels, groups, 4, seed)
    assert set(found.tolist()) == {0, 1, 2, 3}
    for group in np.unique(groups):
        assert len(np.unique(found[groups == group])) == 1
    np.testing.assert_array_equal(found, folds.assign(labels, groups, 4, seed))


def test_classes_are_spread_over_the_folds() -> None:
    labels = np.repeat([0, 1, 2], [20, 10, 5])
    found = folds.assign(labels, np.arange(35).astype(str), 5, 0)
    for label, each in ((0, 4), (1, 2), (2, 1)):
        assert np.bincount(found[labels == label], minlength=5).tolist() == [each] * 5


@pytest.mark.parametrize(("won", "lost"), [(7, 0), (6, 2), (3, 3), (1, 5)])
def test_with_one_cell_a_group_the_test_is_the_exact_sign_test(won: int, lost: int) -> None:
    n = 30
    old, new = np.ones(n, bool), np.ones(n, bool)
    old[:won] = False
    new[won : won + lost] = False
    found = gate.compare(np.zeros(n, np.int64), old, new, np.arange(n).astype(str))
    expected = stats.binomtest(won, won + lost, alternative="greater").pvalue
    assert found.p == pytest.approx(expected)


def test_many_groups_are_sampled_and_agree_with_the_exact_p() -> None:
    old, new = np.zeros(40, bool), np.zeros(40, bool)
    new[:14] = True
    old[14:19] = True
    labels, groups = np.zeros(40, np.int64), np.arange(40).astype(str)
    exact = stats.binomtest(14, 19, alternative="greater").pvalue
    assert gate.compare(labels, old, new, groups).p == pytest.approx(exact, rel=0.25)
    assert gate.compare(labels, old, new, groups) == gate.compare(labels, old, new, groups)


def test_eleven_pictures_of_one_cell_are_one_piece_of_evidence() -> None:
    old, new = np.zeros(11, bool), np.ones(11, bool)
    found = gate.compare(np.zeros(11, np.int64), old, new, ["one"] * 11)
    assert (found.old, found.new, found.groups) == (0.0, 1.0, 1)
    assert found.p == pytest.approx(0.5)
    assert [item.code for item in gate.judge_site(found, gate.Limits())] == ["not-shown-better"]


def test_every_refusal_has_its_code_and_the_figures() -> None:
    limits = gate.Limits()
    worse = gate.Comparison(cells=60, groups=30, old=0.8, new=0.7, p=0.9)
    assert [item.code for item in gate.judge_site(worse, limits)] == ["worse-on-held-out"]
    weak = gate.Comparison(cells=60, groups=30, old=0.2, new=0.4, p=0.001)
    assert [item.code for item in gate.judge_site(weak, limits)] == ["too-weak"]
    good = gate.Comparison(cells=60, groups=30, old=0.6, new=0.9, p=0.02)
    assert not gate.judge_site(good, limits, tried=1)
    # Two ways were tried on these cells: each has half of what may go wrong by chance.
    assert not gate.judge_site(good, limits, tried=2)
    assert [item.code for item in gate.judge_site(good, limits, tried=3)] == ["not-shown-better"]
    assert not gate.judge_source(0.95, 0.93, limits)
    assert gate.judge_source(0.95, 0.60, limits)[0].code == "source-forgotten"
    calls = np.array([0, 1, 2, 3])
    assert not gate.judge_unlabelled(calls, np.array([0, 1, 2, 1]), limits)
    assert {item.code for item in gate.judge_unlabelled(calls, np.zeros(4, np.int64), limits)} == {
        "changed-too-much",
        "collapsed",
    }
    assert gate.judge_quantized(0.5, limits)[0].code == "quantization-differs"
    with pytest.raises(gate.AdaptationRefusedError, match=r"0\.800 before, 0\.700 after") as caught:
        gate.require(gate.judge_site(worse, limits))
    assert (caught.value.code, caught.value.exit_code) == ("worse-on-held-out", 3)


def test_a_site_without_a_usable_field_is_refused_with_the_reasons() -> None:
    with pytest.raises(NothingToDoError, match="blurred 2") as caught:
        statistics.of_site("clinic", [Quality(False, ("blurred",))] * 2, np.zeros((0, 72, 72, 3), np.uint8))
    assert caught.value.code == "no-usable-field"


def fields_in(folder: Path, count: int = 3) -> Path:
    folder.mkdir()
    with SimulatedCamera(seed=3) as camera:
        for number, frame in zip(range(count), camera.frames(), strict=False):
            cv2.imwrite(str(folder / f"field{number}.png"), frame.image)
    return folder


def test_fields_give_statistics_and_cells_and_a_broken_one_is_listed_and_left_out(tmp_path: Path) -> None:
    folder = fields_in(tmp_path / "fields")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and nothing more")
    found = pictures.read_fields(folder, CONFIG)
    assert len(found.qualities) == 3
    assert [Path(item.file).name for item in found.unreadable] == ["broken.png"]
    assert found.crops.shape[1:] == (72, 72, 3)
    assert len(found.crops) >= 3
    site = statistics.of_site("clinic", found.qualities, found.crops)
    values = json.loads(site.to_json())
    assert values["accepted"] == 3
    assert values["reference"]["focus"] == pytest.approx(np.median([q.focus for q in found.qualities]))
    assert len(values["stain"]["strengths"]) == len(found.crops)


@pytest.mark.parametrize("content", [None, b"not a picture"])
def test_a_folder_without_a_readable_field_is_an_error_with_a_cure(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError) as caught:
        pictures.read_fields(tmp_path, CONFIG)
    assert caught.value.cure


def cells_in(folder: Path, per_class: int = 3) -> Path:
    images, names = rendered.pictures(per_class, 8)
    for number, (image, name) in enumerate(zip(images, names, strict=True)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name / f"{number}.png"), image)
    return folder


def test_class_folders_and_a_manifest_give_the_same_cells(tmp_path: Path) -> None:
    folder = cells_in(tmp_path / "cells")
    listed = pictures.list_cells(folder)
    assert len(listed) == 15
    rows = [f"{item.path.relative_to(folder)},{item.label.upper()},view{i // 2}" for i, item in enumerate(listed)]
    (folder / "manifest.csv").write_text("file,label,group\n" + "\n".join(rows) + "\n", encoding="utf-8")
    named = pictures.list_cells(folder)
    assert [item.label for item in named] == [item.label for item in listed]
    assert len({item.group for item in named}) == 8
    one, _ = pictures.read_cells(listed, "clinic", CONFIG)
    other, _ = pictures.read_cells(named, "clinic", CONFIG)
    np.testing.assert_array_equal(one.crops, other.crops)
    assert set(one.source) == {"clinic"}


def test_the_same_picture_twice_is_one_group(tmp_path: Path) -> None:
    folder = cells_in(tmp_path / "cells", 1)
    first = next((folder / "neutrophil").iterdir())
    (folder / "neutrophil" / "again.png").write_bytes(first.read_bytes())
    cells, _ = pictures.read_cells(pictures.list_cells(folder), "clinic", CONFIG)
    assert len(cells) == 6
    assert len(np.unique(cells.group)) == 5


def test_an_unreadable_cell_is_listed_and_left_out(tmp_path: Path) -> None:
    folder = cells_in(tmp_path / "cells", 1)
    (folder / "basophil" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    (folder / "manifest.csv").write_text(
        "file,label\n" + "".join(f"{i.path.relative_to(folder)},{i.label}\n" for i in pictures.list_cells(folder)),
        encoding="utf-8",
    )
    with (folder / "manifest.csv").open("a", encoding="utf-8") as stream:
        stream.write("gone.png,monocyte\n")
    cells, failed = pictures.read_cells(pictures.list_cells(folder), "clinic", CONFIG)
    assert len(cells) == 5
    assert {Path(item.file).name: item.code for item in failed}["gone.png"] == "not-found"
    assert len(failed) == 2


def test_a_cell_of_a_field_is_the_located_one_that_its_box_means(tmp_path: Path) -> None:
    folder = fields_in(tmp_path / "fields", 1)
    corrected = flatfield.correct(cv2.imread(str(folder / "field0.png")))
    located = locate.locate(corrected)[0]
    x, y, width, height = located.box.x, located.box.y, located.box.width, located.box.height
    rows = [f"field0.png,monocyte,v,{x + 2},{y + 2},{x + width},{y + height}", "field0.png,basophil,v,0,0,3,3"]
    (folder / "manifest.csv").write_text(
        "file,label,group,left,top,right,bottom\n" + "\n".join(rows) + "\n", encoding="utf-8"
    )
    cells, failed = pictures.read_cells(pictures.list_cells(folder), "clinic", CONFIG)
    assert [item.code for item in failed] == ["cell-not-found"]
    np.testing.assert_array_equal(cells.crops, crop.cut(corrected, located, 72, CONFIG.margin * 1.5)[None])


@pytest.mark.parametrize(
    ("manifest", "code"),
    [
        ("file,label,left,top,right,bottom\na.png,basophil,5,5,2,9\n", "box-wrong"),
        ("file,label,left,top,right,bottom\na.png,basophil,5,,9,9\n", "box-wrong"),
        ("picture,class\na.png,neutrophil\n", "manifest-incomplete"),
        ("file,label\na.png,smudge\n", "unknown-label"),
        ("file,label\n", "no-labelled-cells"),
    ],
)
def test_a_manifest_that_cannot_be_used_says_why(tmp_path: Path, manifest: str, code: str) -> None:
    (tmp_path / "manifest.csv").write_text(manifest, encoding="utf-8")
    with pytest.raises((InputError, UsageError)) as caught:
        pictures.list_cells(tmp_path)
    assert caught.value.code == code


def test_more_than_seventy_cells_are_refused_or_thinned_and_rare_classes_stay() -> None:
    listed = [pictures.Labelled(Path(f"{i}"), "neutrophil", str(i)) for i in range(90)]
    listed += [pictures.Labelled(Path(f"b{i}"), "basophil", f"b{i}") for i in range(4)]
    with pytest.raises(UsageError) as caught:
        pictures.at_most(listed, 70, subsample=False, seed=0)
    assert caught.value.code == "too-many-cells"
    kept = pictures.at_most(listed, 70, subsample=True, seed=0)
    assert len(kept) == 70
    assert sum(item.label == "basophil" for item in kept) == 4
    assert kept == pictures.at_most(listed, 70, subsample=True, seed=0)
    assert pictures.at_most(listed, 94, subsample=False, seed=0) == listed


def training_cells(n: int = 900) -> Cells:
    rng = np.random.default_rng(0)
    return Cells(
        crops=rng.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8),
        labels=np.arange(n) % 6,
        source=np.array(["pbc", "bccd", "embedded", "rendered"])[rng.integers(0, 4, n)],
        split=np.array(["train", "validation", "test"])[rng.integers(0, 3, n)],
        kind=np.full(n, "cell"),
        group=np.arange(n).astype(str),
        picture=np.arange(n).astype(str),
        subtype=np.full(n, ""),
    )


def test_the_replay_set_holds_no_test_cell_and_no_source_that_was_left_out(tmp_path: Path) -> None:
    config = RunConfig(leave_out=("embedded",))
    origin = [DataSource(source="pbc", licence="CC-BY-4.0", citation="somebody", images=123)]
    kept = replay.keep(training_cells(), config, tmp_path, origin)
    assert set(kept.source) == {"pbc", "bccd"}
    assert set(kept.split) == {"train", "validation"}
    assert set(kept.labels.tolist()) == set(range(6))
    again, source = replay.find(tmp_path)
    np.testing.assert_array_equal(again.crops, kept.crops)
    assert source == tuple(origin)


def test_a_run_without_replay_cells_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--data"):
        replay.find(tmp_path)


def test_the_calibration_error_is_the_published_one() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(5) * 0.5, 400)
    labels = rng.integers(0, 5, 400)
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    found, edges = np.histogram(confidence, bins=10, range=(0, 1))
    expected = 0.0
    for index in np.flatnonzero(found):
        chosen = (confidence > edges[index]) & (confidence <= edges[index + 1])
        expected += chosen.mean() * abs(correct[chosen].mean() - confidence[chosen].mean())
    assert trust.calibration_error(probabilities, labels) == pytest.approx(expected)
    assert trust.calibration_error(np.eye(5), np.arange(5)) == 0.0


def test_a_cell_has_no_say_in_the_temperature_of_its_own_fold() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 4, (60, 6)).astype(np.float32)
    labels = np.where(rng.random(60) < 0.6, logits[:, :5].argmax(axis=1), rng.integers(0, 5, 60))
    fold_of = np.arange(60) % 3
    before = trust.held_out_probabilities(logits, labels, fold_of)
    np.testing.assert_allclose(before.sum(axis=1), 1)
    changed = labels.copy()
    changed[fold_of == 1] = logits[fold_of == 1, :5].argmax(axis=1)
    after = trust.held_out_probabilities(logits, changed, fold_of)
    np.testing.assert_array_equal(before[fold_of == 1], after[fold_of == 1])
    assert not np.allclose(before[fold_of == 0], after[fold_of == 0])
    # Two in three are right, but the logits are surer than that: the temperature takes most of it away.
    assert trust.calibration_error(before, labels) < trust.calibration_error(softmax(logits[:, :5]), labels)

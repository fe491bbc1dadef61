"""Sources, licences, whole fields and sampling, on a small data folder made here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.core.errors import InputError, UsageError
from training.config import CLASSES, RunConfig
from training.data.annotations import field_samples, voc_boxes, yolo_boxes
from training.data.cells import Cells
from training.data.sampling import BatchMaker, natural_probabilities, probabilities, soft_targets
from training.data.sources import SOURCES, Sample, read_manifest, require_trainable

HEADER = "source,label,file,group,slide,subtype,width,height,sha1\n"


def manifest(folder: Path, *rows: str) -> Path:
    (folder / "manifest.csv").write_text(HEADER + "".join(row + "\n" for row in rows), encoding="utf-8")
    return folder


def test_the_manifest_maps_foreign_cells_to_other_and_gives_ungrouped_pictures_their_own_group(tmp_path: Path) -> None:
    folder = manifest(
        tmp_path,
        "pbc,neutrophil,pbc/n/a.jpg,pbc/a,,SNE,360,363,aa",
        "pbc,erythroblast,pbc/e/b.jpg,pbc/b,,ERB,360,363,bb",
        "jtsc,basophil,jtsc/basophil/1.png,jtsc/,,,120,120,cc",
        "jtsc,basophil,jtsc/basophil/2.png,jtsc/,,,120,120,dd",
    )
    samples = read_manifest(folder)
    assert [sample.label for sample in samples] == ["neutrophil", "other", "basophil", "basophil"]
    assert len({sample.group for sample in samples}) == 4


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ("pbc,smudge,pbc/a.jpg,pbc/a,,,1,1,aa", "unknown-label"),
        ("elsewhere,neutrophil,a.jpg,a,,,1,1,aa", "unknown-source"),
    ],
)
def test_unknown_labels_and_sources_are_refused(tmp_path: Path, row: str, code: str) -> None:
    with pytest.raises(InputError) as caught:
        read_manifest(manifest(tmp_path, row))
    assert caught.value.code == code


def test_a_folder_without_manifest_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--data"):
        read_manifest(tmp_path)


def test_sources_for_evaluation_only_cannot_be_trained_on() -> None:
    require_trainable(["pbc", "bccd", "embedded", "draaslan", "rendered"])
    for name in ("jtsc", "milab_focus"):
        with pytest.raises(UsageError) as caught:
            require_trainable(["pbc", name])
        assert caught.value.code == "licence-forbids-training"


def test_every_source_states_licence_and_citation() -> None:
    assert all(source.licence and source.citation for source in SOURCES.values())


VOC = """<annotation><object><name>WBC</name>
<bndbox><xmin>10</xmin><ymin>20</ymin><xmax>60</xmax><ymax>80</ymax></bndbox></object><object><name>RBC</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object>
</annotation>"""


def test_annotations_become_boxes_in_pixels(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(VOC, encoding="utf-8")
    (tmp_path / "a.txt").write_text("2 0.5 0.5 0.2 0.4\n", encoding="utf-8")
    assert voc_boxes(tmp_path / "a.xml", "WBC") == [(10, 20, 60, 80)]
    assert voc_boxes(tmp_path / "a.xml", "Platelets") == []
    assert yolo_boxes(tmp_path / "a.txt", 100, 50) == [pytest.approx((40, 15, 60, 35))]


def test_a_field_and_its_red_cells_share_the_group_of_their_cell(tmp_path: Path) -> None:
    fields = tmp_path / "bccd" / "fields"
    for folder in (fields / "Annotations", fields / "JPEGImages"):
        folder.mkdir(parents=True)
    (fields / "Annotations" / "BloodImage_00001.xml").write_text(VOC, encoding="utf-8")
    (fields / "JPEGImages" / "BloodImage_00001.jpg").write_bytes(b"read only when it is cut")
    cell = Sample("bccd", "monocyte", "bccd/cells/monocyte/BloodImage_00001_1.jpg", "bccd/merged")
    found = field_samples(tmp_path, [cell])
    assert [(sample.kind, sample.label, sample.box) for sample in found] == [
        ("field", "monocyte", (10, 20, 60, 80)),
        ("background", "other", (1, 2, 30, 40)),
    ]
    assert {sample.group for sample in found} == {"bccd/merged"}


def cells() -> Cells:
    rng = np.random.default_rng(0)
    rows = [("pbc", label, 40) for label in range(6)] + [("bccd", 0, 10), ("bccd", 3, 4), ("rendered", 0, 5)]
    source = np.repeat([name for name, _, _ in rows], [count for _, _, count in rows])
    labels = np.repeat([label for _, label, _ in rows], [count for _, _, count in rows])
    n = len(labels)
    return Cells(
        crops=rng.integers(0, 256, (n, 48, 48, 3), dtype=np.uint8),
        labels=labels.astype(np.int64),
        source=source,
        split=np.full(n, "train"),
        kind=np.full(n, "cell"),
        group=np.arange(n).astype(str),
        picture=np.arange(n).astype(str),
        subtype=np.full(n, ""),
    )


CONFIG = RunConfig(size=32, batch=16, steps=3, rendered_share=0.06, other_share=0.1)


def test_classes_are_drawn_alike_and_no_source_drowns_another() -> None:
    chance = probabilities(cells(), CONFIG)
    labels, source = cells().labels, cells().source
    assert chance.sum() == pytest.approx(1)
    by_class = [chance[labels == label].sum() for label in range(6)]
    assert by_class[5] / by_class[1] == pytest.approx(0.1 / 0.18)
    assert by_class[1] == pytest.approx(by_class[2])
    # 40 cells against 10: a share of one third, not of one fifth.
    real = (labels == 0) & (source != "rendered")
    assert chance[real & (source == "bccd")].sum() / chance[real].sum() == pytest.approx(1 / 3)
    assert 0 < chance[source == "rendered"].sum() <= 0.06


def test_a_loss_that_balances_gets_cells_as_they_come() -> None:
    chance = natural_probabilities(cells(), CONFIG)
    source = cells().source
    assert chance.sum() == pytest.approx(1)
    assert chance[source == "rendered"].sum() == pytest.approx(0.06)
    np.testing.assert_allclose(chance[source != "rendered"], 0.94 / (source != "rendered").sum())
    balanced, weighted = (BatchMaker(cells(), replace(CONFIG, loss=loss)) for loss in ("focal", "class-balanced"))
    drawn = [np.concatenate([m.make(0, i).targets.argmax(axis=1) for i in range(20)]) for m in (balanced, weighted)]
    # A tenth of the balanced batches is `other`, but 40 of 254 cells.
    assert (drawn[0] == 5).mean() < (drawn[1] == 5).mean()


def test_doubtful_labels_are_softer_and_lighter_but_a_red_cell_is_certain() -> None:
    targets, weights = soft_targets(cells(), CONFIG)
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-5)
    sure, doubtful = targets[cells().source == "pbc"], targets[cells().source == "bccd"]
    assert doubtful.max() < sure.max()
    assert weights[cells().source == "bccd"].max() < weights[cells().source == "pbc"].min()


def test_a_batch_depends_on_seed_epoch_and_number_alone() -> None:
    maker = BatchMaker(cells(), CONFIG)
    ordered = list(maker.epoch(2, workers=2))
    assert len(ordered) == CONFIG.steps
    np.testing.assert_array_equal(ordered[1].inputs, maker.make(2, 1).inputs)
    assert ordered[0].inputs.shape == (16, 32, 32, 3)
    assert ordered[0].inputs.min() >= -1
    assert ordered[0].inputs.max() <= 1
    assert ordered[0].targets.shape == (16, len(CLASSES))
    assert not np.array_equal(ordered[0].inputs, maker.make(3, 0).inputs)


def test_cells_survive_a_file(tmp_path: Path) -> None:
    before = cells()
    before.save(tmp_path / "cells.npz")
    after = Cells.load(tmp_path / "cells.npz")
    np.testing.assert_array_equal(before.crops, after.crops)
    assert before.source.tolist() == after.source.tolist()


def test_a_configuration_survives_a_file_and_refuses_unknown_keys(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    CONFIG.save(path)
    assert RunConfig.load(path) == CONFIG
    path.write_text('{"sise": 96}', encoding="utf-8")
    with pytest.raises(TypeError):
        RunConfig.load(path)

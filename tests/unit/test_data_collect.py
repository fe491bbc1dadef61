"""`leuko train data`: from labelled images to a data folder whose manifest training obeys."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from devices.cameras.slide import render_cell
from edge.cli.main import app
from edge.core.errors import InputError, LeukoError
from tests.commands import draw
from tests.labelled_images import picture, voc, voc_object
from training.config import RunConfig
from training.data import cells, sources
from training.data.sources import SOURCES, Source, read_manifest, record, require_trainable
from training.data.splits import SplitLeakError


@pytest.fixture(autouse=True)
def _only_our_sources() -> Iterator[None]:
    """Forget the sources that a test made known."""
    before = dict(SOURCES)
    yield
    SOURCES.clear()
    SOURCES.update(before)


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["train", "data", *map(str, words), "--workers", "1"])


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def class_folders(root: Path, per_class: int = 20, labels: tuple[str, ...] = ("Monocyte", "basophils")) -> Path:
    for number, label in enumerate(labels):
        for index in range(per_class):
            picture(root / label / f"{index}.png", 1000 * number + index)
    return root


def failure(result: Result) -> LeukoError:
    assert isinstance(result.exception, LeukoError), result.output
    return result.exception


def test_class_folders_become_a_data_folder_with_licences(tmp_path: Path) -> None:
    root, out = class_folders(tmp_path / "in"), tmp_path / "out"
    result = run(root, "--source", "ward-a", "--licence", "cc by 4.0", "--citation", "Ward A", "--out", out, "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary["sources"]["ward-a"]["counts"]["monocyte"] == {"test": 3, "train": 14, "validation": 3}
    assert summary["splits"] == {"test": 6, "train": 28, "validation": 6}
    assert json.loads((out / "summary.json").read_text()) == summary
    found = rows(out)
    assert {(row["licence"], row["citation"]) for row in found} == {("CC-BY-4.0", "Ward A")}
    assert all((out / row["file"]).is_symlink() and (out / row["file"]).is_file() for row in found)
    samples = read_manifest(out)
    assert Counter(sample.split for sample in samples) == {"train": 28, "validation": 6, "test": 6}
    require_trainable(["ward-a"])


def test_the_same_seed_gives_the_same_manifest_and_another_another(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "in")
    texts = []
    for number, seed in enumerate((3, 3, 4)):
        words = (root, "--source", "ward-b", "--licence", "MIT", "--seed", seed)
        assert run(*words, "--out", tmp_path / str(number)).exit_code == 0
        texts.append((tmp_path / str(number) / "manifest.csv").read_text())
    assert texts[0] == texts[1] != texts[2]


def test_without_a_licence_nothing_may_be_trained_on(tmp_path: Path) -> None:
    result = run(class_folders(tmp_path / "in"), "--source", "ward-c", "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert "evaluation only" in result.output
    assert {row["split"] for row in rows(tmp_path / "out")} == {"evaluation"}
    with pytest.raises(LeukoError, match="evaluation only"):
        require_trainable(sample.source for sample in read_manifest(tmp_path / "out"))


def test_copies_do_not_need_the_originals(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "in", 2)
    assert run(root, "--source", "ward-d", "--out", tmp_path / "out", "--copy").exit_code == 0
    assert not any((tmp_path / "out" / row["file"]).is_symlink() for row in rows(tmp_path / "out"))


def test_unreadable_pictures_are_listed_and_left_out(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "in", 3)
    (root / "Monocyte" / "cut.png").write_bytes((root / "Monocyte" / "0.png").read_bytes()[:200])
    (root / "Monocyte" / "text.jpg").write_text("no picture")
    picture(root / "Monocyte" / "dot.png", 99, 1, 1)
    result = run(root, "--source", "ward-e", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert len(rows(tmp_path / "out")) == 6
    problems = json.loads((tmp_path / "out" / "summary.json").read_text())["problems"]
    assert {Path(problem["file"]).name for problem in problems} == {"cut.png", "text.jpg", "dot.png"}
    assert "too-small" in result.output


def test_exact_copies_are_dropped_and_contradictions_are_left_out(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "in", 4)
    one, other = root / "Monocyte" / "0.png", root / "Monocyte" / "1.png"
    (root / "Monocyte" / "copy.png").write_bytes(one.read_bytes())
    (root / "basophils" / "same.png").write_bytes(other.read_bytes())
    result = run(root, "--source", "ward-f", "--out", tmp_path / "out", "--json")
    assert result.exit_code == 1
    summary = json.loads(result.stdout)
    assert (summary["cells"], summary["duplicates_dropped"]) == (7, 1)
    assert sorted((problem["file"][-10:], problem["code"]) for problem in summary["problems"]) == [
        ("cyte/1.png", "two-labels"),
        ("s/same.png", "two-labels"),
    ]


def test_near_copies_share_a_group_and_so_a_split(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "in", 20)
    for index in range(20):
        image = cv2.imread(str(root / "Monocyte" / f"{index}.png"))
        (root / "Monocyte" / f"{index} again.jpg").write_bytes(cv2.imencode(".jpg", image)[1].tobytes())
    result = run(root, "--source", "ward-g", "--out", tmp_path / "out", "--licence", "MIT", "--json")
    assert json.loads(result.stdout)["groups_merged"] == 20
    split = {Path(row["file"]).stem.removesuffix(" again"): set() for row in rows(tmp_path / "out")}
    for row in rows(tmp_path / "out"):
        if "Monocyte" in row["file"]:
            split[Path(row["file"]).stem.removesuffix(" again")].add(row["split"])
    assert all(len(found) == 1 for found in split.values())


def test_a_slide_stays_on_one_side(tmp_path: Path) -> None:
    lines = ["file,label,slide"]
    for index in range(40):
        picture(tmp_path / "in" / f"{index}.png", index)
        lines.append(f"{index}.png,monocyte,S{index % 8}")
    (tmp_path / "in" / "t.csv").write_text("\n".join(lines))
    result = run(tmp_path / "in", "--layout", "csv", "--source", "ward-h", "--licence", "MIT", "--out", tmp_path / "o")
    assert result.exit_code == 0, result.output
    sides = {(row["slide"], row["split"]) for row in rows(tmp_path / "o")}
    assert len(sides) == 8
    assert {split for _, split in sides} == {"train", "validation", "test"}


def test_a_leak_across_published_splits_fails_the_build(tmp_path: Path) -> None:
    for split in ("train", "test"):
        class_folders(tmp_path / "in" / split, 3)
    for path in (tmp_path / "in" / "test").rglob("*.png"):
        # Other bytes, the same look.
        path.write_bytes(cv2.imencode(".bmp", cv2.imread(str(path)))[1].tobytes())
    words = (tmp_path / "in", "--source", "ward-i", "--licence", "MIT", "--out", tmp_path / "out")
    problem = failure(run(*words, "--published-splits"))
    assert isinstance(problem, SplitLeakError)
    assert (problem.code, problem.exit_code) == ("split-leak", 3)
    assert not (tmp_path / "out" / "manifest.csv").exists()
    assert run(*words).exit_code == 0


def test_published_splits_stand_when_asked_for(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "val", "test")):
        picture(tmp_path / "in" / split / "mono" / "a.png", number)
    words = (tmp_path / "in", "--source", "ward-j", "--licence", "MIT", "--out", tmp_path / "out")
    assert run(*words, "--published-splits").exit_code == 0
    assert [row["split"] for row in rows(tmp_path / "out")] == ["test", "train", "validation"]


def test_unknown_labels_are_told_all_at_once_and_can_be_mapped(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "in", 2, ("Blast", "Smudge", "mono"))
    words = (root, "--source", "ward-k", "--out", tmp_path / "out")
    problem = failure(run(*words))
    assert problem.code == "unknown-label"
    assert "'Blast' (2)" in problem.message and "'Smudge' (2)" in problem.message
    assert run(*words, "--map", "blast=other", "--map", "Smudge=leave-out").exit_code == 0
    assert Counter(row["label"] for row in rows(tmp_path / "out")) == {"other": 2, "monocyte": 2}
    assert {sample.subtype for sample in read_manifest(tmp_path / "out")} == {"Blast", "monocyte"}


NOTHING = {"layout-not-found", "licence-conflict", "not-found"}
"""Errors of a folder, not of how the command was called."""


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], "nothing-named"),
        (["in", "--source", "w", "--layout", "voc"], "layout-not-found"),
        (["in"], "source-missing"),
        (["in", "--source", "../x"], "bad-source"),
        (["in", "--source", "w", "--layout", "tar"], "unknown-layout"),
        (["in", "--source", "w", "--column", "file"], "bad-column"),
        (["in", "--source", "pbc", "--licence", "GPL-3.0"], "licence-conflict"),
        (["in", "--source", "w", "--licence", "CC-BY-4.0"], "citation-missing"),
        (["in", "--source", "w", "--out", "in/out"], "folders-overlap"),
        (["in/manifest.csv", "--layout", "manifest", "--out", "in"], "folders-overlap"),
        (["nowhere", "--source", "w"], "not-found"),
        (["--download", "pbc"], "unknown-download"),
        (["--download", "https://example.org/a.npz"], "checksum-missing"),
        (["--download", "http://example.org/a.npz", "--checksum", "0" * 32], "unsafe-address"),
    ],
)
def test_wrong_use_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: str) -> None:
    monkeypatch.chdir(tmp_path)
    class_folders(tmp_path / "in", 1)
    (tmp_path / "in" / "manifest.csv").write_text("source,label,file,group\n")
    problem = failure(run(*words))
    assert (problem.code, problem.exit_code) == (code, 3 if code in NOTHING else 2)
    assert problem.cure


def test_pbc_and_bloodmnist_are_the_same_cells(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.png", 1)
    picture(tmp_path / "in" / "b.png", 2)
    (tmp_path / "in" / "manifest.csv").write_text(
        "source,label,file,group\npbc,monocyte,a.png,\nbloodmnist,monocyte,b.png,\n"
    )
    assert failure(run(tmp_path / "in", "--layout", "manifest", "--out", tmp_path / "out")).code == "split-leak"


def manifest(folder: Path, *lines: str) -> Path:
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("ward-l,monocyte,a.png,g,,train,,,,", "unknown-source"),
        ("pbc,monocyte,../a.png,g,,train,,,,", "outside-folder"),
        ("pbc,monocyte,a.png,g,,holdout,,,,", "unknown-split"),
        ("pbc,monocyte,a.png,g,GPL-3.0,train,,,,", "licence-conflict"),
        ("pbc,monocyte,a.png,g,,train,1,2,nan,4", "bad-box"),
        ("pbc,monocyte,a.png,g,,train,1,2,0,4", "bad-box"),
        ("pbc,monocyte,a.png,g,,train,-1,2,5,4", "bad-box"),
        ("pbc,monocyte,a.png,g,,train,1,2,5,", "bad-box"),
    ],
)
def test_training_refuses_a_manifest_it_cannot_trust(tmp_path: Path, line: str, code: str) -> None:
    header = "source,label,file,group,licence,split,box_x,box_y,box_width,box_height"
    with pytest.raises(InputError) as caught:
        read_manifest(manifest(tmp_path, header, line))
    assert caught.value.code == code


@pytest.mark.parametrize(
    "source",
    [Source("", "MIT", ""), Source("w", "MIT", "two\nlines"), Source("w", "x" * 999, ""), Source("w\x1b", "", "")],
)
def test_what_could_not_stand_on_a_model_card_is_refused(source: Source) -> None:
    with pytest.raises(InputError) as caught:
        record(source)
    assert caught.value.code == "bad-source"


def test_a_source_has_one_licence() -> None:
    record(Source("ward-m", "MIT", "M"))
    assert record(Source("ward-m", sources.UNKNOWN_LICENCE, "")).licence == "MIT"
    with pytest.raises(InputError) as caught:
        record(Source("ward-m", "Apache-2.0", "M"))
    assert caught.value.code == "licence-conflict"


def test_training_obeys_the_splits_and_cuts_boxes_with_the_locator(tmp_path: Path) -> None:
    """Two whole fields with boxes around what the locator finds, and single cells, through to the crops."""
    from edge.imaging import flatfield, locate

    root = tmp_path / "in"
    root.mkdir()
    boxes = 0
    for number, frame in enumerate(draw(2)):
        (root / f"{number}.png").write_bytes(cv2.imencode(".png", frame.image)[1].tobytes())
        found = locate.locate(flatfield.correct(frame.image))
        boxes += len(found)
        objects = "".join(
            voc_object("Lymphocyte", c.box.x, c.box.y, c.box.x + c.box.width, c.box.y + c.box.height) for c in found
        )
        # The corner of the field, where nothing is: a red cell for this test.
        (root / f"{number}.xml").write_text(voc(objects + voc_object("RBC", 0, 0, 9, 9) * 5))
    assert boxes
    result = run(root, "--layout", "voc", "--source", "ward-n", "--licence", "MIT", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    samples = read_manifest(tmp_path / "out")
    assert Counter(sample.kind for sample in samples) == {"field": boxes, "background": 2}
    built = cells.build(tmp_path / "out", RunConfig(size=32), workers=1)
    assert built.crops.shape == (len(built), 48, 48, 3)
    split = {sample.file: sample.split for sample in samples}
    assert built.split.tolist() == [split[file] for file in built.picture.tolist()]
    assert (built.kind == "field").sum() == boxes
    del SOURCES["ward-n"]
    built.save(tmp_path / "cells.npz")
    assert "ward-n" not in SOURCES
    record(Source("ward-n", "MIT", ""))
    built.save(tmp_path / "cells.npz")
    del SOURCES["ward-n"]
    cells.Cells.load(tmp_path / "cells.npz")
    assert SOURCES["ward-n"].trainable


def test_the_only_basophil_of_many_fields_is_learnt_from(tmp_path: Path) -> None:
    for number in range(12):
        picture(tmp_path / "in" / f"{number}.png", number)
        label = "basophil" if number == 7 else "neutrophil"
        red = "".join(voc_object("RBC", x, 25, x + 9, 35) for x in (0, 10, 20)[: 1 + number % 3])
        (tmp_path / "in" / f"{number}.xml").write_text(voc(voc_object(label, 2, 2, 20, 20) + red))
    words = ("--layout", "voc", "--source", "ward-q", "--licence", "MIT", "--out", tmp_path / "out")
    for seed in range(6):
        assert run(tmp_path / "in", *words, "--seed", seed).exit_code == 0
        assert [row["split"] for row in rows(tmp_path / "out") if row["label"] == "basophil"] == ["train"]


def test_cells_for_evaluation_only_never_enter_a_split(tmp_path: Path) -> None:
    lines: list[Any] = ["source,label,file,group,split,licence"]
    for number, (source, licence) in enumerate([("ward-o", "GPL-3.0"), ("ward-p", "MIT"), ("ward-p", "MIT")]):
        image = render_cell("monocyte", np.random.default_rng(number), 160)
        (tmp_path / f"{number}.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())
        lines.append(f"{source},monocyte,{number}.png,g{number},{['train', 'test', ''][number]},{licence}")
    built = cells.build(manifest(tmp_path, *lines), RunConfig(size=32), workers=1)
    assert built.split.tolist() == ["evaluation", "test", "train"]

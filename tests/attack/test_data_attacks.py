"""Annotations and manifests written by someone who means harm, or by a program gone wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edge.core.errors import InputError
from tests.labelled_images import picture, read, voc, voc_object
from training.data.boxes import read_xml
from training.data.inspection import Picture, box_inside
from training.data.paths import inside
from training.data.tables import read_table

BOMB = (
    '<!DOCTYPE a [<!ENTITY b "xxxxxxxxxx">'
    + "".join(
        f'<!ENTITY b{n + 1} "{"&b" + (str(n) if n else "") + ";"}{"&b" + (str(n) if n else "") + ";"}">'
        for n in range(30)
    )
    + "]><annotation><filename>&b30;</filename></annotation>"
)
STRANGER = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotation><filename>&b;</filename></annotation>'


def codes(layout: str, folder: Path, **options: object) -> list[str]:
    reading = read(layout, folder, **options)
    assert reading.entries == []
    return [problem.code for problem in reading.problems]


@pytest.mark.parametrize(
    "text",
    [
        *(BOMB, STRANGER, "<annotation>", "", "\x00\x01", "<annotation><object/></annotation>"),
        BOMB.encode("utf-16").decode("latin-1"),
    ],
    ids=["bomb", "external entity", "cut off", "empty", "binary", "object without box", "bomb in UTF-16"],
)
def test_a_broken_or_hostile_xml_is_one_problem(tmp_path: Path, text: str) -> None:
    picture(tmp_path / "a.png", 1)
    (tmp_path / "a.xml").write_bytes(text.encode("latin-1"))
    assert codes("voc", tmp_path)[0] in {"broken-annotation", "not-text"}


def test_the_document_type_is_refused_in_any_encoding(tmp_path: Path) -> None:
    for encoding in ("utf-8", "utf-16"):
        (tmp_path / "a.xml").write_bytes(BOMB.encode(encoding))
        with pytest.raises(InputError, match="document type"):
            read_xml(tmp_path / "a.xml")


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999", "", "ten", "1,5"])
def test_a_box_of_no_numbers_is_one_problem(tmp_path: Path, value: str) -> None:
    picture(tmp_path / "a.png", 1)
    (tmp_path / "a.xml").write_text(voc(voc_object("RBC", value, 2, 11, 12)))
    assert codes("voc", tmp_path) == ["broken-annotation"]
    (tmp_path / "a.xml").unlink()
    (tmp_path / "a.txt").write_text(f"0 0.5 {value} 0.5 0.5\n")
    assert codes("yolo", tmp_path, classes=["mono"]) == ["broken-annotation"]


@pytest.mark.parametrize(
    "box",
    [
        (5, 5, 5, 9),
        (9, 9, 5, 5),
        (1e9, 1e9, 2e9, 2e9),
        (-1e300, -1e300, 1e300, 1e300),
        (-40, 0, 10, 10),
        (50, 0, 60, 9),
    ],
)
def test_a_box_that_is_not_in_its_picture_is_refused(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(InputError) as caught:
        box_inside(box, False, Picture(48, 40, "", 0), "a.png")
    assert caught.value.code == "bad-box"


def test_a_box_that_reaches_a_little_over_the_border_is_cut_off() -> None:
    assert box_inside((-2, 3, 20, 41), False, Picture(48, 40, "", 0), "a.png") == (0, 3, 20, 40)
    assert box_inside((0.5, 0.5, 1.1, 1.0), True, Picture(48, 40, "", 0), "a.png") == (24, 20, 48, 40)


@pytest.mark.parametrize(
    "line",
    ["x 0.5 0.5 0.5 0.5", "-1 0.5 0.5 0.5 0.5", "0 0.5 0.5 0.5", "0.0 0.5 0.5 0.5 0.5", "\u0665 1 1 1 1 1 \0"],
)
def test_a_yolo_line_that_is_none_is_one_problem(tmp_path: Path, line: str) -> None:
    picture(tmp_path / "a.png", 1)
    (tmp_path / "a.txt").write_text(line)
    assert codes("yolo", tmp_path, classes=["mono"])[0] in {"broken-annotation", "not-text"}


def coco(folder: Path, **changes: object) -> None:
    picture(folder / "a.png", 1)
    document: dict[str, object] = {
        "images": [{"id": 3, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "mono"}],
        "annotations": [{"image_id": 3, "category_id": 1, "bbox": [4, 5, 20, 10]}],
    }
    (folder / "a.json").write_text(json.dumps({**document, **changes}))


@pytest.mark.parametrize(
    ("annotation", "code"),
    [
        ({"image_id": 4, "category_id": 1, "bbox": [0, 0, 1, 1]}, "broken-annotation"),
        ({"image_id": [3], "category_id": 1, "bbox": [0, 0, 1, 1]}, "broken-annotation"),
        ({"image_id": 3, "category_id": 9, "bbox": [0, 0, 1, 1]}, "unknown-class"),
        ({"image_id": 3, "category_id": {}, "bbox": [0, 0, 1, 1]}, "unknown-class"),
        ({"image_id": 3, "category_id": 1, "bbox": [0, 0, 1]}, "broken-annotation"),
        ({"image_id": 3, "category_id": 1, "bbox": [0, 0, -1, 1]}, "bad-box"),
        ({"image_id": 3, "category_id": 1, "bbox": [0, 0, float("nan"), 1]}, "bad-box"),
        ({"image_id": 3, "category_id": 1, "bbox": [0, [], None, 1]}, "bad-box"),
        ("text", "broken-annotation"),
    ],
)
def test_a_wrong_coco_annotation_is_one_problem(tmp_path: Path, annotation: object, code: str) -> None:
    coco(tmp_path, annotations=[annotation])
    assert codes("coco", tmp_path) == [code]


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..\\..\\a.png", "C:\\a.png", "a/../../b.png", ""])
def test_no_annotation_reaches_outside_its_folder(tmp_path: Path, name: str) -> None:
    coco(tmp_path, images=[{"id": 3, "file_name": name}])
    assert codes("coco", tmp_path) == ["outside-folder"]
    (tmp_path / "t.csv").write_text(f"file,label\n{name},mono\n")
    assert codes("csv", tmp_path) == ["outside-folder"]
    (tmp_path / "manifest.csv").write_text(f"source,label,file,group\npbc,monocyte,{name},\n")
    assert codes("manifest", tmp_path) == ["outside-folder"]
    (tmp_path / "x.xml").write_text(voc(voc_object("RBC", 1, 2, 3, 4), name))
    assert codes("voc", tmp_path) == ["outside-folder"] if name else True


def test_names_made_on_windows_are_understood() -> None:
    assert inside("cells\\a.png", Path("m.csv")) == "cells/a.png"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "[]",
            "{",
            "[" * 200_000,
            '{"images": {}, "annotations": [], "categories": []}',
            '{"images": [1]}',
            "NaN",
        ),
        '{"images": [{"id": "x", "file_name": "a"}], "annotations": [], "categories": []}',
    ],
)
def test_a_broken_json_is_one_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError) as caught:
        read("coco", tmp_path)
    assert caught.value.code == "broken-annotation"


def test_a_table_of_nonsense_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for data in (b"", b"\0\0\0", b'file,label\n"' + b"x" * 200_000, bytes(range(256)) * 4):
        path.write_bytes(data)
        with pytest.raises(InputError):
            read_table(path, ("file", "label"))


def test_repeated_and_ragged_rows_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("file,label\na.png,mono\na.png,mono\nb.png\n,mono\nc.png,mono,7,8\n\n")
    reading = read("csv", tmp_path)
    assert [entry.file for entry in reading.entries] == ["a.png", "a.png", "c.png"]
    assert [problem.code for problem in reading.problems] == ["no-label", "outside-folder"]


@pytest.mark.parametrize(
    "arrays",
    [
        {"train_images": np.zeros((2, 28, 28, 3), np.float32)},
        {"train_images": np.zeros((2, 28, 28), np.uint8)},
        {"train_images": np.zeros((2, 5000, 1, 3), np.uint8)},
        {"train_labels": np.array([[{}], [1]], dtype=object)},
        {"train_labels": np.zeros((3, 1), np.uint8)},
        {"train_labels": np.zeros((2, 1), np.float64)},
    ],
    ids=["floats", "grey", "odd size", "pickled objects", "one label more", "labels of floats"],
)
def test_an_archive_that_is_not_bloodmnist_is_one_error(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    right = {}
    for split in ("train", "val", "test"):
        right[f"{split}_images"] = np.zeros((2, 28, 28, 3), np.uint8)
        right[f"{split}_labels"] = np.zeros((2, 1), np.uint8)
    np.savez(tmp_path / "bloodmnist.npz", **{**right, **arrays})
    with pytest.raises(InputError) as caught:
        read("bloodmnist", tmp_path, unpacked=tmp_path / "out")
    assert caught.value.code == "broken-archive"


def test_a_cut_off_archive_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "bloodmnist.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(InputError) as caught:
        read("bloodmnist", tmp_path, unpacked=tmp_path / "out")
    assert caught.value.code == "broken-archive"


def test_links_that_lead_in_a_circle_end(tmp_path: Path) -> None:
    picture(tmp_path / "mono" / "a.png", 1)
    (tmp_path / "mono" / "again").symlink_to(tmp_path)
    assert len(read("folders", tmp_path).entries) == 1

"""Every layout that labelled images come in, each on a folder as its set publishes it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.core.errors import InputError, UsageError
from edge.files import read_image
from tests.labelled_images import picture, read, voc, voc_object
from training.data.labels import LEAVE_OUT, our_label, parse_mapping
from training.data.readers import LAYOUTS


def told(layout: str, path: Path, **options: object) -> list[tuple[str, str]]:
    return [(entry.file, entry.label) for entry in read(layout, path, **options).entries]


def test_the_folder_is_the_label_and_a_folder_above_it_the_published_split(tmp_path: Path) -> None:
    picture(tmp_path / "basophil" / "2.png", 1)
    picture(tmp_path / "Test" / "Neutrophils" / "a b.PNG", 2)
    (tmp_path / "basophil" / ".DS_Store").write_bytes(b"\0")
    found = read("folders", tmp_path).entries
    assert [(entry.file, entry.label, entry.split) for entry in found] == [
        ("Test/Neutrophils/a b.PNG", "Neutrophils", "test"),
        ("basophil/2.png", "basophil", ""),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "Image,Category,Patient\na.png,NEUTROPHIL,7\n",
        "\ufeffImage;Category;Patient\r\na.png;NEUTROPHIL;7\r\n",
        "Image\tCategory\tPatient\na.png\tNEUTROPHIL\t7",
    ],
    ids=["plain", "BOM, semicolons, CRLF", "tabs, no last line end"],
)
def test_a_table_is_read_by_the_names_of_its_columns(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_bytes(text.encode())
    columns = {"file": "Image", "label": "Category", "slide": "Patient"}
    (entry,) = read("csv", tmp_path, columns=columns).entries
    assert (entry.file, entry.label, entry.slide, entry.box) == ("a.png", "NEUTROPHIL", "7", None)


def test_a_table_in_another_encoding_is_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("file,label\nKörper.png,basophil\n".encode("latin-1"))
    assert told("csv", tmp_path / "t.csv") == [("Körper.png", "basophil")]


def test_a_table_with_x_y_width_and_height_holds_boxes_and_without_x_and_y_sizes(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("file,label,x,y,width,height\na.png,mono,1,2,30,40\n")
    assert read("csv", tmp_path).entries[0].box == (1, 2, 31, 42)
    (tmp_path / "t.csv").write_text("file,label,width,height\na.png,mono,30,40\n")
    assert read("csv", tmp_path).entries[0].box is None


def test_a_missing_column_says_which_there_are(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("name,class\na.png,mono\n")
    with pytest.raises(InputError, match="it has: name, class") as caught:
        read("csv", tmp_path)
    assert caught.value.code == "columns-missing"
    with pytest.raises(UsageError, match="means nothing"):
        read("csv", tmp_path, columns={"colour": "class"})


def test_pascal_voc_finds_its_pictures_and_gives_boxes_in_pixels(tmp_path: Path) -> None:
    picture(tmp_path / "JPEGImages" / "a.png", 1)
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "a.xml").write_text(voc(voc_object("RBC", 1, 2, 11, 12.5)))
    (tmp_path / "Annotations" / "gone.xml").write_text(voc(voc_object("RBC", 1, 2, 11, 12), "gone.png"))
    reading = read("voc", tmp_path)
    (entry,) = reading.entries
    assert (entry.file, entry.label, entry.box, entry.group) == (
        "JPEGImages/a.png",
        "RBC",
        (1, 2, 11, 12.5),
        "JPEGImages/a.png",
    )
    assert [problem.code for problem in reading.problems] == ["picture-missing"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.txt", "neutrophil\nbasophil\n"),
        ("data.yaml", "train: x\nnames: ['neutrophil', basophil]\n"),
        ("data.yaml", "nc: 2\nnames:\n  0: neutrophil\n  1: 'basophil'\n"),
        ("data.yaml", "names:\n- neutrophil\n- basophil\n"),
    ],
)
def test_yolo_names_its_classes_in_one_of_several_files(tmp_path: Path, name: str, text: str) -> None:
    picture(tmp_path / "images" / "train" / "a.png", 1)
    (tmp_path / "labels" / "train").mkdir(parents=True)
    (tmp_path / "labels" / "train" / "a.txt").write_text("1 0.5 0.5 0.2 0.4\n")
    (tmp_path / name).write_text(text)
    (entry,) = read("yolo", tmp_path).entries
    assert (entry.file, entry.label, entry.shares, entry.split) == ("images/train/a.png", "basophil", True, "train")
    assert entry.box == pytest.approx((0.4, 0.3, 0.6, 0.7))


def test_yolo_without_names_takes_those_of_the_command(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 1)
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.2 0.4\n7 0.5 0.5 0.2 0.4\n")
    with pytest.raises(InputError) as caught:
        read("yolo", tmp_path)
    assert caught.value.code == "classes-missing"
    assert [problem.code for problem in read("yolo", tmp_path, classes=["mono"]).problems] == ["unknown-class"]


def coco(**changes: object) -> str:
    document: dict[str, object] = {
        "images": [{"id": 3, "file_name": "a.png", "width": 48, "height": 40}],
        "categories": [{"id": 1, "name": "Eosinophil"}],
        "annotations": [{"id": 1, "image_id": 3, "category_id": 1, "bbox": [4, 5, 20, 10]}],
    }
    return json.dumps({**document, **changes})


def test_coco_boxes_are_x_y_width_and_height(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png", 1)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "all.json").write_text(coco())
    (entry,) = read("coco", tmp_path).entries
    assert (entry.file, entry.label, entry.box) == ("images/a.png", "Eosinophil", (4, 5, 24, 15))


def test_pbc_as_published(tmp_path: Path) -> None:
    root = tmp_path / "PBC_dataset_normal_DIB"
    for number, name in enumerate(["neutrophil/SNE_123.jpg", "ig/MMY_5.jpg", "platelet/PLATELET_9.jpg", "notes/x.jpg"]):
        picture(root / name, number)
    found = read("pbc", tmp_path).entries
    assert [(entry.label, entry.subtype) for entry in found] == [
        ("ig", "MMY"),
        ("neutrophil", "SNE"),
        ("platelet", "PLATELET"),
    ]
    assert our_label("ig", {}) == "immature_granulocyte"


def bloodmnist(path: Path, side: int = 28, **changes: np.ndarray) -> Path:
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for number, split in enumerate(("train", "val", "test")):
        arrays[f"{split}_images"] = rng.integers(0, 256, (3, side, side, 3), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.array([[number], [3], [7]], dtype=np.uint8)
    np.savez_compressed(path, **{**arrays, **changes})
    return path


def test_bloodmnist_is_unpacked_with_its_colours_and_published_splits(tmp_path: Path) -> None:
    path = bloodmnist(tmp_path / "bloodmnist.npz")
    reading = read("bloodmnist", tmp_path, unpacked=tmp_path / "out")
    assert [(entry.label, entry.split) for entry in reading.entries[::3]] == [
        ("basophil", "train"),
        ("eosinophil", "validation"),
        ("erythroblast", "test"),
    ]
    with np.load(path) as archive:
        first = archive["val_images"][1]
    np.testing.assert_array_equal(read_image(reading.root / "val/00001.png"), first[..., ::-1])


def test_bccd_labels_a_box_only_where_a_field_has_one_white_cell(tmp_path: Path) -> None:
    (tmp_path / "Annotations").mkdir()
    one, two = voc_object("WBC", 1, 1, 20, 20), voc_object("WBC", 1, 1, 20, 20) + voc_object("WBC", 21, 1, 40, 20)
    for number, white in enumerate((one, two, one)):
        name = f"BloodImage_{number:05d}"
        picture(tmp_path / "JPEGImages" / f"{name}.png", number)
        (tmp_path / "Annotations" / f"{name}.xml").write_text(voc(white + voc_object("Platelets", 30, 30, 35, 35)))
    (tmp_path / "labels.csv").write_text(',Image,Category\n,0,NEUTROPHIL\n,1,MONOCYTE\n,2,"NEUTROPHIL, EOSINOPHIL"\n')
    assert [label for _, label in told("bccd", tmp_path)] == ["NEUTROPHIL", "Platelets", "Platelets", "Platelets"]


def test_raabin_comes_in_class_folders_or_with_label_numbers(tmp_path: Path) -> None:
    picture(tmp_path / "Train" / "Basophil" / "1.png", 1)
    picture(tmp_path / "TestB" / "Neutrophil" / "2.png", 2)
    picture(tmp_path / "Test" / "3.png", 3)
    (tmp_path / "Test.json").write_text('{"3.png": 2, "4.png": 9}')
    reading = read("raabin", tmp_path)
    assert sorted((entry.file, entry.label, entry.split) for entry in reading.entries) == [
        ("Test/3.png", "lymphocyte", "test"),
        ("TestB/Neutrophil/2.png", "Neutrophil", "test"),
        ("Train/Basophil/1.png", "Basophil", "train"),
    ]
    assert [problem.code for problem in reading.problems] == ["unknown-class"]
    assert told("raabin", tmp_path / "Train") == [("Basophil/1.png", "Basophil")]


def test_lisc_boxes_come_from_the_masks_and_mixed_fields_are_left_out(tmp_path: Path) -> None:
    root = tmp_path / "LISC Database"
    for number, name in enumerate(["Baso/1.bmp", "neut/1.bmp", "mixt/1.bmp"]):
        picture(root / "Main Dataset" / name, number, 100, 80)
    mask = np.zeros((80, 100), np.uint8)
    mask[20:60, 30:70] = 128
    mask[70:72, 2:5] = 255
    masks = root / "Ground Truth Segmentation" / "Baso" / "areaforexpert1"
    masks.mkdir(parents=True)
    (masks / "1_expert.bmp").write_bytes(cv2.imencode(".bmp", mask)[1].tobytes())
    found = read("lisc", tmp_path).entries
    assert [(entry.label, entry.box) for entry in found] == [("basophil", (30, 20, 70, 60)), ("neutrophil", None)]


def test_a_data_folder_of_this_project_names_its_sources(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text(
        "source,label,file,group,slide,subtype,width,height,sha1\n"
        "jtsc,basophil,jtsc/1.png,jtsc/,,,120,120,cc\npbc,erythroblast,pbc/b.jpg,pbc/b,,ERB,360,363,bb\n"
    )
    found = read("manifest", tmp_path).entries
    assert [(entry.source, entry.group, entry.box) for entry in found] == [
        ("jtsc", "jtsc/jtsc/1.png", None),
        ("pbc", "pbc/b", None),
    ]


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_an_empty_folder_is_one_error_with_its_cure(tmp_path: Path, layout: str) -> None:
    with pytest.raises(InputError) as caught:
        read(layout, tmp_path, unpacked=tmp_path / "out", classes=["a"])
    assert caught.value.code == "layout-not-found"
    assert caught.value.cure


def test_names_of_other_people_are_understood_and_mapped() -> None:
    assert our_label("Neutrophils", {}) == "neutrophil"
    assert our_label(" RBC ", {}) == "red_cell"
    assert our_label("blast", {}) is None
    mapping = parse_mapping(["Blast=other", "a=b=leave-out", "lymphocyte=monocyte"])
    assert our_label("BLAST", mapping) == "other"
    assert our_label("a=b", mapping) == LEAVE_OUT
    assert our_label("lymphocyte", mapping) == "monocyte"
    for wrong in ("blast", "=other", "blast=Blasts"):
        with pytest.raises(UsageError) as caught:
            parse_mapping([wrong])
        assert caught.value.code == "bad-map"

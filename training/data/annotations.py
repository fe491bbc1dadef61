"""Whole fields and their boxes: cells as the device's locator sees them, and objects that are not white cells."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edge.core.labels import OTHER
from edge.files import read_image
from training.data.boxes import Rectangle, voc_objects, yolo_objects
from training.data.sources import Sample


def voc_boxes(path: Path, name: str) -> list[Rectangle]:
    """Boxes of the objects called `name` in a Pascal VOC annotation; raises as `training.data.boxes.voc_objects`."""
    return [box for called, box in voc_objects(path)[1] if called == name]


def yolo_boxes(path: Path, width: int, height: int) -> list[Rectangle]:
    """Boxes of a YOLO annotation in pixels of its picture; raises as `training.data.boxes.yolo_objects`."""
    return [
        (left * width, top * height, right * width, bottom * height)
        for _, (left, top, right, bottom) in yolo_objects(path)
    ]


def csv_boxes(path: Path, label: str) -> dict[str, list[Rectangle]]:
    """Boxes called `label` by picture, as shares of its sides, from a table image, xmin, ymin, xmax, ymax, label."""
    boxes: dict[str, list[Rectangle]] = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            if row["label"] == label:
                left, top, right, bottom = (float(row[key]) for key in ("xmin", "ymin", "xmax", "ymax"))
                boxes[row["image"]].append((left, top, right, bottom))
    return boxes


def _bccd(data: Path, cells: Sequence[Sample]) -> list[Sample]:
    folder = data / "bccd" / "fields"
    by_stem = {re.sub(r"_\d+$", "", Path(cell.file).stem): cell for cell in cells}
    samples = []
    for annotation in sorted((folder / "Annotations").glob("*.xml")):
        picture = folder / "JPEGImages" / f"{annotation.stem}.jpg"
        if not picture.is_file():
            continue
        file = picture.relative_to(data).as_posix()
        boxes = voc_boxes(annotation, "WBC")
        cell = by_stem.get(annotation.stem)
        group = cell.group if cell else f"bccd/{annotation.stem}"
        # The set labels fields, not boxes: only where a field has one white cell does the label belong to a box.
        if cell and len(boxes) == 1:
            samples.append(replace(cell, file=file, kind="field", box=boxes[0], sha1=""))
        for kind in ("RBC", "Platelets"):
            samples += [
                Sample("bccd", OTHER, file, group, kind="background", box=box, subtype=kind)
                for box in voc_boxes(annotation, kind)[:2]
            ]
    return samples


def _embedded(data: Path, cells: Sequence[Sample]) -> list[Sample]:
    folder = data / "embedded" / "fields"
    samples = []
    for cell in cells:
        stem, _, index = Path(cell.file).stem.rpartition("_")
        picture, annotation = folder / f"{stem}.jpg", folder / f"{stem}.txt"
        if not picture.is_file() or not annotation.is_file():
            continue
        image = read_image(picture)
        boxes = yolo_boxes(annotation, image.shape[1], image.shape[0])
        file = picture.relative_to(data).as_posix()
        samples.append(replace(cell, file=file, kind="field", box=boxes[int(index)], sha1=""))
    return samples


def _draaslan(data: Path) -> list[Sample]:
    folder = data / "draaslan" / "fields"
    table = folder / "annotations.csv"
    if not table.is_file():
        return []
    boxes = csv_boxes(table, "rbc")
    samples = []
    for name, rectangles in sorted(boxes.items()):
        picture = folder / "images" / name
        if not picture.is_file():
            continue
        image = read_image(picture)
        height, width = image.shape[:2]
        samples += [
            Sample(
                "draaslan",
                OTHER,
                picture.relative_to(data).as_posix(),
                f"draaslan/{name}",
                kind="background",
                box=(left * width, top * height, right * width, bottom * height),
                subtype="RBC",
            )
            for left, top, right, bottom in rectangles[:3]
        ]
    return samples


def field_samples(data: Path, cells: Sequence[Sample]) -> list[Sample]:
    """Find the labelled cells again, inside their whole fields, and red cells and platelets as `other`.

    `cells` are the samples of the manifest: a field's samples share the group of its cell, so that a split keeps them
    together.
    Sources whose fields are absent give nothing.
    """
    return [
        *_bccd(data, [cell for cell in cells if cell.source == "bccd"]),
        *_embedded(data, [cell for cell in cells if cell.source == "embedded"]),
        *_draaslan(data),
    ]

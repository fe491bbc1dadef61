"""How well the locator finds white cells, against boxes drawn by people.

    python tests/bench/locator.py --data DIR [--markdown] [--check]

A located box and a drawn box match, one to one, when their intersection is at least half of their union. The same code
and the same settings for every source; the settings were chosen on these same fields, so the figures are in-sample.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from edge.core.types import Image  # noqa: E402
from edge.files import read_image  # noqa: E402
from edge.imaging import flatfield  # noqa: E402
from edge.imaging.locate import locate  # noqa: E402
from training.data.annotations import Rectangle, csv_boxes, voc_boxes, yolo_boxes  # noqa: E402

TARGETS = {"bccd": {"recall": 0.985, "precision": 0.95}, "embedded": {"recall": 0.95}}
SOURCES = ("bccd", "embedded", "draaslan")


@dataclass(frozen=True)
class LocatorFigures:
    """Counts over the fields of one source; `in_empty_fields` are cells located where nobody drew one."""

    source: str
    fields: int
    drawn: int
    located: int
    matched: int
    in_empty_fields: int
    recall: float
    precision: float


def annotated_fields(data: Path, source: str) -> Iterator[tuple[Image, list[Rectangle]]]:
    """Each field of a source with the boxes of its white cells."""
    if source == "bccd":
        for annotation in sorted((data / "bccd/fields/Annotations").glob("*.xml")):
            picture = data / "bccd/fields/JPEGImages" / f"{annotation.stem}.jpg"
            if picture.is_file():
                yield read_image(picture), voc_boxes(annotation, "WBC")
    elif source == "embedded":
        for picture in sorted((data / "embedded/fields").glob("*.jpg")):
            image = read_image(picture)
            yield image, yolo_boxes(picture.with_suffix(".txt"), image.shape[1], image.shape[0])
    else:
        boxes = csv_boxes(data / "draaslan/fields/annotations.csv", "wbc")
        for picture in sorted((data / "draaslan/fields/images").glob("*.png")):
            image = read_image(picture)
            height, width = image.shape[:2]
            yield image, [(x0 * width, y0 * height, x1 * width, y1 * height) for x0, y0, x1, y1 in boxes[picture.name]]


def overlap(first: Rectangle, second: Rectangle) -> float:
    """Intersection over union of two boxes (left, top, right, bottom)."""
    across = max(0.0, min(first[2], second[2]) - max(first[0], second[0]))
    down = max(0.0, min(first[3], second[3]) - max(first[1], second[1]))
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return across * down / (areas - across * down)


def matches(drawn: list[Rectangle], located: list[Rectangle]) -> int:
    """How many boxes match one to one, the best overlaps first."""
    pairs = sorted(
        ((overlap(box, found), i, j) for i, box in enumerate(drawn) for j, found in enumerate(located)), reverse=True
    )
    taken_drawn: set[int] = set()
    taken_located: set[int] = set()
    for share, i, j in pairs:
        if share >= 0.5 and i not in taken_drawn and j not in taken_located:
            taken_drawn.add(i)
            taken_located.add(j)
    return len(taken_drawn)


def measure(data: Path, source: str) -> LocatorFigures:
    """Locate the cells of every field of a source and compare them with the drawn boxes."""
    fields = drawn = located = matched = in_empty = 0
    for image, boxes in annotated_fields(data, source):
        cells = locate(flatfield.correct(image))
        found = [(c.box.x, c.box.y, c.box.x + c.box.width, c.box.y + c.box.height) for c in cells]
        fields += 1
        drawn += len(boxes)
        located += len(found)
        matched += matches(boxes, [tuple(map(float, box)) for box in found])  # type: ignore[misc]
        in_empty += 0 if boxes else len(found)
    return LocatorFigures(
        source,
        fields,
        drawn,
        located,
        matched,
        in_empty,
        round(matched / max(1, drawn), 4),
        round(matched / max(1, located), 4),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--markdown", action="store_true", help="print a table")
    parser.add_argument("--check", action="store_true", help="end with status 3 when a target is missed")
    arguments = parser.parse_args()
    rows = [measure(arguments.data, source) for source in SOURCES]
    if arguments.markdown:
        print("| fields of | fields | drawn | located | recall | precision | located in fields without a drawn cell |")
        print("|---|---|---|---|---|---|---|")
        for row in rows:
            print(
                f"| {row.source} | {row.fields} | {row.drawn} | {row.located} | {row.recall:.3f} | {row.precision:.3f} "
                f"| {row.in_empty_fields} |"
            )
    else:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    missed = [
        f"{row.source} {name} {getattr(row, name)} < {least}"
        for row in rows
        for name, least in TARGETS.get(row.source, {}).items()
        if getattr(row, name) < least
    ]
    for line in missed:
        print(line, file=sys.stderr)
    if arguments.check and missed:
        sys.exit(3)


if __name__ == "__main__":
    main()

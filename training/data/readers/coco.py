"""COCO: one JSON file with `images`, `categories` and `annotations`, whose `bbox` is x, y, width and height."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edge.core.errors import InputError
from training.data.boxes import Rectangle
from training.data.paths import inside
from training.data.readers.entries import Entry, Options, Problem, Reading, nothing_found
from training.data.sources import box_of
from training.data.tables import read_text


def _broken(path: Path, what: str) -> InputError:
    return InputError("broken-annotation", f"{path}: {what}.", "Export the annotations again as COCO JSON.")


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise _broken(path, f"it is no JSON ({error})") from error
    if not isinstance(document, dict):
        raise _broken(path, "it is no JSON object")
    for key in ("images", "annotations", "categories"):
        if not isinstance(document.get(key), list):
            raise _broken(path, f"it has no list {key!r}")
    return document


def _named(items: list[Any], key: str, path: Path) -> dict[int, str]:
    named = {}
    for item in items:
        if not isinstance(item, dict) or not isinstance(item.get("id"), int) or not isinstance(item.get(key), str):
            raise _broken(path, f"an item has no id or no {key}")
        named[item["id"]] = item[key]
    return named


def _find(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = (
        sorted(path.glob("*.json")) or sorted((path / "annotations").glob("*.json")) or sorted(path.glob("*/*.json"))
    )
    if not found:
        raise nothing_found(path, "COCO annotations (.json)")
    return found


def read(path: Path, options: Options) -> Reading:
    """Read one JSON file, or all of a folder. Pictures lie beside it, or in `images/`.

    Raises InputError `layout-not-found`, `broken-annotation`, or as `read_text`.
    """
    root = path if path.is_dir() else path.parent
    entries: list[Entry] = []
    problems: list[Problem] = []
    for file in _find(path):
        found = _read_one(root, file)
        entries += found.entries
        problems += found.problems
    return Reading(root, entries, problems)


def _read_one(root: Path, path: Path) -> Reading:
    document = _document(path)
    names = _named(document["categories"], "name", path)
    pictures = _named(document["images"], "file_name", path)
    entries: list[Entry] = []
    problems: list[Problem] = []
    for item in document["annotations"]:
        picture = _look_up(pictures, item.get("image_id")) if isinstance(item, dict) else None
        try:
            if picture is None:
                raise _broken(path, "an annotation belongs to no picture")
            label = _look_up(names, item.get("category_id"))
            if label is None:
                raise InputError(
                    "unknown-class", f"{path}: category {item.get('category_id')!r} has no name.", "Name it."
                )
            bounds = item.get("bbox")
            if not isinstance(bounds, list) or len(bounds) != 4:
                raise _broken(path, f"{picture} has an annotation without a bbox of four numbers")
            file = _place(root, path, inside(picture, path))
            entries.append(Entry(file, label, _box(bounds, picture), group=file))
        except InputError as error:
            problems.append(Problem.of(picture or path.name, error))
    return Reading(root, entries, problems)


def _box(bounds: list[Any], picture: str) -> Rectangle | None:
    return box_of([str(value) for value in bounds], picture, may_reach_out=True)


def _look_up(names: dict[int, str], key: object) -> str | None:
    return names.get(key) if isinstance(key, int) else None


def _place(root: Path, annotation: Path, name: str) -> str:
    beside = annotation.parent.relative_to(root)
    for folder in (beside, beside / "images", Path(), Path("images")):
        if (root / folder / name).is_file():
            return (folder / name).as_posix()
    return (beside / name).as_posix()

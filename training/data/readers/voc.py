"""Pascal VOC: one XML file a picture, with named boxes in pixels. `Annotations/` beside `JPEGImages/`, or together."""

from __future__ import annotations

from pathlib import Path

from edge.core.errors import InputError
from training.data.boxes import voc_objects
from training.data.paths import inside
from training.data.readers.entries import (
    PICTURES,
    Entry,
    Options,
    Reading,
    nothing_found,
    read_each,
    require_folder,
    walk,
)


def picture_of(root: Path, annotation: str, named: str) -> str:
    """Find the picture of an annotation, by its own name, or the one it names, in the usual places below `root`.

    The annotation's name comes first: BCCD and others name pictures that were renamed since.
    Raises InputError `picture-missing`, or `outside-folder` when it names a file elsewhere.
    """
    path = Path(annotation)
    above = path.parent.parent
    folders = [path.parent, above / "JPEGImages", above / "images", above / "Images"]
    stems = [path.stem]
    if named:
        stems.append(Path(inside(named, root / annotation)).stem)
    for stem in stems:
        for folder in folders:
            for suffix in (*PICTURES, *(suffix.upper() for suffix in PICTURES)):
                if (root / folder / f"{stem}{suffix}").is_file():
                    return (folder / f"{stem}{suffix}").as_posix()
    raise InputError(
        "picture-missing", f"There is no picture for {annotation}.", "Put it beside it or into JPEGImages."
    )


def boxed(root: Path, annotation: str) -> list[Entry]:
    """Read one annotation file; raises InputError as `voc_objects` and `picture_of`."""
    named, objects = voc_objects(root / annotation)
    file = picture_of(root, annotation, named)
    return [Entry(file, name, box, group=file) for name, box in objects]


def read(root: Path, options: Options) -> Reading:
    """Read all annotations below a folder. Raises InputError `not-found` or `layout-not-found`."""
    require_folder(root)
    found = list(walk(root, (".xml",)))
    if not found:
        raise nothing_found(root, "Pascal VOC annotations (.xml)")
    return read_each(root, found, lambda annotation: boxed(root, annotation))

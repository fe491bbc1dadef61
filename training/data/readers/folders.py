"""Class folders: the folder that a picture lies in is its label, as in `basophil/cell1.png`."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from training.data.readers.entries import Entry, Options, Reading, nothing_found, require_folder, walk

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
"""Folders above the class folders that name a published split."""


def read(root: Path, options: Options) -> Reading:
    """Read class folders, at any depth. A folder above them called train, val or test is the published split.

    Raises InputError `not-found` or `layout-not-found`.
    """
    require_folder(root)
    entries = []
    for file in walk(root):
        path = PurePosixPath(file)
        if len(path.parts) < 2:
            continue
        above = [SPLIT_FOLDERS[part.casefold()] for part in path.parts[:-2] if part.casefold() in SPLIT_FOLDERS]
        entries.append(Entry(file, path.parent.name, split=above[-1] if above else ""))
    if not entries:
        raise nothing_found(root, "folders of pictures, one a class")
    return Reading(root, entries)

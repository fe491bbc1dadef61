"""Puts the pictures of a collection into the data folder: as links to where they are, or as copies."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from edge.core.errors import UsageError
from training.data.rows import Row
from training.data.storage import writing


def require_apart(out: Path, inputs: Sequence[Path]) -> None:
    """Raise UsageError `folders-overlap` when the data folder is an input or inside one.

    The next run would read its own pictures, or have overwritten the manifest that it read.
    """
    target = out.resolve()
    for given in inputs:
        path = given.resolve()
        if target == path.parent if path.is_file() else path == target or path in target.parents:
            raise UsageError(
                "folders-overlap", f"--out {out} is inside {given}, which is read.", "Choose a folder outside it."
            )


def place(rows: Sequence[Row], out: Path, copy: bool) -> None:
    """Make `row.file` in `out` for every row: a symbolic link to the picture's real place, or a copy of it.

    What is there already is replaced. Raises StoreError `disk-full`, `read-only` or `write-failed`.
    """
    for file, path in dict.fromkeys((row.file, row.path) for row in rows):
        target = out / file
        if target.absolute() == path.absolute():
            continue
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{target.name}.partial")
            partial.unlink(missing_ok=True)
            if copy:
                shutil.copyfile(path, partial)
            else:
                partial.symlink_to(path.resolve())
            partial.replace(target)

"""Where bundles lie: the one that comes with the package, and those beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from edge.bundle.manifest import MANIFEST_FILE
from edge.core.errors import BundleError

DEFAULT_NAME: Final = "wbc-student"
"""Folder of the bundle that is used when no other is named."""


def shipped_folder() -> Path:
    """Return the folder that holds the bundles of this package."""
    return Path(__file__).resolve().parent.parent / "shipped"


def available(folder: Path | None = None) -> tuple[Path, ...]:
    """List the bundles in `folder`, by default the shipped ones, in the order of their names."""
    folder = shipped_folder() if folder is None else folder
    return tuple(sorted(path.parent for path in folder.glob(f"*/{MANIFEST_FILE}")))


def default() -> Path:
    """Return the shipped bundle. Raises BundleError when this installation has none."""
    folder = shipped_folder() / DEFAULT_NAME
    if not (folder / MANIFEST_FILE).exists():
        raise BundleError(
            "bundle-missing",
            f"This installation has no model bundle in {folder}.",
            "Install the package again, or name a bundle's folder.",
        )
    return folder

"""The PBC set as published (Mendeley Data, snkd93bnjr): eight folders, files like `SNE_123.jpg`.

The letters before the number are the subtype that the laboratory gave. The set names no patients.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from training.data.readers.entries import Entry, Options, Reading, nothing_found, require_folder, walk

CLASSES = frozenset(
    {"basophil", "eosinophil", "erythroblast", "ig", "lymphocyte", "monocyte", "neutrophil", "platelet"}
    | {"immature_granulocyte"}
)
"""The folders of the set, and the name that some copies give to `ig`."""

_SUBTYPE = re.compile(r"^([A-Z]+)_\d+")


def read(root: Path, options: Options) -> Reading:
    """Read the eight folders, at any depth. Raises InputError `not-found` or `layout-not-found`."""
    require_folder(root)
    entries = []
    for file in walk(root):
        path = PurePosixPath(file)
        if path.parent.name.casefold() in CLASSES:
            found = _SUBTYPE.match(path.name)
            entries.append(Entry(file, path.parent.name, subtype=found[1] if found else ""))
    if not entries:
        raise nothing_found(root, "the folders of the PBC set (basophil, eosinophil, ... platelet)")
    return Reading(root, entries)

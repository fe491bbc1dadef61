"""What other people call the cells, and the name that this project uses for each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from edge.core.errors import UsageError
from edge.core.labels import LABELS, OTHER

NOT_ONE_OF_THE_FIVE: Final = frozenset(
    {"immature_granulocyte", "erythroblast", "platelet", "red_cell", "artefact", OTHER}
)
"""Labels of the sources that become `other`."""

BACKGROUND: Final = frozenset({"red_cell", "platelet", "artefact"})
"""Boxes of a whole field with these labels are no nucleated cells: a locator must not pick them."""

LEAVE_OUT: Final = "leave-out"
"""What a label is mapped to whose pictures are not wanted."""

_SYNONYMS: Final[Mapping[str, Sequence[str]]] = {
    "neutrophil": (
        *("neu", "neut", "neutro", "seg", "sne", "bne", "ngs", "ngb", "band", "band neutrophil"),
        "segmented neutrophil",
    ),
    "lymphocyte": ("lym", "lymp", "lymph", "ly", "lyt"),
    "monocyte": ("mon", "mono", "mo"),
    "eosinophil": ("eos", "eosi", "eo"),
    "basophil": ("bas", "baso", "ba"),
    "immature_granulocyte": (
        *("ig", "immature granulocyte", "metamyelocyte", "myelocyte", "promyelocyte"),
        *("mmy", "my", "pmy", "mmz", "myb", "pmo"),
        "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)",
    ),
    "erythroblast": ("erb", "ebo", "nrbc", "normoblast"),
    "platelet": ("plt", "thrombocyte"),
    "red_cell": ("rbc", "red blood cell", "erythrocyte", "red cell"),
    "artefact": ("artifact", "debris"),
    OTHER: (),
}
"""Names in use, in lower case and the singular. What is not here must be mapped by whoever knows the set."""


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


_KNOWN: Final = {
    _plain(spelling): label for label, others in _SYNONYMS.items() for name in (label, *others) for spelling in (name,)
}


def our_label(name: str, mapping: Mapping[str, str]) -> str | None:
    """Give the label of this project for another's name, `LEAVE_OUT`, or None when nobody knows it.

    `mapping` comes first; then the usual names, in the singular or plural, in any case.
    """
    plain = _plain(name)
    if plain in mapping:
        return mapping[plain]
    return _KNOWN.get(plain) or _KNOWN.get(plain.removesuffix("s"))


def parse_mapping(items: Iterable[str]) -> dict[str, str]:
    """Read `their label=our label` items. Raises UsageError `bad-map` for another form or an unknown label of ours."""
    known = [*LABELS, *sorted(NOT_ONE_OF_THE_FIVE), LEAVE_OUT]
    mapping = {}
    for item in items:
        theirs, sign, ours = item.rpartition("=")
        if not sign or not theirs.strip() or ours.strip() not in known:
            raise UsageError(
                "bad-map", f"--map {item!r} is not `their label=our label`.", f"Our labels are: {', '.join(known)}."
            )
        mapping[_plain(theirs)] = ours.strip()
    return mapping

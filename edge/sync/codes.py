"""Codes that a result carries outside: LOINC, UCUM, SNOMED CT, and identifiers that are the same every time."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Final

from edge.core import labels
from edge.core.differential import SCREENING_COUNT
from edge.core.labels import LABELS, OTHER

NAMESPACE: Final = uuid.UUID("5bc0e447-b7b8-49c8-9592-ddc307bd2dd7")
"""Of all identifiers made here (UUID version 5, RFC 9562): the same thing has the same one at every attempt."""

LOCAL: Final = f"urn:oid:2.25.{NAMESPACE.int}"
"""Code system of what no public one names. An object identifier that is a UUID (ITU-T X.667)."""

LOINC: Final = {
    "methodless": labels.LOINC,
    "automated": {
        "neutrophil": "770-8",
        "lymphocyte": "736-9",
        "monocyte": "5905-5",
        "eosinophil": "713-8",
        "basophil": "706-2",
        OTHER: labels.LOINC[OTHER],
    },
    "manual": {
        "neutrophil": "23761-0",
        "lymphocyte": "737-7",
        "monocyte": "744-3",
        "eosinophil": "714-6",
        "basophil": "707-0",
        OTHER: labels.LOINC[OTHER],
    },
}
"""Codes "class per 100 leukocytes in blood" by what a site says its method is. LOINC knows no image classifier."""

PANEL: Final = labels.LOINC_PANEL
NAMES: Final = {label: f"{label.capitalize()}s/100 leukocytes" for label in LABELS} | {
    OTHER: "Other leukocytes/100 leukocytes"
}
SNOMED_BLOOD: Final = ("119297000", "Blood specimen")
SNOMED_MICROSCOPY: Final = ("104157003", "Light microscopy")
NOTICE: Final = (
    "For Research Use Only. Not for use in diagnostic procedures. Decision support, not a diagnosis. "
    "Blasts, immature granulocytes and erythroblasts are not assessed."
)


def identifier(*parts: object) -> str:
    """Make the UUID that stands for these parts, for ever."""
    return str(uuid.uuid5(NAMESPACE, "\x1f".join(str(part) for part in parts)))


def interpretation(wilson: list[float] | None, limits: tuple[float, float] | None) -> str | None:
    """Say N, L or H by the v3-ObservationInterpretation code, only when the whole 95 % interval (percent) says so."""
    if wilson is None or limits is None:
        return None
    low, high = wilson
    if high < limits[0]:
        return "L"
    if low > limits[1]:
        return "H"
    return "N" if low >= limits[0] and high <= limits[1] else None


def other_percent(counts: Mapping[str, Any]) -> float | None:
    """Give the share of `other` among all located cells, in percent; None where fewer than 100 were located."""
    located = int(counts["counted"]) + int(counts["other"])
    return 100 * int(counts["other"]) / located if located >= SCREENING_COUNT else None


def report_status(status: str, signed: bool) -> str:
    """Give the status outside: nothing is more than preliminary until a person has signed."""
    return status if signed else "preliminary"

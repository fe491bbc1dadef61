"""The cell classes, in the order every array of this project uses, and their LOINC codes."""

from __future__ import annotations

from typing import Final

LABELS: Final = ("neutrophil", "lymphocyte", "monocyte", "eosinophil", "basophil")
"""The five classes of the differential, in the order of every probability vector."""

OTHER: Final = "other"
"""A located object that is not one of the five: immature cell, erythroblast, platelet clump, debris."""

LOINC: Final = {
    "neutrophil": "26511-6",
    "lymphocyte": "26478-8",
    "monocyte": "26485-3",
    "eosinophil": "26450-7",
    "basophil": "30180-4",
    OTHER: "26471-3",
}
"""Codes for "class per 100 leukocytes in blood" without a stated method: an image classifier is neither
LOINC's "automated count" nor its "manual count"."""

LOINC_PANEL: Final = "69738-3"
"""Differential panel, active in LOINC."""

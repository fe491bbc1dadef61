"""What the report calls things: classes, tiers, flags, refusals, each in plain words with what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edge.core.labels import LABELS, OTHER

GROUPS: Final = (*LABELS, OTHER)

LETTERS: Final = {"neutrophil": "N", "lymphocyte": "L", "monocyte": "M", "eosinophil": "E", "basophil": "B", OTHER: "?"}
"""Colour alone never carries the class: every box and heading shows its letter."""

NAMES: Final = {
    "neutrophil": "Neutrophils",
    "lymphocyte": "Lymphocytes",
    "monocyte": "Monocytes",
    "eosinophil": "Eosinophils",
    "basophil": "Basophils",
    OTHER: "Needs review",
}

RESEARCH_USE: Final = "For Research Use Only. Not for use in diagnostic procedures."


@dataclass(frozen=True, slots=True)
class Advice:
    """A finding in plain words, and what to do about it."""

    title: str
    meaning: str
    action: str


@dataclass(frozen=True, slots=True)
class Tier:
    """What a number of counted cells allows to be said. Tiers after ICSH/CLSI practice: 100, 200, 400 cells."""

    name: str
    says: str


TIERS: Final = {
    "insufficient": Tier(
        "Insufficient count",
        "Fewer than 100 cells: only the counts may be reported. No class shares and no comparison with a reference "
        "range are given.",
    ),
    "screening": Tier(
        "Screening count",
        "100 to 199 cells: percentages may be used for screening, always with their intervals. They do not replace a "
        "200-cell differential.",
    ),
    "differential": Tier(
        "Differential count",
        "200 to 399 cells: percentages may be reported as a differential, with their intervals.",
    ),
    "reference": Tier(
        "Reference count",
        "400 cells or more: the number of cells a reference differential uses. Percentages may be reported with their "
        "intervals.",
    ),
}

STATUS: Final = {
    "preliminary": ("Preliminary", "Not yet reviewed by a qualified person."),
    "final": ("Final", "Reviewed and signed."),
    "corrected": ("Corrected", "Replaces an earlier version of this record."),
}

CLOCK: Final = {
    "network": ("network time", "The clock had been set from the network."),
    "rtc": ("hardware clock", "The hardware clock was running; it had not been compared with the network."),
    "unknown": ("clock not verified", "The device did not know the time. Write the date of the smear by hand."),
}

FLAGS: Final = {
    "unsigned-bundle": Advice(
        "Unsigned model",
        "This result was made with a model bundle that nobody has signed: what it was trained on, and whether it was "
        "ever evaluated, is known to its developer at best.",
        "Use this result to develop the model and for nothing else. Install a signed release (leuko model install), "
        "then analyse the fields again.",
    ),
    "simulated": Advice(
        "Simulated slide",
        "These cells were drawn by the simulated microscope. They are no patient's.",
        "Use a real camera for a sample.",
    ),
    "bundle-changed": Advice(
        "Model replaced during the session",
        "Another model was activated while this sample was counted. All its cells were called by the one that is named "
        "in this report, which is no longer the one in use.",
        "Look up why the model was replaced; where it was for a fault, count the sample anew.",
    ),
    "calibration-changed": Advice(
        "Calibrated during the session",
        "The microscope was calibrated anew while this sample was counted. All its fields were corrected by the record "
        "that is named in this report, which is no longer the one in force.",
        "Where the light or the optics were changed during the session, count the sample anew.",
    ),
    "no-cells": Advice(
        "No cells found",
        "No white cell was located in the fields that were analysed.",
        "Check that the fields lie in the thin, even part of the smear and that the magnification is right.",
    ),
    "low-count": Advice(
        "Too few cells",
        "Fewer than 100 cells were counted, so only counts are given.",
        "Take more fields until at least 100, better 200, cells are counted.",
    ),
    "other-rate-high": Advice(
        "Many cells need review",
        "More than 1 in 20 located objects could not be counted, so class shares are withheld: those of the rest would "
        "not describe the sample.",
        "Have a qualified person look at the cells under “Needs review” before anything else. They may be immature "
        "cells, clumps or stain deposit; also check focus and stain.",
    ),
}

CROSSING: Final = "interval-crosses-limit"
"""The flag that names its class after a colon; the report joins all of them into one."""

REASONS: Final = {
    "blurred": Advice(
        "Blurred", "Edges are not as sharp as they should be here.", "Focus again, clean the lens, and take it again."
    ),
    "no-texture": Advice(
        "Nothing to judge", "The field shows no structure.", "Move to the thin, even part of the smear."
    ),
    "under-exposed": Advice(
        "Too dark", "The field is too dark.", "Raise the light or the exposure, and take it again."
    ),
    "over-exposed": Advice(
        "Too bright", "The field is too bright.", "Lower the light or the exposure, and take it again."
    ),
    "clipped": Advice(
        "Clipped", "Large parts are fully black or fully white.", "Correct the exposure, and take it again."
    ),
    "uneven-illumination": Advice(
        "Uneven light",
        "The darkest part is darker than a correction can mend.",
        "Centre the lamp and the condenser, or calibrate the flat field.",
    ),
    "wrong-colour": Advice(
        "Unusual colour",
        "The blank slide has another colour than it has at this site.",
        "Set the white balance, and check the lamp and the filters.",
    ),
    "wrong-stain": Advice(
        "Unusual stain",
        "The nuclei are far paler or darker than expected, or nothing is stained.",
        "Check the stain, its age and its pH; stain a new smear if needed.",
    ),
    "not-a-smear": Advice(
        "Not a smear", "No stained cells on a bright slide were found.", "Check that this is a picture of the smear."
    ),
}

ABSTENTION: Final = {
    "low-confidence": "too uncertain to count",
}

THROTTLE: Final = {
    0: "under-voltage now",
    1: "processor frequency capped now",
    2: "throttled now",
    3: "temperature limit reached now",
    16: "under-voltage has occurred",
    17: "frequency cap has occurred",
    18: "throttling has occurred",
    19: "temperature limit has been reached",
}
"""Bits of the Raspberry Pi firmware's `get_throttled`."""

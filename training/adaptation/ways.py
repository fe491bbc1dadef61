"""The ways to learn from labelled cells that a commissioning tries; docs/adapt.md has the table they were chosen by."""

from __future__ import annotations

from typing import Final

from training.adaptation.labelled import Way
from training.adaptation.tail import Course

WAYS: Final = (
    Way("head", Course("head", 1e-2, steps=120), site=0.34, plain=0.66, restained=0.0),
    Way("last-block", Course("last", 1e-3, steps=120), site=0.34, plain=0.33, restained=0.33),
)

"""The ways to learn from labelled cells that a commissioning tries; docs/adapt.md has the table they were chosen by."""

from __future__ import annotations

from typing import Final

from training.adaptation.head import Ridge
from training.adaptation.labelled import Way

WAYS: Final = (
    Way("head, mostly the site", Ridge(1e-2), site=0.8),
    Way("head, half the source", Ridge(1e-2), site=0.5),
)

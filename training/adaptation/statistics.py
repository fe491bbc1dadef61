"""What the fields of a site tell without any label: light, focus, background, and how its stain differs.

The record, `site.json` beside the adapted run, says what the site was like when it was commissioned: fields taken later
can be held against it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edge.core.errors import NothingToDoError
from edge.core.types import Image, Quality
from edge.imaging.flatfield import BLANK
from edge.imaging.quality import QualityReference, reference_from

Matrix = npt.NDArray[np.float64]

DENSITY: Final = (-np.log((np.arange(256, dtype=np.float32) + 1.0) / (BLANK + 1.0))).astype(np.float32)
"""Natural optical density of each grey level against the blank slide, as `training.data.augment` has it."""

_REACH: Final = 0.27
"""Radius, in sides of a crop with context, of the disc that holds the cell: 0.8 of a nucleus' diameter."""

_STAINED: Final = 0.25
"""A pixel counts as stained from this share of the densest pixels on."""

_FEWEST_PIXELS: Final = 20
_FAINTEST: Final = 0.03


@dataclass(frozen=True, slots=True)
class Stain:
    """How a set of cells is stained, in natural optical density against the blank slide, B, G, R.

    `moment` is the mean over cells of the second moment of their stained pixels about the blank slide, 3 x 3, each cell
    scaled to strength 1; `strengths` is each cell's own, the 0.9 quantile of its mean density.
    """

    moment: tuple[tuple[float, float, float], ...]
    strengths: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SiteStatistics:
    """A site as its unlabelled fields show it.

    `reference` holds the medians of its accepted fields, by which the device's quality gate judges a field; `refused`
    counts the fields that the gate refused without any reference, by reason. `stain` is None where no cell was found.
    """

    site: str
    fields: int
    accepted: int
    refused: dict[str, int]
    cells: int
    reference: QualityReference
    stain: Stain | None

    def to_json(self) -> str:
        """Write as JSON, the strengths of the stain rounded to a thousandth."""
        values = asdict(self)
        if self.stain is not None:
            values["stain"]["strengths"] = [round(value, 3) for value in self.stain.strengths]
        return json.dumps(values, indent=2, sort_keys=True) + "\n"


def cell_density(crop: Image) -> tuple[Matrix, float]:
    """Second moment of one cell's stained pixels, float64[3, 3], and its strength; `crop` is uint8[S, S, 3] BGR.

    The crop carries context, so that the cell lies within a disc around its middle.
    """
    side = crop.shape[0]
    y, x = np.mgrid[:side, :side] - (side / 2 - 0.5)
    pixels = DENSITY[crop[np.hypot(x, y) < _REACH * side]].astype(np.float64)
    mean = pixels.mean(axis=1)
    stained = mean > max(_STAINED * float(np.quantile(mean, 0.95)), _FAINTEST)
    chosen = pixels[stained] if stained.sum() >= _FEWEST_PIXELS else pixels
    return chosen.T @ chosen / len(chosen), float(max(np.quantile(mean, 0.9), _FAINTEST))


def stain_of(crops: Sequence[Image] | Image) -> Stain | None:
    """Take the stain of cells, uint8[S, S, 3] BGR with context each; None when there is no cell."""
    measured = [cell_density(crop) for crop in crops]
    if not measured:
        return None
    moment = np.mean([own / strength**2 for own, strength in measured], axis=0)
    rows = [(float(row[0]), float(row[1]), float(row[2])) for row in moment]
    return Stain(tuple(rows), tuple(strength for _, strength in measured))


def of_site(site: str, qualities: Sequence[Quality], crops: Sequence[Image] | Image) -> SiteStatistics:
    """Take the statistics of a site from the quality of each of its fields and the crops of its located cells.

    Raises NothingToDoError `no-usable-field` when the quality gate refused every field: nothing can be learnt there.
    """
    refused: dict[str, int] = {}
    for quality in qualities:
        for reason in quality.reasons:
            refused[reason] = refused.get(reason, 0) + 1
    accepted = sum(quality.accepted for quality in qualities)
    if not accepted:
        reasons = ", ".join(f"{name} {count}" for name, count in sorted(refused.items())) or "there is none"
        raise NothingToDoError(
            "no-usable-field",
            f"None of {len(qualities)} fields can be used ({reasons}).",
            "Take sharp, evenly lit fields of a stained smear and name their folder with --fields.",
        )
    return SiteStatistics(
        site, len(qualities), accepted, refused, len(crops), reference_from(qualities), stain_of(crops)
    )

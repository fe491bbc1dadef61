"""Romanowsky stains as dyes: what each dye absorbs, and how strongly each part of a cell takes it up.

Colours are optical densities against the blank slide (Beer-Lambert): natural logarithm, channels B, G, R, per unit of
concentration, where one unit absorbs 1.0 in green. A camera's channels are broad, so density saturates instead of
growing without end; `ceiling` is the density that a channel approaches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np

from edge.core.errors import UsageError
from edge.core.types import FloatArray

HAEMOGLOBIN, CHROMATIN, BASOPHILIA, LILAC, EOSIN = range(5)
"""The dye planes: red cells; azure-eosin on DNA (violet); azure on RNA (blue); neutral granules; eosin (orange-red)."""

DYES: Final = 5

LUT_STEPS_PER_UNIT: Final = 2048
_LUT_LIMIT: Final = 10.0


@dataclass(frozen=True, slots=True)
class Stain:
    """One staining: absorption of each dye (rows in the order of the dye planes, columns B, G, R) and its strength.

    `strength` multiplies the concentration of each dye. `film` is the mean concentration of dried
    plasma between the cells. `blank` is the colour of the blank slide (B, G, R, 0-255) under the usual lamp.
    """

    name: str
    absorption: tuple[tuple[float, float, float], ...]
    strength: tuple[float, float, float, float, float]
    ceiling: tuple[float, float, float]
    film: float
    blank: tuple[float, float, float]

    def matrix(self) -> FloatArray:
        """Density of each plane per unit concentration: float32[DYES, 3]."""
        return np.asarray(np.array(self.absorption) * np.array(self.strength)[:, None], dtype=np.float32)

    def transmission_tables(self) -> FloatArray:
        """Transmittance against unsaturated density, `LUT_STEPS_PER_UNIT` entries a unit: float32[3, entries], 0-1."""
        density = np.arange(int(_LUT_LIMIT * LUT_STEPS_PER_UNIT)) / LUT_STEPS_PER_UNIT
        ceiling = np.asarray(self.ceiling)[:, None]
        return np.asarray(np.exp(-density / (1.0 + density / ceiling)), dtype=np.float32)


_MAY_GRUENWALD_GIEMSA = Stain(
    name="may-gruenwald-giemsa",
    absorption=((1.00, 1.0, 0.60), (0.65, 1.0, 0.74), (0.44, 1.0, 1.30), (0.57, 1.0, 0.66), (1.28, 1.0, 0.42)),
    strength=(1.0, 1.0, 1.0, 1.0, 1.0),
    ceiling=(0.62, 40.0, 6.0),
    film=0.012,
    blank=(204.0, 230.0, 252.0),
)
_WRIGHT = Stain(
    name="wright",
    absorption=((1.25, 1.0, 0.45), (0.28, 1.0, 0.78), (0.30, 1.0, 1.15), (0.45, 1.0, 0.55), (1.35, 1.0, 0.42)),
    strength=(1.05, 0.68, 0.85, 0.95, 1.05),
    ceiling=(0.60, 6.0, 3.0),
    film=0.02,
    blank=(214.0, 226.0, 224.0),
)
_RAPID = Stain(
    name="rapid",
    absorption=((1.10, 1.0, 0.75), (0.45, 1.0, 1.20), (0.30, 1.0, 1.60), (0.55, 1.0, 0.95), (1.45, 1.0, 0.45)),
    strength=(0.80, 0.72, 0.75, 0.70, 1.05),
    ceiling=(0.60, 8.0, 4.0),
    film=0.03,
    blank=(205.0, 214.0, 206.0),
)

STAINS: Final[Mapping[str, Stain]] = MappingProxyType(
    {stain.name: stain for stain in (_MAY_GRUENWALD_GIEMSA, _WRIGHT, _RAPID)}
)
"""The stains by name: May-Gruenwald-Giemsa, Wright, and a pale bluish rapid stain."""


def stain_named(name: str) -> Stain:
    """Return the stain of that name. Raises UsageError for an unknown one."""
    try:
        return STAINS[name]
    except KeyError:
        raise UsageError(
            "unknown-stain", f"There is no stain named {name!r}.", f"Use one of: {', '.join(STAINS)}."
        ) from None

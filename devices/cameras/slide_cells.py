"""Paints single white cells as dye concentrations, each of the five classes by its anatomy.

Looks: BMC Medical Imaging, doi 10.1186/s12880-022-00801 (nucleus, granules and cytoplasm per class); sizes in
micrometres on a dried smear: neutrophil 12-15, lymphocyte 8-11 (large ones to 13), monocyte 15-20, eosinophil 12-16,
basophil 10-14. Nothing is copied from a photograph: shapes, chromatin and granules are drawn from random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from devices.cameras.slide_shapes import STEP, Canvas, band, chain, ellipse, granules, inside, noise, outline
from edge.core.types import FloatArray

WHITE_PLANES: Final = 4
"""Planes of a white cell: chromatin, basophilia, lilac, eosin (a white cell holds no haemoglobin)."""


@dataclass(frozen=True, slots=True)
class Sprite:
    """A painted white cell: dye concentrations float32[n, n, 4] at `STEP` micrometres a pixel, cell in the middle.

    `cell` and `nucleus` are (left, top, right, bottom) in micrometres from the centre; `radius` is that of the disc of
    equal cell area; `nucleus_diameter` that of the disc of equal nucleus area.
    """

    planes: FloatArray
    cell: tuple[float, float, float, float]
    nucleus: tuple[float, float, float, float]
    radius: float
    nucleus_diameter: float


def _extent(mask: FloatArray) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of where a mask exceeds one half, in micrometres from the canvas's centre."""
    half = mask.shape[0] / 2
    rows, columns = np.flatnonzero((mask > 0.5).any(axis=1)), np.flatnonzero((mask > 0.5).any(axis=0))
    return (
        float((columns[0] - half) * STEP),
        float((rows[0] - half) * STEP),
        float((columns[-1] + 1 - half) * STEP),
        float((rows[-1] + 1 - half) * STEP),
    )


def _disc_diameter(mask: FloatArray) -> float:
    """Diameter, in micrometres, of the disc of equal area."""
    return float(2 * np.sqrt((mask > 0.5).sum() / np.pi) * STEP)


_Plane = npt.NDArray[np.floating[Any]]


def _sprite(body: FloatArray, nucleus: FloatArray, planes: tuple[_Plane, _Plane, _Plane, _Plane]) -> Sprite:
    return Sprite(
        planes=np.ascontiguousarray(np.maximum(np.dstack(planes), 0.0), dtype=np.float32),
        cell=_extent(np.maximum(body, nucleus)),
        nucleus=_extent(nucleus),
        radius=_disc_diameter(body) / 2,
        nucleus_diameter=_disc_diameter(nucleus),
    )


def _chromatin(
    rng: np.random.Generator, distance: FloatArray, *, level: float, grain: float, contrast: float, rim: float
) -> FloatArray:
    """Concentration inside a nucleus: clumps of `grain` micrometres, pale gaps between them, a dark membrane."""
    shape = distance.shape[0], distance.shape[1]
    fine, middle, coarse = (noise(rng, shape, factor * grain) for factor in (1.0, 2.2, 5.0))
    # Pale gaps are small and sharp, clumps broad: the fine noise counts more where it thins the chromatin.
    texture = 1.0 + contrast * (0.75 * np.where(fine < 0, fine, 0.7 * fine) + 0.5 * middle + 0.35 * coarse)
    edge = band(distance, 0.2, 0.2) * np.float32(rim)
    return np.asarray(inside(distance, 0.32) * np.clip(level * texture + edge, 0.45 * level, 3.2), dtype=np.float32)


def _vacuoles(rng: np.random.Generator, canvas: Canvas, count: int, reach: float) -> FloatArray:
    """Return a factor 0-1: round holes that let the blank slide through, mostly towards the border of the cell."""
    keep = np.ones(canvas.shape, dtype=np.float32)
    bearing = rng.uniform(0, 2 * np.pi)
    for _ in range(count):
        angle = bearing + rng.normal(0, 0.7)
        distance = reach * rng.uniform(0.45, 0.95)
        size = float(np.clip(rng.gamma(3.0, 0.14), 0.15, 1.0))
        hole = ellipse(canvas, (distance * np.cos(angle), distance * np.sin(angle)), (size, size * 0.9), angle)
        keep *= 1.0 - 0.85 * inside(hole, 0.3)
    return keep


def _lobes(
    rng: np.random.Generator,
    canvas: Canvas,
    count: int,
    *,
    size: float,
    limit: float,
    spread: tuple[float, float] = (1.6, 2.15),
) -> FloatArray:
    """Signed distance to `count` lobes strung along a bent thread, kept within `limit` micrometres of the centre.

    `size` is a lobe's mean radius, `spread` the range of the distance between neighbours in those radii.
    """
    heading = rng.uniform(0, 2 * np.pi)
    turn = rng.choice((-1.0, 1.0))
    centres = [np.zeros(2)]
    headings = [heading]
    for _ in range(count - 1):
        step = size * rng.uniform(*spread)
        bend = np.clip(rng.normal(1.25 if count < 4 else 1.45, 0.35), 0.3, 2.1)
        heading += turn * bend
        centres.append(centres[-1] + step * np.array((np.cos(heading), np.sin(heading))))
        headings.append(heading)
    points = np.asarray(centres)
    points -= points.mean(axis=0) + rng.normal(0, 0.08 * limit, 2)
    reach = float(np.hypot(points[:, 0], points[:, 1]).max()) + 1.15 * size
    points *= min(1.0, max(0.35, (limit - 1.15 * size) / max(0.1, reach - 1.15 * size)))
    # Two lobes lie side by side as often as end to end.
    tilt = 1.2 if count == 2 else 0.55
    distance = np.full(canvas.shape, 1e3, dtype=np.float32)
    for (x, y), direction in zip(points, headings, strict=True):
        long = size * rng.uniform(0.98, 1.25)
        short = size * rng.uniform(0.72, 0.95)
        distance = np.minimum(distance, ellipse(canvas, (x, y), (long, short), direction + rng.normal(0, tilt)))
    for (x0, y0), (x1, y1) in pairwise(points):
        width = rng.uniform(0.2, 0.8)
        fractions = np.linspace(0, 1, 9)
        path = [(x0 + f * (x1 - x0), y0 + f * (y1 - y0)) for f in fractions]
        distance = np.minimum(distance, chain(canvas, path, [width + 0.25 * abs(2 * f - 1) for f in fractions]))
    return distance


def _arc(
    rng: np.random.Generator, canvas: Canvas, radius: float, sweep: float, width: tuple[float, float]
) -> FloatArray:
    """Signed distance to a curved band: a stab nucleus, a horseshoe or a kidney.

    `sweep` is in radians, `width` the half-width at its ends and in its middle, in micrometres.
    """
    start = rng.uniform(0, 2 * np.pi)
    fractions = np.linspace(-1, 1, 15)
    angles = start + fractions * sweep / 2
    points = np.stack((radius * np.cos(angles), radius * np.sin(angles)), axis=1)
    points -= 0.8 * points.mean(axis=0)
    widths = [width[1] + (width[0] - width[1]) * abs(float(f)) for f in fractions]
    return chain(canvas, [(float(x), float(y)) for x, y in points], widths)


def _segmented(rng: np.random.Generator, canvas: Canvas, radius: float, sweep: float) -> FloatArray:
    """Signed distance to a curved band that swells into lobes and narrows to threads between them."""
    lobes = int(rng.choice((2, 3) if sweep < 4.0 else (3, 4)))
    start, turn = rng.uniform(0, 2 * np.pi), rng.choice((-1.0, 1.0))
    fractions = np.linspace(0.0, 1.0, 8 * lobes + 1)
    # The radius wanders along the way, else every nucleus would be part of a circle.
    wander = 1.0 + 0.16 * np.sin(2 * np.pi * fractions * rng.uniform(0.5, 1.5) + rng.uniform(0, 6.28))
    angles = start + turn * sweep * fractions
    points = np.stack((wander * np.cos(angles), wander * np.sin(angles)), axis=1) * radius
    points -= 0.5 * points.mean(axis=0)
    swelling = np.abs(np.sin(np.pi * lobes * fractions)) ** 0.6
    sizes = np.interp(fractions * lobes, np.arange(lobes) + 0.5, rng.uniform(0.85, 1.2, lobes))
    necks = rng.uniform(0.25, 0.8)
    widths = necks + (np.clip(sweep * radius / lobes * 0.42, 1.25, 1.85) * sizes - necks) * swelling
    return chain(canvas, [(float(x), float(y)) for x, y in points], [float(width) for width in widths])


def neutrophil(rng: np.random.Generator) -> Sprite:
    """Paint two to five linked lobes (one in ten a stab form), pink cytoplasm with fine lilac granules."""
    radius = float(np.clip(rng.normal(6.8, 0.45), 5.8, 7.8))
    canvas = Canvas.of(radius * 1.25)
    body_distance = outline(rng, canvas.warped(rng, 0.10, 0.9), radius, 0.035, rng.uniform(1.0, 1.13))
    body = inside(body_distance, 0.35)
    bent = canvas.warped(rng, 0.14, 0.75)
    form = rng.uniform()
    if form < 0.1:
        distance = _arc(rng, bent, 0.48 * radius, rng.uniform(2.8, 4.4), (1.75, 1.35))
    elif form < 0.6:
        distance = _segmented(rng, bent, 0.56 * radius, rng.uniform(3.4, 5.4))
    else:
        count = int(rng.choice((2, 3, 4, 5), p=(0.2, 0.45, 0.28, 0.07)))
        size = {2: 3.05, 3: 2.6, 4: 2.25, 5: 1.95}[count] * rng.uniform(0.93, 1.07)
        distance = _lobes(rng, bent, count, size=size, limit=0.86 * radius)
    nucleus = inside(distance, 0.32)
    chromatin = _chromatin(rng, distance, level=rng.uniform(1.75, 2.15), grain=0.15, contrast=0.34, rim=0.45)
    # Primary granules are few and violet, secondary ones near the limit of resolution: a lilac dust.
    dust = np.clip(noise(rng, canvas.shape, 0.14), -1.5, 2.5)
    patches = np.clip(0.35 + 0.25 * noise(rng, canvas.shape, 1.2), 0.05, 0.8)
    violet = granules(rng, canvas, 0.5, 0.13, density=patches, variation=0.4)
    shade = 1.0 + 0.12 * noise(rng, canvas.shape, 1.4)
    cytoplasm = body * (1.0 - nucleus)
    tone = rng.uniform(0.24, 0.38)
    lilac = cytoplasm * (tone * shade * (0.9 + 0.28 * dust) + 0.34 * violet * rng.uniform(0.3, 1.2))
    eosin = cytoplasm * rng.uniform(0.02, 0.09)
    blue = cytoplasm * rng.uniform(0.0, 0.04) + 0.06 * band(body_distance, 0.15, 0.2)
    return _sprite(body, nucleus, (chromatin, blue, lilac, eosin))


def lymphocyte(rng: np.random.Generator) -> Sprite:
    """Paint a small cell filled by a round dense nucleus; a thin sky-blue rim."""
    large = rng.uniform() < 0.18
    radius = float(rng.uniform(5.3, 6.4) if large else np.clip(rng.normal(4.95, 0.35), 4.1, 5.6))
    share = rng.uniform(0.68, 0.8) if large else rng.uniform(0.82, 0.94)
    canvas = Canvas.of(radius * 1.35)
    ragged = canvas.warped(rng, rng.uniform(0.04, 0.11), rng.uniform(0.22, 0.5))
    body_distance = outline(rng, ragged, radius, 0.05, rng.uniform(1.0, 1.15))
    body = inside(body_distance, 0.4)
    shift = (radius * (1.0 - share)) * rng.uniform(0.1, 0.8)
    bearing = rng.uniform(0, 2 * np.pi)
    moved = Canvas(canvas.u - np.float32(shift * np.cos(bearing)), canvas.v - np.float32(shift * np.sin(bearing)))
    distance = outline(rng, moved.warped(rng, 0.08, 0.9), radius * share, 0.035, rng.uniform(1.0, 1.14))
    if rng.uniform() < 0.3:
        dent = rng.uniform(0, 2 * np.pi)
        away = radius * share * rng.uniform(1.0, 1.15)
        notch = ellipse(moved, (away * np.cos(dent), away * np.sin(dent)), (0.9, 0.6), dent)
        distance = np.maximum(distance, -notch)
    nucleus = inside(distance, 0.35)
    chromatin = _chromatin(rng, distance, level=rng.uniform(1.7, 2.15), grain=0.11, contrast=0.21, rim=0.4)
    cytoplasm = body * (1.0 - nucleus)
    tone = rng.uniform(0.25, 0.45) if large else rng.uniform(0.3, 0.65)
    mottle = 1.0 + 0.35 * noise(rng, canvas.shape, 0.2)
    blue = cytoplasm * tone * (mottle + 0.5 * band(body_distance, 0.3, 0.35))
    lilac = cytoplasm * (0.06 + 0.35 * tone) * mottle
    if large and rng.uniform() < 0.5:
        few = granules(rng, canvas, 1.3, 0.2, density=np.full(canvas.shape, 0.2, dtype=np.float32))
        lilac = lilac + cytoplasm * 0.6 * few
    return _sprite(body, nucleus, (chromatin, blue, lilac, np.zeros_like(blue)))


def monocyte(rng: np.random.Generator) -> Sprite:
    """Paint the largest cell: kidney or horseshoe nucleus of lacy chromatin, grey-blue cytoplasm with vacuoles."""
    radius = float(np.clip(rng.normal(8.3, 0.6), 7.3, 9.7))
    canvas = Canvas.of(radius * 1.4)
    fringe = canvas.warped(rng, rng.uniform(0.1, 0.4), rng.uniform(0.5, 1.2))
    body_distance = outline(rng, fringe, radius, rng.uniform(0.05, 0.12), rng.uniform(1.0, 1.2))
    body = inside(body_distance, 0.5)
    bent = canvas.warped(rng, 0.32, 1.0)
    if rng.uniform() < 0.35:
        thick = rng.uniform(0.35, 0.43) * radius
        distance = _arc(rng, bent, 0.46 * radius, rng.uniform(2.8, 4.2), (thick, thick * rng.uniform(0.85, 1.05)))
    else:
        thick = rng.uniform(0.48, 0.57) * radius
        distance = _arc(rng, bent, 0.30 * radius, rng.uniform(1.4, 2.4), (thick * 0.92, thick))
        dent = rng.uniform(0, 2 * np.pi)
        away = radius * rng.uniform(0.42, 0.62)
        notch = ellipse(bent, (away * np.cos(dent), away * np.sin(dent)), (2.2, 0.8), dent)
        distance = np.maximum(distance, -notch)
    distance = np.maximum(distance, body_distance + np.float32(0.35))
    nucleus = inside(distance, 0.35)
    chromatin = _chromatin(rng, distance, level=rng.uniform(1.4, 1.8), grain=0.12, contrast=0.38, rim=0.8)
    holes = _vacuoles(rng, canvas, int(rng.integers(0, 14)), radius)
    cytoplasm = body * (1.0 - nucleus) * holes
    ground = 1.0 + 0.24 * noise(rng, canvas.shape, 0.17) + 0.16 * noise(rng, canvas.shape, 0.9)
    tone = rng.uniform(0.34, 0.66)
    blue = cytoplasm * tone * (0.50 * ground + 0.30 * band(body_distance, 0.3, 0.3))
    sparse = np.full(canvas.shape, 0.4, dtype=np.float32)
    dust = granules(rng, canvas, 0.6, 0.13, density=sparse, variation=0.4)
    lilac = cytoplasm * (tone * 0.65 * ground + 0.22 * dust)
    chromatin = chromatin * (0.35 + 0.65 * holes)
    return _sprite(body, nucleus, (chromatin, blue, lilac, np.zeros_like(blue)))


def eosinophil(rng: np.random.Generator) -> Sprite:
    """Paint two (seldom three) lobes, the cytoplasm packed with coarse orange-red granules."""
    radius = float(np.clip(rng.normal(7.0, 0.5), 6.0, 8.1))
    canvas = Canvas.of(radius * 1.25)
    body_distance = outline(rng, canvas.warped(rng, 0.12, 0.6), radius, 0.04, rng.uniform(1.0, 1.15))
    body = inside(body_distance, 0.35)
    bent = canvas.warped(rng, 0.16, 0.8)
    count = int(rng.choice((2, 3), p=(0.85, 0.15)))
    size = {2: 2.95, 3: 2.4}[count] * rng.uniform(0.92, 1.08)
    distance = _lobes(rng, bent, count, size=size, limit=0.92 * radius, spread=(1.8, 2.7))
    distance = np.maximum(distance, body_distance + np.float32(0.3))
    nucleus = inside(distance, 0.32)
    chromatin = _chromatin(rng, distance, level=rng.uniform(1.5, 1.85), grain=0.15, contrast=0.34, rim=0.75)
    filled = np.clip(rng.uniform(0.9, 1.5) + 0.35 * noise(rng, canvas.shape, 0.9), 0.05, 1.0)
    grains = granules(rng, canvas, rng.uniform(0.50, 0.62), rng.uniform(0.22, 0.29), density=filled, variation=0.45)
    red = rng.uniform(0.85, 1.22)
    cytoplasm = body * (1.0 - 0.9 * nucleus)
    eosin = cytoplasm * red * (0.52 * filled + 0.32 * grains)
    lilac = body * (1.0 - nucleus) * (0.07 + 0.05 * grains)
    blue = body * (1.0 - nucleus) * 0.22 * (1.0 - filled)
    return _sprite(body, nucleus, (chromatin, blue, lilac, eosin))


def basophil(rng: np.random.Generator) -> Sprite:
    """Paint coarse dark violet granules that lie over, and half hide, a lobed nucleus."""
    radius = float(np.clip(rng.normal(6.1, 0.45), 5.2, 7.0))
    canvas = Canvas.of(radius * 1.3)
    body_distance = outline(rng, canvas.warped(rng, 0.14, 0.5), radius, 0.05, rng.uniform(1.0, 1.15))
    body = inside(body_distance, 0.4)
    bent = canvas.warped(rng, 0.3, 0.9)
    distance = _lobes(rng, bent, int(rng.choice((2, 3))), size=0.50 * radius, limit=0.95 * radius)
    distance = np.maximum(distance, body_distance + np.float32(0.4))
    nucleus = inside(distance, 0.5)
    chromatin = _chromatin(rng, distance, level=rng.uniform(1.25, 1.65), grain=0.15, contrast=0.4, rim=0.3)
    crowd = np.clip(rng.uniform(0.6, 1.0) + 0.25 * noise(rng, canvas.shape, 1.2), 0.15, 1.0)
    grains = granules(rng, canvas, rng.uniform(0.46, 0.6), rng.uniform(0.19, 0.27), density=crowd)
    # Granules at the border stand out of the outline, so that it looks beaded.
    reach = inside(body_distance - np.float32(0.15), 0.3)
    dark = rng.uniform(1.1, 1.6)
    chromatin = np.maximum(chromatin, 0.3 * chromatin + reach * dark * grains)
    ground = 1.0 + 0.3 * noise(rng, canvas.shape, 0.25)
    lilac = body * rng.uniform(0.35, 0.85) * ground * (1.0 - 0.5 * nucleus) + 0.25 * reach * grains
    return _sprite(body, nucleus, (chromatin, body * 0.05, lilac, np.zeros_like(body)))


PAINTERS: Final[Mapping[str, Callable[[np.random.Generator], Sprite]]] = MappingProxyType(
    {
        "neutrophil": neutrophil,
        "lymphocyte": lymphocyte,
        "monocyte": monocyte,
        "eosinophil": eosinophil,
        "basophil": basophil,
    }
)
"""One painter for each label."""

"""The quality gate: is this field sharp, lit, stained and a smear at all?

No limit on an absolute sharpness figure holds for two microscopes (the customary one, a variance of the Laplacian below
100, refuses every sharp field of a low-contrast camera). So a field is judged against its own site: against a
commissioning record, or against the medians of its batch. Without either, only
what no smear gives is refused.

`assess` measures and judges one field; `judge` judges it again once the reference of its batch is known.

    blurred                 less than half as sharp as the site's reference, or no edge in the picture worth the name
    no-texture              nothing in it: no focus can be told, so it is not called blurred
    under-exposed, over-exposed, clipped
    uneven-illumination     darker at its worst place than a correction can mend
    wrong-colour            the blank slide has another colour than at this site
    wrong-stain             the nuclei are far paler or darker than at this site, or nothing is stained at all
    not-a-smear             no stained cells on a brighter slide
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import cv2
import numpy as np
import numpy.typing as npt

from edge.core.types import Image, LocatedCell, Quality
from edge.imaging.flatfield import BLANK
from edge.imaging.sharpness import Plane, chord_diameter, edge_convexity, edge_sharpness

_Mask = npt.NDArray[np.bool_]
_Density = npt.NDArray[np.float32]

_COPY_SIDE = 480
_STATISTICS_STRIDE = 4

_THIRDS = np.full(3, 1 / 3, np.float32)

# From the diameter of a nucleus to that of a red cell, which sets the scale at which edges are seen.
_CELL_PER_NUCLEUS = 0.65

# Limits without a reference. Each lies well outside of what 530 fields of four sites show.
_LEAST_FOCUS = 0.3
_LEAST_EXPOSURE = 0.1
_MOST_CLIPPED = 0.75
_MOST_FALLOFF = 0.9
_LEAST_BLANK_SHARE = 0.12
_MOST_BLACK_SHARE = 0.03
_MOST_STAIN = 0.45
_LEAST_STAIN_COLOUR = 0.06
_MOST_FOREIGN = 0.2
_DENSE = 0.04
_PALE = 0.09

# Limits relative to a reference.
_FOCUS_SHARE = 0.5
_EXPOSURE_FACTOR = 2.0
_CLIPPED_MORE = 0.2
_FALLOFF_MORE = 0.35
_COLOUR_FACTOR = 1.6
_STAIN_FACTOR = 3.5
_STAIN_CELLS = 3


@dataclass(frozen=True, slots=True)
class QualityReference:
    """What a good field looks like at one site; the fields are those of `Quality`, and None where not known."""

    focus: float | None = None
    exposure: float | None = None
    clipped_bright: float | None = None
    illumination_falloff: float | None = None
    background: tuple[float, float, float] | None = None
    stain: float | None = None


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def reference_from(qualities: Sequence[Quality]) -> QualityReference:
    """Take the medians of a batch, of its accepted fields alone, for want of a commissioning record.

    Gives a reference that knows nothing when no field was accepted.
    """
    good = [quality for quality in qualities if quality.accepted]
    colours = [quality.background for quality in good if quality.background is not None]
    blue, green, red = np.median(colours, axis=0).tolist() if colours else (0.0, 0.0, 0.0)
    return QualityReference(
        focus=_median([quality.focus for quality in good]),
        exposure=_median([quality.exposure for quality in good]),
        clipped_bright=_median([quality.clipped_bright for quality in good]),
        illumination_falloff=_median([quality.illumination_falloff for quality in good]),
        background=(blue, green, red) if colours else None,
        stain=_median([quality.stain for quality in good]),
    )


def completed(known: QualityReference | None, learned: QualityReference) -> QualityReference:
    """What is `known` of a good field, the rest as it was `learned` from fields."""
    if known is None:
        return learned
    kept = {each.name: getattr(known, each.name) for each in fields(known) if getattr(known, each.name) is not None}
    return replace(learned, **kept)


def _off(value: float | None, expected: float | None, factor: float) -> int:
    """-1, 0 or 1: below, near or above what is expected, by more than a factor; 0 where either is not known."""
    if value is None or expected is None or expected <= 0:
        return 0
    return int(value > expected * factor) - int(value * factor < expected)


def judge(quality: Quality, reference: QualityReference) -> Quality:
    """Judge a field that `assess` has measured against a reference; reasons that it already has stay."""
    reasons = list(quality.reasons)
    if quality.focus is not None and reference.focus is not None and quality.focus < _FOCUS_SHARE * reference.focus:
        reasons.append("blurred")
    exposure = _off(quality.exposure, reference.exposure, _EXPOSURE_FACTOR)
    if exposure:
        reasons.append("over-exposed" if exposure > 0 else "under-exposed")
    if (
        quality.clipped_bright is not None
        and quality.clipped_bright > (reference.clipped_bright or 0.0) + _CLIPPED_MORE
    ):
        reasons.append("clipped")
    if (
        quality.illumination_falloff is not None
        and reference.illumination_falloff is not None
        and quality.illumination_falloff > reference.illumination_falloff + _FALLOFF_MORE
    ):
        reasons.append("uneven-illumination")
    if quality.background is not None and reference.background is not None:
        shift = (np.asarray(quality.background) + 1.0) / (np.asarray(reference.background) + 1.0)
        if float(shift.max() / shift.min()) > _COLOUR_FACTOR:
            reasons.append("wrong-colour")
    if _off(quality.stain, reference.stain, _STAIN_FACTOR):
        reasons.append("wrong-stain")
    unique = tuple(dict.fromkeys(reasons))
    return replace(quality, accepted=not unique, reasons=unique)


def _shrink(picture: npt.NDArray[np.uint8], factor: int) -> npt.NDArray[np.uint8]:
    """Average blocks of `factor` x `factor` pixels; what is left over at the right and the bottom is dropped."""
    height, width = picture.shape[0] // factor, picture.shape[1] // factor
    if factor == 1 or not height or not width:
        return picture
    whole = picture[: height * factor, : width * factor]
    return cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def _green(image: Image) -> Plane:
    return cv2.extractChannel(image, 1).astype(np.uint8, copy=False)


def _nuclear_density(corrected: Image, cells: Sequence[LocatedCell]) -> float | None:
    """Optical density of the nuclei against the blank slide, mean of the three channels, median over the cells.

    Of each cell the darker pixels count: between the lobes of a nucleus lies cytoplasm. Fewer than `_STAIN_CELLS` cells
    say more of their class than of the stain: a lone basophil must not get its field refused.
    """
    if len(cells) < _STAIN_CELLS:
        return None
    densities = []
    for cell in cells:
        reach = max(1.0, 0.4 * cell.diameter)
        step = max(1, int(reach / 12))
        left, right = (int(max(0, cell.centre[0] + side * reach)) for side in (-1, 1))
        top, bottom = (int(max(0, cell.centre[1] + side * reach)) for side in (-1, 1))
        middle = corrected[top : bottom + 1 : step, left : right + 1 : step]
        if middle.size:
            level = float(np.quantile(middle @ _THIRDS, 0.25))
            densities.append(float(-np.log10((level + 1.0) / (BLANK + 1.0))))
    return float(np.median(densities)) if densities else None


@dataclass(frozen=True, slots=True)
class _Lighting:
    exposure: float
    clipped_dark: float
    clipped_bright: float
    falloff: float
    background: tuple[float, float, float]


def _lighting(raw: Image, corrected: Image, blank: _Mask, lit: _Mask) -> _Lighting:
    """Figures of the light, from equally shrunk copies of the field before and after its correction."""
    chosen = raw[blank] if blank.sum() >= 0.01 * blank.size else raw.reshape(-1, 3)
    blue, green, red = np.median(chosen, axis=0).tolist()
    surface = raw[lit] @ _THIRDS / np.maximum(corrected[lit] @ _THIRDS, 1.0)
    dark, bright = np.quantile(surface, (0.02, 0.98)).tolist() if len(surface) else (0.0, 0.0)
    return _Lighting(
        exposure=float((blue + green + red) / 3 / 255),
        clipped_dark=float((raw <= 1).mean()),
        clipped_bright=float((raw >= 254).mean()),
        falloff=1.0 - dark / bright if bright > 0 else 0.0,
        background=(blue, green, red),
    )


def _stained(density: _Density, blank: _Mask, lit: _Mask, convexity: Callable[[], float | None]) -> list[str]:
    """Say why a field that has texture cannot be a stained smear; `density` is optical density [N, 3] in B, G, R.

    Eosin absorbs green, azure green and red: whatever is stained is darker than the slide, and neither dye takes mostly
    blue, or red alone. Skin, wood and leaves do. Cells are convex, so edges bend around what is dark; in an inverted
    picture they bend around what is bright. Pale fields are spared where their weak colour and edges prove nothing.
    """
    if not lit.any():
        return ["not-a-smear"]
    strength = np.maximum(np.maximum(density[:, 0], density[:, 1]), density[:, 2])
    dense = lit & (strength > _DENSE)
    blue, green, red = density[dense].mean(axis=0).tolist() if dense.any() else (0.0, 0.0, 0.0)
    strongest = max(blue, green, red)
    blank_share = float(blank.sum() / lit.sum())
    black_share = float((density[lit] @ _THIRDS > 0.9).mean())
    strange = blank_share < _LEAST_BLANK_SHARE or black_share > _MOST_BLACK_SHARE or green > _MOST_STAIN
    if strongest > _PALE:
        foreign = (density[:, 0] > 1.6 * density[:, 1] + 0.02) | (density[:, 2] > 1.4 * density[:, 1] + 0.02)
        foreign_share = float(strength[dense & foreign].sum() / strength[dense].sum())
        around_dark = convexity()
        inverted = around_dark is not None and around_dark < (0.4 if blank_share > 0.2 else 0.5)
        strange = strange or foreign_share > _MOST_FOREIGN or inverted
    reasons = ["not-a-smear"] if strange else []
    if strongest > 0 and strongest - min(blue, green, red) < _LEAST_STAIN_COLOUR * strongest:
        reasons.append("wrong-stain")
    return reasons


def assess(
    image: Image, corrected: Image, cells: Sequence[LocatedCell], reference: QualityReference | None = None
) -> Quality:
    """Measure one field and judge it.

    `image` is the field as it was taken, `corrected` the same after `edge.imaging.flatfield.correct`, both
    uint8[H, W, 3] BGR. `cells` are those located in it, in its pixels; there may be none. Without a `reference` only
    what cannot be a smear is refused. Raises ValueError when the two pictures differ in shape or are empty.
    """
    if image.shape != corrected.shape or image.ndim != 3 or image.size == 0:
        raise ValueError(f"the field is {image.shape}, its corrected copy {corrected.shape}; both must be H x W x 3")
    factor = max(1, round(max(image.shape[:2]) / _COPY_SIDE))
    small = _shrink(_green(corrected), factor)
    # Colours and light need few pixels: single ones for what is clipped, averages for what noise would upset.
    seen = _shrink(corrected[::factor, ::factor], _STATISTICS_STRIDE)
    stride = factor * max(1, round(len(corrected) / factor / len(seen)))
    raw, even = (each[stride // 2 :: stride, stride // 2 :: stride] for each in (image, corrected))
    height, width = (min(sides) for sides in zip(raw.shape[:2], seen.shape[:2], strict=True))
    raw, even, seen = (np.ascontiguousarray(each[:height, :width]) for each in (raw, even, seen))
    lit = (cv2.max(cv2.max(raw[..., 0], raw[..., 1]), raw[..., 2]) > 6).ravel()
    blank = lit & (cv2.inRange(seen, (0.88 * BLANK,) * 3, (1.12 * BLANK,) * 3) > 0).ravel()
    light = _lighting(raw.reshape(-1, 3), even.reshape(-1, 3), blank, lit)

    if cells:
        diameter = _CELL_PER_NUCLEUS * float(np.median([cell.diameter for cell in cells]))
    else:
        diameter = chord_diameter(small) * factor
    focus = edge_sharpness(_green(image), diameter)

    reasons = []
    if light.exposure < _LEAST_EXPOSURE:
        reasons.append("under-exposed")
    if light.clipped_bright > _MOST_CLIPPED:
        reasons.append("over-exposed")
    if light.clipped_dark > _MOST_CLIPPED or (light.clipped_dark + light.clipped_bright) > _MOST_CLIPPED:
        reasons.append("clipped")
    if light.falloff > _MOST_FALLOFF:
        reasons.append("uneven-illumination")
    if focus is None:
        reasons.append("no-texture")
    else:
        if focus < _LEAST_FOCUS:
            reasons.append("blurred")
        level = np.minimum(seen, BLANK + 5).reshape(-1, 3).astype(np.float32)
        density = -np.log10((level + 1.0) / (BLANK + 1.0))
        reasons += _stained(density, blank, lit, lambda: edge_convexity(small, diameter / factor))
    measured = Quality(
        accepted=not reasons,
        reasons=tuple(reasons),
        focus=focus,
        exposure=light.exposure,
        clipped_dark=light.clipped_dark,
        clipped_bright=light.clipped_bright,
        illumination_falloff=light.falloff,
        background=light.background,
        stain=_nuclear_density(corrected, cells),
    )
    return measured if reference is None else judge(measured, reference)

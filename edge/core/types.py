"""The values that travel along the way of a cell. Each is frozen; none is ever passed as a dict.

Frame ─▶ Quality ─▶ LocatedCell ─▶ CellCall ─▶ FieldResult ─▶ Analysis ─▶ ResultRecord
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from edge.core.labels import LABELS

Image = npt.NDArray[np.uint8]
"""uint8[H, W, 3], BGR, 0-255."""

FloatArray = npt.NDArray[np.float32]
FloatImage = npt.NDArray[np.float32]
"""float32[H, W, 3], BGR, 0-255 unless a function says otherwise."""

ClockTier = Literal["network", "rtc", "unknown"]
BundleOrigin = Literal["shipped", "signed", "unsigned"]
"""Where the trust in a model bundle is from: it came with the package, with a signed release, or from nobody."""

UNSIGNED_BUNDLE: Final = "unsigned-bundle"
"""Flag of a count whose model nobody has signed."""


@dataclass(frozen=True, slots=True)
class ClockReading:
    """A moment, with what is needed to judge and later correct it.

    `wall` is UTC in ISO 8601; `monotonic` is seconds since an arbitrary start that only counts up within one `boot_id`;
    `tier` says what the wall clock was worth at that moment.
    """

    wall: str
    monotonic: float
    boot_id: str
    tier: ClockTier


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture from a camera or a file. `source` names where it came from: a path, or camera and frame number.

    `preview` is a smaller picture of the same moment, where the camera makes one at no cost.
    """

    image: Image
    taken: ClockReading
    source: str
    exposure_milliseconds: float | None = None
    preview: Image | None = None


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels of the full-resolution frame; `x`, `y` is the upper left corner."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Quality:
    """What the quality gate found in one field.

    `reasons` is empty when `accepted`; else stable kebab-case words such as "blurred", "over-exposed".
    Figures that could not be judged are None: a field without texture has no focus figure and is not "blurred".
    `focus` is dimensionless (edge sharpness relative to contrast and cell size, 0 = no edge), exposures and
    clipped shares are 0..1, `background` is the blank-slide colour as (B, G, R) in 0..255, `stain` the mean optical
    density of the nuclei against it.
    """

    accepted: bool
    reasons: tuple[str, ...] = ()
    focus: float | None = None
    exposure: float | None = None
    clipped_dark: float | None = None
    clipped_bright: float | None = None
    illumination_falloff: float | None = None
    background: tuple[float, float, float] | None = None
    stain: float | None = None


@dataclass(frozen=True, slots=True)
class LocatedCell:
    """A nucleated cell found in a field.

    `box` holds the whole cell. `centre` (x, y) and `diameter` are of the nucleus, in pixels: the geometric mean of its
    extent across and down. They define the crop, so that every magnification gives the classifier the same picture.
    """

    box: Box
    centre: tuple[float, float]
    diameter: float


@dataclass(frozen=True, slots=True)
class CellCall:
    """What the classifier says of one cell.

    `label` is its best answer: one of `LABELS`, or `other`. `probabilities` are over the five, in the order of
    `LABELS`, and sum to 1. When `abstained`, the answer is too uncertain to count: `reason` says why, and the
    differential counts the cell under `other`. `activation` is the class-activation map of `label`, float32[h, w] in
    0..1, when it was asked for.
    """

    label: str
    probabilities: tuple[float, ...]
    abstained: bool
    reason: str | None
    box: Box
    activation: FloatArray | None = None

    def probability_by_label(self) -> dict[str, float]:
        """The probabilities keyed by class name."""
        return dict(zip(LABELS, self.probabilities, strict=True))


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """What ran the network: for example litert 2.3.0, int8, cpu, 1 thread."""

    name: str
    version: str
    precision: str
    device: str
    threads: int

    def __str__(self) -> str:
        return f"{self.name}-{self.precision}"


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a network returns for a batch.

    `logits` is float32[N, C], `features` the class-activation maps, float32[N, h, w, C].
    """

    logits: FloatArray
    features: FloatArray | None = None


@dataclass(frozen=True, slots=True)
class CellResult:
    """One classified cell of a field, with the pictures a report shows: the crop and its class-activation map."""

    call: CellCall
    crop: Image


@dataclass(frozen=True, slots=True)
class FieldResult:
    """One analysed field. `preview` is a smaller copy of the field; `preview_scale` = preview width / field width."""

    source: str
    width: int
    height: int
    quality: Quality
    cells: tuple[CellResult, ...]
    preview: Image | None = None
    preview_scale: float = 1.0


@dataclass(frozen=True, slots=True)
class FieldFailure:
    """A field that could not be read, with the reason."""

    source: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided interval, as fractions 0..1."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ClassShare:
    """One row of a differential. `percent` and the intervals are None while too few cells were counted."""

    count: int
    percent: float | None
    wilson: Interval | None
    clopper_pearson: Interval | None


@dataclass(frozen=True, slots=True)
class Differential:
    """The differential count: the five classes as shares of `counted`, and `other` apart.

    `counted` is the number of cells called one of the five; `other` holds abstained cells and objects that are not one
    of the five. `tier` is one of "insufficient", "screening", "differential", "reference".
    """

    counted: int
    tier: str
    classes: Mapping[str, ClassShare]
    other: int
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Analysis:
    """All that one run over a sample found. With an unsigned bundle the differential has the flag `unsigned-bundle`."""

    sample: str
    fields: tuple[FieldResult | FieldFailure, ...]
    differential: Differential
    bundle: str
    bundle_sha256: str
    runtime: RuntimeInfo
    elapsed_seconds: float
    bundle_origin: BundleOrigin = "shipped"


@dataclass(frozen=True, slots=True)
class ResultRecord:
    """A result as it is stored: one version of one analysis, with everything needed to trust it later.

    `id` is a UUIDv7 fixed at creation and shared by all versions. `document` is the public JSON of the analysis.
    """

    id: str
    version: int
    sample: str
    operator: str
    device: str
    created: ClockReading
    status: Literal["preliminary", "final", "corrected"]
    bundle: str
    bundle_sha256: str
    runtime: str
    calibration: str | None
    throttle_bits: int | None
    document: Mapping[str, Any]
    pictures: tuple[Picture, ...] = dataclasses.field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Picture:
    """A JPEG kept beside a result. `cell` is None for a whole field; `kind` is "field", "cell" or "activation"."""

    kind: Literal["field", "cell", "activation"]
    field: int
    cell: int | None
    jpeg: bytes = dataclasses.field(repr=False)

"""The manifest of a model bundle: one strict schema for training, quantization and the device.

A bundle is a folder: `manifest.json`, the network in one or more variants, `golden.npz` and `model_card.md`. The
manifest names every other file with its hash, so that the hash of the manifest identifies the whole bundle.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta

from edge.bundle import files
from edge.core.errors import BundleError
from edge.core.labels import LABELS, OTHER

if TYPE_CHECKING:
    from edge.imaging.preprocess import Preprocessing

MANIFEST_FILE: Final = "manifest.json"
NETWORK_LABELS: Final = (*LABELS, OTHER)
"""The six outputs of the network, in order."""

MAX_MANIFEST_BYTES: Final = 1 << 20
MAX_VARIANT_BYTES: Final = 256 << 20
MAX_GOLDEN_BYTES: Final = 64 << 20
MAX_CARD_BYTES: Final = 1 << 20

# Patterns end in \Z: `$` would let a trailing line break pass.
Name = Annotated[str, Meta(pattern=r"\A[a-z0-9][a-z0-9._-]{0,63}\Z")]
Version = Annotated[str, Meta(pattern=r"\A[0-9]{1,6}\.[0-9]{1,6}\.[0-9]{1,6}([-+][0-9A-Za-z.-]{1,32})?\Z")]
FileName = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")]
Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Moment = Annotated[str, Meta(pattern=r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z)?\Z")]
DeviceClass = Annotated[str, Meta(pattern=r"\A[a-z0-9][a-z0-9-]{0,63}\Z")]
"""A kind of device, as "raspberry-pi-5". A bundle that names none is for every device."""
# No control characters and no switches of writing direction: these texts are shown on terminals and in reports.
_PRINTABLE = r"\A[^\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]*\Z"
Line = Annotated[str, Meta(min_length=1, max_length=500, pattern=_PRINTABLE)]
Note = Annotated[str, Meta(max_length=2000, pattern=_PRINTABLE)]
Text = Annotated[str, Meta(max_length=20_000, pattern=_PRINTABLE)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Width = Annotated[float, Meta(gt=1, le=4)]
"""How many times as wide as usual a crop is cut."""
Count = Annotated[int, Meta(ge=0, le=1_000_000_000)]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Immutable, named fields only, unknown keys refused."""


class PreprocessingSpec(_Strict, frozen=True, kw_only=True):
    """How a crop becomes the network's input; see `edge.imaging.preprocess`."""

    size: Annotated[int, Meta(ge=16, le=1024)]
    margin: Annotated[float, Meta(ge=0.5, le=20)]
    colour_order: Literal["BGR", "RGB"]
    interpolation: Literal["area"]
    scale: Annotated[float, Meta(gt=0, le=1000)]
    offset: Annotated[float, Meta(ge=-100_000, le=100_000)]
    noise_reduction: Literal["none", "median"] = "none"
    stain: Literal["none", "nucleus"] = "none"

    @classmethod
    def of(cls, used: Preprocessing) -> PreprocessingSpec:
        """Write down the preprocessing that a network was trained with."""
        return cls(**{name: getattr(used, name) for name in cls.__struct_fields__})

    def to_preprocessing(self) -> Preprocessing:
        """Give the same values as the one preprocessing's own type."""
        from edge.imaging.preprocess import Preprocessing

        return Preprocessing(
            size=self.size,
            margin=self.margin,
            colour_order=self.colour_order,
            interpolation=self.interpolation,
            scale=self.scale,
            offset=self.offset,
            noise_reduction=self.noise_reduction,
            stain=self.stain,
        )


class Variant(_Strict, frozen=True, kw_only=True):
    """One file that holds the network, for one runtime in one precision. `size` is in bytes."""

    runtime: Literal["litert", "onnxruntime"]
    precision: Literal["int8", "float16", "float32"]
    file: FileName
    sha256: Sha256
    size: Annotated[int, Meta(ge=1, le=MAX_VARIANT_BYTES)]


class Calibration(_Strict, frozen=True, kw_only=True):
    """How logits become probabilities, and when a call is too uncertain to count.

    The five logits are divided by `temperature` before the softmax (Guo et al., "On Calibration of Modern Neural
    Networks", ICML 2017). Below `abstention_threshold` for the best of the five, the cell is not counted as that class.
    A cell whose best of the six classes is less probable than `second_look`, before the temperature, is seen again
    first (`edge.inference.second_look`), also cut as many times as wide as `second_look_widths` say; 0: none is.
    `fitted_on` names the images that all was fitted on.
    """

    temperature: Annotated[float, Meta(ge=0.01, le=100)]
    abstention_threshold: Fraction
    second_look: Fraction = 0.0
    second_look_widths: Annotated[tuple[Width, ...], Meta(max_length=4)] = ()
    fitted_on: Note = ""


class ClassActivation(_Strict, frozen=True, kw_only=True):
    """Which output of the network holds the class-activation maps [N, h, w, 6]: its name or its index."""

    output: Line | Annotated[int, Meta(ge=0, le=15)]


class Golden(_Strict, frozen=True, kw_only=True):
    """Golden vectors: `tolerance` is the largest difference of a logit that another CPU family may show."""

    file: FileName
    sha256: Sha256
    tolerance: Annotated[float, Meta(gt=0, le=10)]


class CardFile(_Strict, frozen=True, kw_only=True):
    """The model card's file."""

    file: FileName
    sha256: Sha256


class Recall(_Strict, frozen=True, kw_only=True):
    """Recall of one class on one site: share of `n` cells, with its 95 % Wilson interval."""

    n: Count
    value: Fraction
    low: Fraction
    high: Fraction


class SiteFigures(_Strict, frozen=True, kw_only=True):
    """What the bundle's network reaches on one source of images. `note` says how those were kept from training."""

    source: Line
    n: Count
    balanced_accuracy: Fraction
    macro_f1: Fraction
    recall: dict[str, Recall]
    precision: Literal["int8", "float16", "float32"] = "int8"
    note: Note = ""


class DataSource(_Strict, frozen=True, kw_only=True):
    """One source of training images: what it is, under which licence, and how many of its images were used."""

    source: Line
    licence: Line
    citation: Note
    images: Count


class Envelope(_Strict, frozen=True, kw_only=True):
    """What a successor of this bundle may change without being judged anew, and how far its figures may fall.

    The three texts are the parts of a predetermined change control plan (FDA, "Marketing Submission Recommendations
    for a Predetermined Change Control Plan for AI-Enabled Device Software Functions", December 2024); the numbers are
    what a device checks: the largest drop of any class's recall and of the balanced accuracy, on every source for
    which this bundle gives figures. `preprocessing` says whether crops may be prepared otherwise.
    """

    modifications: Text
    protocol: Text
    impact: Text
    recall_drop: Fraction
    balanced_accuracy_drop: Fraction
    preprocessing: bool = False


class Manifest(_Strict, frozen=True, kw_only=True, dict=True):
    """All that a device must know of a bundle to use it and to state what it used."""

    schema_version: Literal[1]
    name: Name
    version: Version
    labels: Annotated[tuple[str, ...], Meta(min_length=6, max_length=6)]
    preprocessing: PreprocessingSpec
    variants: Annotated[tuple[Variant, ...], Meta(min_length=1, max_length=16)]
    calibration: Calibration
    class_activation: ClassActivation | None
    golden: Golden
    figures: Annotated[tuple[SiteFigures, ...], Meta(max_length=100)]
    data: Annotated[tuple[DataSource, ...], Meta(max_length=100)]
    weights_origin: Text
    intended_use: Text
    limits: Text
    created: Moment
    model_card: CardFile | None = None
    training_commit: Annotated[str, Meta(pattern=r"\A[0-9a-f]{7,64}\Z")] | None = None
    device_classes: Annotated[tuple[DeviceClass, ...], Meta(max_length=32)] = ()
    envelope: Envelope | None = None

    @property
    def identity(self) -> str:
        """`name@version`, as it is written on every result."""
        return f"{self.name}@{self.version}"

    @property
    def sha256(self) -> str:
        """SHA-256 of `manifest.json`, which names every other file with its hash: the identity of the bundle."""
        return self.__dict__.get("_sha256") or hashlib.sha256(dump(self)).hexdigest()


def parse(data: bytes, origin: str = MANIFEST_FILE) -> Manifest:
    """Read a manifest from JSON. Raises BundleError `manifest-invalid` with the place of the fault."""
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _invalid(origin, str(error)) from error
    if fault := _fault(manifest):
        raise _invalid(origin, fault)
    # The hash is of the bytes that were read: written again, they could be formatted otherwise.
    msgspec.structs.force_setattr(manifest, "_sha256", hashlib.sha256(data).hexdigest())
    return manifest


def load(folder: Path) -> Manifest:
    """Read the manifest of the bundle in `folder`. Raises BundleError when it is missing, damaged or not understood."""
    folder = Path(folder)
    if not folder.is_dir():
        raise BundleError("bundle-missing", f"There is no model bundle in {folder}.", files.REINSTALL)
    path = folder / MANIFEST_FILE
    return parse(files.read(path, MAX_MANIFEST_BYTES), str(path))


def dump(manifest: Manifest) -> bytes:
    """Write a manifest as indented JSON that `parse` is sure to accept. Raises BundleError when it would not."""
    try:
        data = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
    except (msgspec.MsgspecError, UnicodeEncodeError, TypeError) as error:
        raise _invalid("the manifest to be written", str(error)) from error
    parse(data, "the manifest to be written")
    return data


def _invalid(origin: str, fault: str) -> BundleError:
    return BundleError("manifest-invalid", f"{origin} is not a valid manifest: {fault}.", files.REINSTALL)


def _fault(manifest: Manifest) -> str | None:
    """Find what the types alone cannot refuse."""
    if manifest.labels != NETWORK_LABELS:
        return f"labels must be {', '.join(NETWORK_LABELS)}, in this order"
    kinds = Counter((variant.runtime, variant.precision) for variant in manifest.variants)
    if repeated := [f"{runtime} {precision}" for (runtime, precision), count in kinds.items() if count > 1]:
        return f"more than one variant for {repeated[0]}"
    names = [variant.file for variant in manifest.variants] + [manifest.golden.file]
    if manifest.model_card is not None:
        names.append(manifest.model_card.file)
    lowered = Counter(name.lower() for name in [*names, MANIFEST_FILE])
    if repeated := [name for name, count in lowered.items() if count > 1]:
        return f"the file {repeated[0]} is named more than once"
    for figures in manifest.figures:
        if unknown := sorted(set(figures.recall) - set(NETWORK_LABELS)):
            return f"recall of an unknown class {unknown[0]!r}"
        if any(not recall.low <= recall.value <= recall.high for recall in figures.recall.values()):
            return f"a recall of {figures.source} lies outside its own interval"
    return None

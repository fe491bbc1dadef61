"""`leuko calibrate`: takes fields, measures, keeps the new version of the record."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edge.calibration import measure
from edge.calibration.records import Calibration, CalibrationFolder
from edge.core.errors import NothingToDoError
from edge.core.types import FieldFailure, Frame, Image


@dataclass(frozen=True, slots=True)
class Made:
    """A new record, the fields that could not be used with the reason, and the sharpness of each of a focus sweep."""

    record: Calibration
    refused: tuple[tuple[str, str], ...]
    sharpness: tuple[tuple[str, float | None], ...] = ()


def take(frames: Iterable[Frame | FieldFailure], count: int) -> tuple[list[Frame], list[tuple[str, str]]]:
    """Take so many fields, and name those that could not be read."""
    taken: list[Frame] = []
    refused: list[tuple[str, str]] = []
    for frame in frames:
        if isinstance(frame, FieldFailure):
            refused.append((frame.source, f"{frame.code}: {frame.message}"))
        else:
            taken.append(frame)
        if len(taken) >= count:
            break
    return taken, refused


def light(
    frames: Iterable[Frame | FieldFailure],
    count: int,
    folder: CalibrationFolder,
    camera: str,
    operator: str,
    *,
    surface: bool,
) -> Made:
    """Measure the light from blank fields: with its `surface` (flat-field), or the colour alone (white balance).

    Raises NothingToDoError `too-few-fields` when too few are blank, InputError `light-unsteady`, StoreError.
    """
    taken, refused = take(frames, count)
    images: list[Image] = []
    for frame in taken:
        problem = measure.blank_problem(frame.image)
        if problem is None and images and frame.image.shape != images[0].shape:
            problem = "of another size than the first"
        if problem is None:
            images.append(frame.image)
        else:
            refused.append((frame.source, problem))
    if len(images) < measure.LEAST_FIELDS and refused:
        raise NothingToDoError(
            "too-few-fields",
            f"{len(images)} of {len(taken)} fields could be used, {measure.LEAST_FIELDS} are needed; "
            f"{refused[0][0]}: {refused[0][1]}.",
            "Move to a clean place beside the smear, set the light so that it is bright grey, and take them again.",
        )
    found = measure.blank(images)
    measured: dict[str, object] = {"background": found.background, "gains": found.gains, "exposure": found.exposure}
    if surface:
        measured |= {"surface": found.surface, "falloff": found.falloff, "clipped_bright": found.clipped_bright}
    kind = "flat-field" if surface else "white-balance"
    return Made(folder.add(kind, camera, operator, len(images), **measured), tuple(refused))


def focus(
    frames: Iterable[Frame | FieldFailure], count: int, folder: CalibrationFolder, camera: str, operator: str
) -> Made:
    """Measure a run through focus over cells. Raises NothingToDoError `no-focus`, StoreError."""
    taken, refused = take(frames, count)
    found = measure.sweep([frame.image for frame in taken])
    record = folder.add("focus", camera, operator, len(taken), focus=found.focus, stain=found.stain)
    sharpness = tuple((frame.source, value) for frame, value in zip(taken, found.sharpness, strict=True))
    return Made(record, tuple(refused), sharpness)


def scale(
    frames: Iterable[Frame | FieldFailure],
    count: int,
    folder: CalibrationFolder,
    camera: str,
    operator: str,
    *,
    division: float | None,
) -> Made:
    """Measure micrometres a pixel from a stage micrometer with lines `division` micrometres apart, or from red cells.

    Raises InputError `no-lines`, NothingToDoError `no-red-cells` or `no-field`, StoreError.
    """
    taken, refused = take(frames, 1 if division is not None else count)
    if not taken:
        raise NothingToDoError("no-field", "Not one field could be taken.", "Check the camera: leuko doctor.")
    if division is not None:
        value = measure.scale_from_lines(taken[0].image, division)
    else:
        value = measure.scale_from_red_cells([frame.image for frame in taken])
    return Made(folder.add("scale", camera, operator, len(taken), micrometres_per_pixel=value), tuple(refused))

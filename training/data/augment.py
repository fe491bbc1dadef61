"""Random microscopes: stain, optics, illumination and camera, so that the network learns cells and not a scanner.

Each step is a pure function of an image and a random generator. Images inside the chain are float32[S, S, 3], BGR,
0-255, with the blank slide near `BLANK`, as `edge.imaging.flatfield.correct` leaves it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from edge.core.types import FloatImage, Image
from edge.imaging.flatfield import BLANK
from training.data.views import reduced, view_size

Generator = np.random.Generator

_DENSITY: Final = (-np.log((np.arange(256, dtype=np.float32) + 1.0) / (BLANK + 1.0))).astype(np.float32)
"""Natural optical density of each grey level against the blank slide."""

_FULL_STRENGTH: Final = 1.0
"""Density of the nuclei of a well-stained smear, about."""

_LUMA: Final = np.array([0.114, 0.587, 0.299], dtype=np.float32)


def _single(image: npt.NDArray[Any]) -> FloatImage:
    return image.astype(np.float32, copy=False)


def geometry(crop: Image, size: int, generator: Generator) -> Image:
    """Flip, turn by any angle, scale by 0.75-1.33, stretch a little and shift: uint8[size, size, 3].

    The shift and the scale stand for the locator's errors and for cells that differ in size. `crop` carries context
    around the network's field of view; what lies outside it is mirrored.
    """
    side = crop.shape[0]
    angle = generator.uniform(0, 2 * np.pi)
    scale = np.exp(generator.uniform(np.log(0.75), np.log(1.33)))
    stretch = np.exp(generator.normal(0, 0.05))
    flip = generator.choice((-1.0, 1.0))
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = rotation @ np.diag([flip * scale * stretch, scale / stretch])
    shift = generator.normal(0, 0.05 * size, 2)
    translation = size / 2 + shift - linear @ np.full(2, side / 2)
    matrix = np.column_stack([linear, translation])
    return cv2.warpAffine(crop, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101).astype(
        np.uint8, copy=False
    )


def window(image: FloatImage, generator: Generator) -> FloatImage:
    """Blank what lies outside a random window around the cell, one side often deeper than the others.

    Pictures of single cells are cut tightly at many sites, and a cell near its field's border is cut off there; in both
    cases `edge.imaging.crop.cut` puts blank slide around it. A network that only knows cells among red cells falters.
    """
    side = image.shape[0]
    depths = generator.uniform(0, 0.26, 4)
    if generator.random() < 0.3:
        depths[generator.integers(4)] = generator.uniform(0.1, 0.38)
    left, top, right, bottom = np.rint(depths * side).astype(int)
    framed = np.full_like(image, BLANK)
    framed[top : side - bottom, left : side - right] = image[top : side - bottom, left : side - right]
    return framed


def stain(image: Image, generator: Generator) -> FloatImage:
    """Another stain: a random mixing of the optical densities of the three channels and another strength.

    The blank slide keeps its colour, since its density is zero. The strength is drawn for the picture as it will be,
    not as a factor, so that a pale source is shown strongly stained as often as a dark one. Takes uint8, gives float32.
    """
    density = _DENSITY[image]
    mixing = np.eye(3) + generator.normal(0, 0.16, (3, 3))
    own = max(float(np.quantile(density[::4, ::4].mean(axis=2), 0.95)), 0.05)
    mixing *= np.clip(generator.uniform(0.3, 1.3) * _FULL_STRENGTH / own, 0.3, 3.0)
    mixed = cv2.transform(density, mixing.astype(np.float32))
    mixed = np.clip(mixed, -0.1, 5.0)
    return ((BLANK + 1.0) * cv2.exp(-mixed) - 1.0).astype(np.float32, copy=False)


def plain(image: Image) -> FloatImage:
    """Give the image as it is, float32."""
    return image.astype(np.float32)


def colour(image: FloatImage, generator: Generator) -> FloatImage:
    """Turn the hue, change the saturation and mix in grey, all around the blank slide's grey."""
    angle = generator.normal(0, 0.3)
    saturation = generator.uniform(0.5, 1.5) if generator.random() < 0.75 else generator.uniform(0.0, 0.5)
    # Rodrigues' rotation about the grey axis, then the chroma is scaled and the luma kept.
    axis = np.full(3, 1 / np.sqrt(3))
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    rotation = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    matrix = saturation * rotation + (1 - saturation) * np.ones((3, 1)) * _LUMA
    constant = BLANK - matrix @ np.full(3, BLANK)
    return _single(cv2.transform(image, np.column_stack([matrix, constant]).astype(np.float32)))


def disc(radius: float) -> FloatImage:
    """Kernel of a defocused lens: an even disc of `radius` pixels with a soft edge, sum 1."""
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    kernel = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1).astype(np.float32)
    return _single(kernel / kernel.sum())


def defocus(image: FloatImage, generator: Generator) -> FloatImage:
    """Blur by a disc of up to 3 px radius, a defocused lens, or by a Gaussian of up to 2 px."""
    if generator.random() < 0.5:
        return _single(cv2.GaussianBlur(image, (0, 0), generator.uniform(0.3, 2.0)))
    return _single(cv2.filter2D(image, -1, disc(generator.uniform(0.6, 3.0))))


def fringe(image: FloatImage, generator: Generator) -> FloatImage:
    """Shift the blue and the red channel against the green by up to 1.5 px: lateral chromatic aberration."""
    size = (image.shape[1], image.shape[0])
    x, y = generator.uniform(-1.5, 1.5, 2)
    channels = list(cv2.split(image))
    for index, sign in ((0, 1.0), (2, -1.0)):
        matrix = np.array([[1, 0, sign * x], [0, 1, sign * y]], dtype=np.float32)
        channels[index] = cv2.warpAffine(channels[index], matrix, size, borderMode=cv2.BORDER_REPLICATE)
    return _single(cv2.merge(channels))


def low_resolution(image: FloatImage, generator: Generator) -> FloatImage:
    """Sample down to 35-90 % and up again: few pixels per cell."""
    side = image.shape[0]
    small = max(8, round(side * generator.uniform(0.35, 0.9)))
    shrunk = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
    return _single(cv2.resize(shrunk, (side, side), interpolation=cv2.INTER_LINEAR))


def sharpen(image: FloatImage, generator: Generator) -> FloatImage:
    """Unsharp mask, as cheap cameras apply it."""
    amount = generator.uniform(0.3, 1.5)
    blurred = cv2.GaussianBlur(image, (0, 0), generator.uniform(0.7, 2.0))
    return _single(cv2.addWeighted(image, 1 + amount, blurred, -amount, 0))


def illumination(image: FloatImage, generator: Generator) -> FloatImage:
    """Add what flat-field correction leaves: a plane and a bowl of brightness, a little different in each channel."""
    side = image.shape[0]
    ramp = np.linspace(-1, 1, side, dtype=np.float32)
    x, y, bowl = generator.normal(0, 0.06, (3, 1)) + generator.normal(0, 0.025, (3, 3))
    gain = (
        1
        + ramp[None, :, None] * x.astype(np.float32)
        + ramp[:, None, None] * y.astype(np.float32)
        - (ramp[None, :, None] ** 2 + ramp[:, None, None] ** 2) * np.abs(bowl).astype(np.float32)
    )
    return _single(image * gain)


def tone(image: FloatImage, generator: Generator) -> FloatImage:
    """Channel gains and offsets, contrast down to 0.35 (stray light) and gamma 0.6-1.6."""
    gain = np.exp(generator.normal(0, 0.06, 3)) * np.exp(generator.normal(0, 0.05))
    offset = generator.normal(0, 6.0, 3)
    contrast = generator.uniform(0.35, 1.15) if generator.random() < 0.3 else 1.0
    level = BLANK * (1 - contrast)
    image = image * (gain * contrast).astype(np.float32) + (offset + level).astype(np.float32)
    if generator.random() < 0.5:
        exponent = float(np.exp(generator.uniform(np.log(0.6), np.log(1.6))))
        image = _single(BLANK * cv2.pow(np.clip(image, 0, 400) / BLANK, exponent))
    return image


def noise(image: FloatImage, generator: Generator) -> FloatImage:
    """Read noise and shot noise, sometimes smoothed into blotches by a camera's own processing."""
    grain = generator.standard_normal(image.shape, dtype=np.float32)
    if generator.random() < 0.3:
        grain = cv2.GaussianBlur(grain, (0, 0), 0.8) * 2.0
    deviation = generator.uniform(0.5, 7.0) * np.sqrt(0.4 + 0.6 * np.clip(image, 0, 255) / 255)
    return _single(image + grain * deviation)


def occlusion(image: FloatImage, generator: Generator) -> FloatImage:
    """Put a disc of debris, of dye or of blank slide over some of the crop."""
    side = image.shape[0]
    centre = generator.uniform(0, side, 2).astype(int).tolist()
    radius = int(side * generator.uniform(0.04, 0.14))
    shade = generator.uniform(20, BLANK, 3).tolist()
    covered = cv2.circle(image.copy(), centre, radius, shade, -1, lineType=cv2.LINE_AA)
    return np.asarray(covered, dtype=np.float32)


def compression(image: Image, generator: Generator) -> Image:
    """JPEG of quality 30-95 and back."""
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(generator.integers(30, 96))])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), dtype=np.uint8)


_CHAIN: Final[tuple[tuple[float, Callable[[FloatImage, Generator], FloatImage]], ...]] = (
    (0.40, colour),
    (0.08, occlusion),
    (0.60, defocus),
    (0.20, fringe),
    (0.35, low_resolution),
    (0.15, sharpen),
    (0.50, illumination),
    (0.80, tone),
    (0.50, noise),
    (0.5, window),
)
"""Probability and step, in the order of light: slide, optics, illumination, sensor; then the crop."""


def augment(crop: Image, size: int, generator: Generator, strength: float = 1.0) -> Image:
    """Give a random view of a cached crop through a random microscope: uint8[size, size, 3].

    `crop` is uint8[S, S, 3] with context. `strength` scales the probability of every step but the
    geometry; the same generator state gives the same picture.
    """
    turned = geometry(crop, size, generator)
    image = stain(turned, generator) if generator.random() < 0.8 * strength else plain(turned)
    for probability, step in _CHAIN:
        if generator.random() < probability * strength:
            image = step(image, generator)
    final = cv2.convertScaleAbs(np.maximum(image, 0)).astype(np.uint8, copy=False)
    return compression(final, generator) if generator.random() < 0.3 * strength else final


def centre(crop: Image, size: int, width: float = 1.0) -> Image:
    """Cut the network's field of view out of a cached crop, or one `width` times (1..CONTEXT) as wide.

    Gives uint8[size, size, 3]. No pixel changes, unless the view is wider, or the crop was made for a larger network:
    then it is cut down to `size`.
    """
    side = round(width * view_size(crop))
    start = (crop.shape[0] - side) // 2
    return np.ascontiguousarray(reduced(crop[start : start + side, start : start + side], size))


def random_view(crop: Image, size: int, generator: Generator) -> Image:
    """Give the network's field of view of a cached crop through a random microscope: uint8[size, size, 3]."""
    return reduced(augment(crop, view_size(crop), generator), size)


def generator_for(*key: int) -> Generator:
    """Make a generator that depends on nothing but these numbers, such as seed, epoch and batch."""
    return np.random.default_rng(np.random.SeedSequence(key))


def contact_sheet(images: npt.NDArray[np.uint8], columns: int) -> Image:
    """Images uint8[N, S, S, 3] side by side, for a person to look at."""
    rows = [np.hstack(list(images[i : i + columns])) for i in range(0, len(images) - columns + 1, columns)]
    return np.ascontiguousarray(np.vstack(rows))

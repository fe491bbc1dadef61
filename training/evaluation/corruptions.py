"""Published corruptions of blood-cell pictures at five severities, and three of portable microscopes.

The first eleven are those of BloodMNIST-C with its parameters: Di Salvo F., Doerrich S., Ledig C., MedMNIST-C:
Comprehensive benchmark and improved classifier robustness by simulating realistic image corruptions, 2024
(arXiv:2406.17536). Its lengths are pixels of a picture 224 px wide; here they shrink with the crop, so that a
corruption is as large beside the cell. Its stain deposits are scans of ink: here they are drawn. The last three are
ours.

Each is a pure function of a crop uint8[S, S, 3] BGR, its parameter and a generator, and gives a crop of the same shape.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from edge.core.types import Image
from training.data.augment import Generator, disc

SEVERITIES: Final = (1, 2, 3, 4, 5)
_PUBLISHED_SIDE: Final = 224


def _whole(image: npt.NDArray[Any]) -> Image:
    return np.asarray(np.clip(np.rint(image), 0, 255), dtype=np.uint8)


def _scaled(length: float, image: Image) -> float:
    return length * float(image.shape[0]) / _PUBLISHED_SIDE


def pixelate(image: Image, share: float, generator: Generator) -> Image:
    """Sample down to `share` of the side and up again in blocks."""
    side = image.shape[0]
    small = max(1, int(side * share))
    shrunk = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
    return _whole(cv2.resize(shrunk, (side, side), interpolation=cv2.INTER_NEAREST))


def jpeg_compression(image: Image, quality: float, generator: Generator) -> Image:
    """JPEG of a quality 1-100 and back."""
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    return _whole(np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR)))


def defocus_blur(image: Image, radius: float, generator: Generator) -> Image:
    """Blur by an even disc; `radius` in pixels of a picture 224 px wide."""
    return _whole(cv2.filter2D(image, -1, disc(_scaled(radius, image))))


def motion_blur(image: Image, parameter: tuple[float, float], generator: Generator) -> Image:
    """Smear along a line at -45 to 45 degrees: (length, deviation of the Gaussian along it), pixels of 224."""
    length, deviation = (_scaled(value, image) for value in parameter)
    angle = np.deg2rad(generator.uniform(-45, 45))
    reach = int(np.ceil(length)) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), dtype=np.float32)
    for step in np.linspace(0, length, 4 * reach + 1):
        x, y = reach + step * np.cos(angle), reach + step * np.sin(angle)
        left, top = int(x), int(y)
        weight = np.exp(-(step**2) / (2 * deviation**2))
        for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
            near = (1 - abs(y - top - row)) * (1 - abs(x - left - column))
            kernel[min(top + row, 2 * reach), min(left + column, 2 * reach)] += weight * near
    return _whole(cv2.filter2D(image, -1, kernel / kernel.sum()))


def brightness(image: Image, factor: float, generator: Generator) -> Image:
    """Multiply all values."""
    return _whole(image.astype(np.float32) * factor)


def contrast(image: Image, factor: float, generator: Generator) -> Image:
    """Stretch the values about the picture's mean grey."""
    grey = float(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).mean())
    return _whole((image.astype(np.float32) - grey) * factor + grey)


def saturate(image: Image, added: float, generator: Generator) -> Image:
    """Add to the saturation (HSV, 0..1)."""
    coloured = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_BGR2HSV)
    coloured[..., 1] = np.clip(coloured[..., 1] + added, 0, 1)
    return _whole(cv2.cvtColor(coloured, cv2.COLOR_HSV2BGR) * 255)


def stain_deposit(image: Image, parameter: tuple[int, float], generator: Generator) -> Image:
    """Black blots: (at most so many, radius in pixels of 224), each of five overlapping drops with a soft edge."""
    most, radius = parameter
    side = image.shape[0]
    ink = np.zeros(image.shape[:2], dtype=np.float32)
    for _ in range(int(generator.integers(1, most + 1))):
        middle = generator.uniform(0.1 * side, 0.9 * side, 2)
        for _ in range(5):
            drop = _scaled(radius, image) * generator.uniform(0.5, 1.0)
            place = middle + generator.normal(0, 0.6, 2) * _scaled(radius, image)
            cv2.circle(ink, tuple(np.rint(place).astype(int).tolist()), max(1, round(drop)), 1.0, -1, cv2.LINE_AA)
    soft = cv2.GaussianBlur(ink, (0, 0), max(0.3, _scaled(1.5, image)))
    return _whole(image * (1 - soft[..., None]))


def bubble(image: Image, parameter: tuple[float, int], generator: Generator) -> Image:
    """White translucent discs with a rim: (largest radius in pixels of 224, at most so many of at least 7)."""
    largest, most = parameter
    side = image.shape[0]
    rim = max(1, round(_scaled(2, image)))
    cover = np.zeros(image.shape[:2], dtype=np.float32)
    for _ in range(int(generator.integers(7, most + 1))):
        radius = max(1, round(_scaled(generator.uniform(3, largest), image)))
        place = tuple(generator.integers(radius, side - radius, 2).tolist())
        cv2.circle(cover, place, radius + rim, 130 / 255, -1, cv2.LINE_AA)
        cv2.circle(cover, place, radius, 100 / 255, -1, cv2.LINE_AA)
    return _whole(image * (1 - cover[..., None]) + 255 * cover[..., None])


def noise(image: Image, deviation: float, generator: Generator) -> Image:
    """Gaussian noise of a sensor, independent in each channel; `deviation` in grey levels."""
    return _whole(image + generator.normal(0, deviation, image.shape))


def colour_cast(image: Image, amount: float, generator: Generator) -> Image:
    """Multiply blue and red against each other by 1 + `amount`, either way: a warm or a cold lamp."""
    sign = generator.choice((-1.0, 1.0))
    gain = np.array([(1 + amount) ** sign, 1.0, (1 + amount) ** -sign], dtype=np.float32)
    return _whole(image * gain)


def vignette(image: Image, fall: float, generator: Generator) -> Image:
    """Darken towards the corners, which keep 1 - `fall`; the brightest place is up to a quarter off the middle."""
    side = image.shape[0]
    grid = np.linspace(-1, 1, side)
    x, y = generator.uniform(-0.5, 0.5, 2)
    distance = (grid[None, :] - x) ** 2 + (grid[:, None] - y) ** 2
    return _whole(image * (1 - fall * distance / distance.max())[..., None])


@dataclass(frozen=True, slots=True)
class Corruption:
    """One corruption, with its parameter at each of the five severities; `published` when it is of BloodMNIST-C."""

    name: str
    apply: Callable[[Image, Any, Generator], Image]
    parameters: tuple[Any, ...]
    published: bool = True


CORRUPTIONS: Final = (
    Corruption("pixelate", pixelate, (0.6, 0.5, 0.4, 0.3, 0.25)),
    Corruption("jpeg_compression", jpeg_compression, (50, 30, 15, 10, 7)),
    Corruption("defocus_blur", defocus_blur, (2, 3, 4, 5, 6)),
    Corruption("motion_blur", motion_blur, ((3, 3), (5, 5), (10, 5), (10, 7), (10, 9))),
    Corruption("brightness_up", brightness, (1.1, 1.2, 1.3, 1.35, 1.4)),
    Corruption("brightness_down", brightness, (0.9, 0.8, 0.7, 0.6, 0.5)),
    Corruption("contrast_up", contrast, (1.1, 1.15, 1.2, 1.25, 1.3)),
    Corruption("contrast_down", contrast, (0.9, 0.8, 0.7, 0.6, 0.5)),
    Corruption("saturate", saturate, (0.05, 0.10, 0.15, 0.17, 0.20)),
    Corruption("stain_deposit", stain_deposit, ((1, 8), (2, 8), (3, 8), (3, 11), (3, 14))),
    Corruption("bubble", bubble, ((5, 10), (7, 10), (10, 10), (12, 12), (15, 12))),
    Corruption("noise", noise, (5, 10, 15, 22, 30), published=False),
    Corruption("colour_cast", colour_cast, (0.04, 0.08, 0.12, 0.18, 0.25), published=False),
    Corruption("vignette", vignette, (0.15, 0.25, 0.35, 0.45, 0.55), published=False),
)


def corrupt(image: Image, corruption: Corruption, severity: int, generator: Generator) -> Image:
    """Corrupt a crop uint8[S, S, 3] at `severity` 1-5; the same generator state gives the same picture."""
    return corruption.apply(image, corruption.parameters[SEVERITIES.index(severity)], generator)

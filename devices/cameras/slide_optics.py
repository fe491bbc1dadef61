"""From light that passed the slide to the picture a camera delivers: blur, lamp, exposure, noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from edge.core.errors import UsageError
from edge.core.types import FloatArray, FloatImage, Image

_DISC_DEVIATION: Final = 0.5
"""Standard deviation of a uniform disc along one axis, as a share of its radius."""

_FOCUS_SHIFT: Final = (-0.10, 0.0, 0.15)
"""Where blue, green and red come to focus, in micrometres: an achromat brings green to focus best."""

_IMMERSION_OIL: Final = 1.515

_RANGES: Final = {
    "numerical_aperture": (0.05, 1.45),
    "defocus_micrometres": (-30.0, 30.0),
    "illumination": (0.0, 10.0),
    "vignetting": (0.0, 0.9),
    "exposure": (0.0, 20.0),
    "glare": (0.0, 0.9),
    "noise": (0.0, 100.0),
    "sharpening": (0.0, 3.0),
}


@dataclass(frozen=True, slots=True)
class Optics:
    """A microscope's objective and lamp, and the camera behind it.

    `numerical_aperture` (above 0.95 in oil) and `defocus_micrometres` set the blur. `illumination` is the lamp's
    brightness in the middle: 1 puts the blank slide at `blank`, the lamp's colour (B, G, R, 0-255). `vignetting`
    0-0.9 is how much of it is lost in the corners. `colour_cast` multiplies B, G and R, everywhere or, with
    `cast_in_middle`, most in the middle of the field, as cheap cameras do. `exposure` multiplies everything; what
    exceeds white is clipped. `glare` 0-0.9 is scattered light that lowers contrast, `sharpening` the unsharp mask
    that many cameras apply by themselves. `noise` is the standard deviation at white in grey levels; it falls with
    the root of the light.

    Raises UsageError for a value out of range.
    """

    numerical_aperture: float = 0.9
    defocus_micrometres: float = 0.0
    illumination: float = 1.0
    blank: tuple[float, float, float] = (204.0, 230.0, 252.0)
    vignetting: float = 0.06
    colour_cast: tuple[float, float, float] = (1.0, 1.0, 1.0)
    cast_in_middle: bool = False
    exposure: float = 1.0
    glare: float = 0.01
    noise: float = 1.6
    sharpening: float = 0.3

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError("bad-optics", f"{name} cannot be {value}.", f"Choose {low:g} to {high:g}.")
        for name in ("blank", "colour_cast"):
            if not all(0 <= part < 1e4 for part in getattr(self, name)):
                raise UsageError("bad-optics", f"{name} cannot be {getattr(self, name)}.", "Choose positive numbers.")

    def blur_micrometres(self, channel: int) -> float:
        """Return the standard deviation of the blur of a channel (0 B, 1 G, 2 R), in micrometres on the slide.

        Diffraction: the Gaussian nearest to the Airy disc, 0.21 wavelength / NA (Zhang et al., Applied Optics 46, 2007,
        1819-1829). Defocus: the cone of light that the aperture takes in.
        """
        wavelength = (0.46, 0.54, 0.62)[channel]
        medium = _IMMERSION_OIL if self.numerical_aperture > 0.95 else 1.0
        cone = float(np.tan(np.arcsin(self.numerical_aperture / medium)))
        defocus = np.hypot(self.defocus_micrometres, _FOCUS_SHIFT[channel]) * cone * _DISC_DEVIATION
        return float(np.hypot(0.21 * wavelength / self.numerical_aperture, defocus))

    def margin_pixels(self, micrometres_per_pixel: float) -> int:
        """Return how many pixels outside the picture its blur draws from."""
        widest = max(self.blur_micrometres(channel) for channel in range(3))
        return int(np.ceil(3.0 * widest / micrometres_per_pixel)) + 1

    def _lamp(self, width: int, height: int) -> list[FloatArray]:
        """Light of the blank slide: float32[height, width] for B, G and R, 0-255 and above (before clipping)."""
        diagonal = float(np.hypot(width, height))
        x = np.linspace(-1, 1, width, dtype=np.float32)[None, :] * np.float32(width / diagonal)
        y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * np.float32(height / diagonal)
        # The brightest spot lies a little off the axis, since no condenser is centred exactly.
        fall = np.minimum((x - np.float32(0.06)) ** 2 + (y + np.float32(0.04)) ** 2, np.float32(1.0))
        shade = 1.0 - np.float32(self.vignetting) * fall
        middle = np.exp(fall * np.float32(-4.0)) if self.cast_in_middle else np.float32(1.0)
        return [
            shade * np.float32(blank * self.illumination * self.exposure) * (1.0 + np.float32(cast - 1.0) * middle)
            for cast, blank in zip(self.colour_cast, self.blank, strict=True)
        ]

    def expose(self, transmittance: FloatImage, micrometres_per_pixel: float, rng: np.random.Generator) -> Image:
        """Picture a slide whose transmittance was rendered `margin_pixels` wider on every side: uint8 BGR."""
        margin = self.margin_pixels(micrometres_per_pixel)
        height, width = transmittance.shape[0] - 2 * margin, transmittance.shape[1] - 2 * margin
        picture = np.empty((height, width, 3), dtype=np.uint8)
        # One channel at a time: a whole field in floating point is large for a small device.
        for channel, lamp in enumerate(self._lamp(width, height)):
            sigma = self.blur_micrometres(channel) / micrometres_per_pixel
            wide = np.ascontiguousarray(transmittance[..., channel])
            if sigma > 0.3:
                wide = np.asarray(cv2.GaussianBlur(wide, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE))
            light = wide[margin:-margin, margin:-margin].copy()
            if self.sharpening > 0:
                reach = 0.18 / micrometres_per_pixel + 0.4
                halo = np.asarray(cv2.GaussianBlur(light, (0, 0), reach, borderType=cv2.BORDER_REPLICATE))
                light += np.float32(self.sharpening) * (light - halo)
                np.maximum(light, 0.0, out=light)
            light *= np.float32(1.0 - self.glare)
            light += np.float32(self.glare)
            light *= lamp
            if self.noise > 0:
                self._add_noise(light, rng)
            light += np.float32(0.5)
            picture[..., channel] = np.clip(light, 0.0, 255.0)
        return picture

    def _add_noise(self, light: FloatArray, rng: np.random.Generator) -> None:
        """Add shot noise and read noise. A block of random numbers serves many times: drawing millions is slow."""
        block = rng.standard_normal((1 << 17) - 1, dtype=np.float32)
        pieces = [np.roll(block, int(rng.integers(len(block)))) for _ in range(light.size // len(block) + 1)]
        grain = np.concatenate(pieces)[: light.size].reshape(light.shape)
        grain *= np.sqrt(light * np.float32(self.noise**2 * 0.9 / 255.0) + np.float32(self.noise**2 * 0.1))
        light += grain

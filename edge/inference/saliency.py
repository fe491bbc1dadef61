"""Draws a class-activation map over a crop, for a person to see what the call rests on."""

from __future__ import annotations

import cv2
import numpy as np

from edge.core.types import FloatArray, Image


def enlarged(activation: FloatArray, height: int, width: int) -> FloatArray:
    """A map, float32[h, w] in 0..1, at the size of a crop: float32[height, width] in 0..1, by cubic interpolation."""
    heat = cv2.resize(np.asarray(activation, dtype=np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip(heat, 0.0, 1.0), dtype=np.float32)


def overlay(crop: Image, activation: FloatArray, strength: float = 0.6) -> Image:
    """Lay `activation`, float32[h, w] in 0..1, over `crop`, uint8[H, W, 3] BGR: uint8[H, W, 3] BGR.

    The colours are cividis, which reads alike with and without colour-vision deficiency (Nunez et al., PLOS ONE 2018).
    Opacity grows with the activation up to `strength`: the cell stays visible where nothing speaks for the call.
    """
    heat = enlarged(activation, crop.shape[0], crop.shape[1])
    colours = cv2.applyColorMap(np.rint(heat * 255).astype(np.uint8), cv2.COLORMAP_CIVIDIS).astype(np.float32)
    opacity = (strength * heat)[..., None]
    blended: Image = np.rint(crop * (1 - opacity) + colours * opacity).astype(np.uint8)
    return blended

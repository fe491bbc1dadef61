"""One picture per cell with all its maps side by side, for a person to look at."""

from __future__ import annotations

import io
import math
from typing import Final

import numpy as np

from edge.core.types import FloatArray
from edge.inference.saliency import overlay
from training.explain.study import CENTRE, DEVICE, INT8, Explanation

_TITLES: Final = {
    DEVICE: "Class activation (device)",
    INT8: "Class activation (INT8)",
    "grad-cam": "Grad-CAM",
    "gradients": "Gradients",
    "smoothgrad": "SmoothGrad",
    "occlusion": "Occlusion",
    "lime": "LIME",
}

_CAP: Final = 0.99
"""Gradients above this quantile are drawn alike: single pixels would darken all others (Smilkov et al., 2017)."""

_COLUMNS: Final = 4


def draw(explanation: Explanation) -> bytes:
    """The crop with its nucleus outlined, and each map laid over it in cividis: a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    names = [name for name in explanation.maps if name != CENTRE]
    rows = math.ceil((1 + len(names)) / _COLUMNS)
    figure = Figure(figsize=(2.3 * _COLUMNS + 0.7, 2.6 * rows + 0.5), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for panel in panels:
        panel.set_axis_off()
    crop = explanation.subject.crop
    panels[0].imshow(crop[..., ::-1])
    panels[0].contour(explanation.subject.nucleus.astype(float), levels=[0.5], colors="black", linewidths=0.8)
    panels[0].set_title("Cell, nucleus outlined", fontsize=9)
    for panel, name in zip(panels[1:], names, strict=False):
        panel.imshow(overlay(crop, _visible(name, explanation.maps[name]))[..., ::-1])
        panel.set_title(_titled(explanation, name), fontsize=9)
    figure.suptitle(_heading(explanation), fontsize=10)
    bar = figure.colorbar(ScalarMappable(cmap="cividis"), ax=panels.tolist(), shrink=0.8, pad=0.02)
    bar.set_label("speaks for the class, share of the highest", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _visible(name: str, activation: FloatArray) -> FloatArray:
    if name not in {"gradients", "smoothgrad"}:
        return activation
    limit = float(np.quantile(activation, _CAP))
    return np.minimum(activation / limit, 1).astype(np.float32) if limit > 0 else activation


def _titled(explanation: Explanation, name: str) -> str:
    correlation = explanation.measures[name].rank_correlation
    if name == DEVICE or correlation is None:
        return _TITLES[name]
    return f"{_TITLES[name]} ({correlation:+.2f})"


def _heading(explanation: Explanation) -> str:
    share = max(explanation.probabilities)
    text = f"called {explanation.called} ({share:.2f})"
    if explanation.target != explanation.called:
        text += f", explained for {explanation.target}"
    if explanation.subject.truth is not None:
        text += f", labelled {explanation.subject.truth}"
    return f"{text}; in brackets: rank correlation with the device's map"

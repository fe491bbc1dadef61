"""Plots of a judgement: confusion, reliability, risk against coverage, ROC, corruptions. Colours of Okabe and Ito."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from training.config import CLASSES
from training.evaluation.corruptions import CORRUPTIONS
from training.evaluation.judge import Judgement, Row
from training.evaluation.robustness import Robustness

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
"""Colour Universal Design, Okabe and Ito, 2008: told apart by colour-blind readers. Line styles differ as well."""

_STYLES: Final = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)))


@dataclass(frozen=True, slots=True)
class Picture:
    """One plot: a file name without suffix, a caption, and its content in both formats."""

    name: str
    caption: str
    png: bytes
    svg: bytes

    @property
    def link(self) -> str:
        """The picture itself as a link, for a page that needs no other file."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg).decode("ascii")


@contextmanager
def _style() -> Iterator[None]:
    import matplotlib as mpl

    settings = {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "svg.hashsalt": "leukoscope",
        "legend.frameon": False,
    }
    with mpl.rc_context(settings):
        yield


def _grid(count: int, side: float, columns: int = 4) -> tuple[Figure, list[Any]]:
    from matplotlib.figure import Figure

    wide = min(count, columns)
    high = math.ceil(count / wide)
    figure = Figure(figsize=(side * wide, side * high), layout="constrained")
    axes = figure.subplots(high, wide, squeeze=False).ravel().tolist()
    for spare in axes[count:]:
        spare.set_axis_off()
    return figure, axes[:count]


def _picture(name: str, caption: str, figure: Figure) -> Picture:
    png, svg = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", dpi=130, metadata={"Software": None})
    figure.savefig(svg, format="svg", metadata={"Date": None})
    return Picture(name, caption, png.getvalue(), svg.getvalue())


def confusion(rows: Sequence[Row], name: str) -> Picture:
    """One matrix a row: truth down, call across, six classes; shade is the share of the true class, text the count."""
    figure, axes = _grid(len(rows), 3.6, 3)
    for axis, row in zip(axes, rows, strict=True):
        matrix = np.array(row.six.figures.confusion)
        total = matrix.sum(axis=1, keepdims=True)
        share = np.divide(matrix, total, out=np.zeros(matrix.shape), where=total > 0)
        axis.imshow(share, cmap="cividis", vmin=0, vmax=1)
        for (truth, called), value in np.ndenumerate(matrix):
            if value:
                shade = "black" if share[truth, called] > 0.55 else "white"
                axis.text(called, truth, str(value), ha="center", va="center", color=shade, fontsize=8)
        axis.set_xticks(range(len(CLASSES)), CLASSES, rotation=90)
        axis.set_yticks(range(len(CLASSES)), CLASSES)
        axis.set_title(f"{row.name} (n={row.six.figures.n})")
        axis.set_xlabel("called")
        axis.set_ylabel("truth")
        for side in ("top", "right", "left", "bottom"):
            axis.spines[side].set_visible(False)
    return _picture(f"{name}-confusion", "Confusion: the largest of six. Shade: share of the true class.", figure)


def reliability(rows: Sequence[Row], name: str) -> Picture:
    """Accuracy against confidence, before and after the temperature; the bars below count the cells."""
    figure, axes = _grid(len(rows), 3.1)
    for axis, row in zip(axes, rows, strict=True):
        axis.plot([0, 1], [0, 1], color="0.6", linewidth=1)
        counts = axis.twinx()
        total = max(1, sum(item.n for item in row.five.bins))
        counts.bar(
            [(item.low + item.high) / 2 for item in row.five.bins],
            [item.n / total for item in row.five.bins],
            width=1 / len(row.five.bins),
            color="#56B4E9",
            alpha=0.35,
        )
        counts.set_ylim(0, 1)
        counts.set_yticks([])
        for label, bins, ece, colour, style in (
            ("before", row.five.bins_before, row.five.ece.before, COLOURS[1], "--o"),
            ("after", row.five.bins, row.five.ece.after, COLOURS[0], "-s"),
        ):
            filled = [item for item in bins if item.n]
            axis.plot(
                [item.confidence for item in filled],
                [item.accuracy for item in filled],
                style,
                color=colour,
                markersize=3.5,
                linewidth=1.2,
                label=f"{label}: ECE {ece:.3f}",
            )
        axis.set_xlim(0, 1)
        axis.set_ylim(0, 1.02)
        axis.set_title(f"{row.name} (n={row.five.figures.n})")
        axis.set_xlabel("confidence")
        axis.set_ylabel("share right")
        axis.legend(loc="upper left", fontsize=8, frameon=True, framealpha=0.85, edgecolor="none")
    caption = (
        "Reliability over 15 bins of equal width, before and after the temperature; bars: share of the cells (after)."
    )
    return _picture(f"{name}-reliability", caption, figure)


def _lines(
    rows: Sequence[Row], points: Callable[[Row], tuple[Sequence[float], Sequence[float]]], labels: Callable[[Row], str]
) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axis = figure.subplots()
    for index, row in enumerate(rows):
        x, y = points(row)
        axis.plot(
            x,
            y,
            color=COLOURS[index % len(COLOURS)],
            linestyle=_STYLES[index % len(_STYLES)],
            linewidth=1.6,
            label=labels(row),
        )
    return figure, axis


def risk_coverage(rows: Sequence[Row], name: str) -> Picture:
    """Risk against coverage, one line a row of cells."""
    figure, axis = _lines(
        rows,
        lambda row: (row.selective.coverages, row.selective.risks),
        lambda row: f"{row.name}: {row.selective.risk:.3f} at 90 %, AURC {row.selective.aurc:.4f}",
    )
    axis.axvline(0.9, color="0.7", linewidth=1, zorder=0)
    axis.set_xlim(0, 1)
    axis.set_ylim(bottom=0)
    axis.set_xlabel("coverage: share of cells that are called")
    axis.set_ylabel("risk: share of those called wrongly")
    axis.legend(fontsize=8)
    return _picture(f"{name}-risk-coverage", "Risk against coverage, five classes, most confident cells first.", figure)


def roc(rows: Sequence[Row], name: str) -> Picture | None:
    """One-vs-rest ROC of each class, one panel a row of cells."""
    drawn = [row for row in rows if row.five.roc]
    if not drawn:
        return None
    figure, axes = _grid(len(drawn), 3.1)
    for axis, row in zip(axes, drawn, strict=True):
        for class_name, (false, true) in row.five.roc.items():
            index = CLASSES.index(class_name)
            axis.plot(
                false,
                true,
                color=COLOURS[index],
                linestyle=_STYLES[index],
                linewidth=1.5,
                label=f"{class_name} {row.five.auc[class_name]:.3f}",
            )
        axis.plot([0, 1], [0, 1], color="0.75", linewidth=0.8)
        axis.set_title(f"{row.name} (n={row.five.figures.n})")
        axis.set_xlabel("false positive rate")
        axis.set_ylabel("true positive rate")
        axis.legend(fontsize=7.5, loc="lower right")
    return _picture(f"{name}-roc", "ROC, each class against the other four, with its AUC.", figure)


def corruptions(found: Robustness, name: str) -> Picture:
    """Balanced accuracy of each corruption: a bar for the mean, a tick for each severity."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axis = figure.subplots()
    order = [item for item in CORRUPTIONS if item.name in found.corrupted]
    places = np.arange(len(order))
    means = [float(np.mean(found.corrupted[item.name])) for item in order]
    colours = [COLOURS[0] if item.published else COLOURS[5] for item in order]
    axis.barh(places, means, color=colours, height=0.65)
    for place, item in zip(places, order, strict=True):
        for level, value in enumerate(found.corrupted[item.name], 1):
            axis.plot([value], [place], marker="|", color="black", markersize=5 + 2 * level, markeredgewidth=1)
    axis.axvline(found.clean, color=COLOURS[1], linewidth=1.5, linestyle="--", label=f"clean {found.clean:.3f}")
    axis.set_yticks(places, [item.name.replace("_", " ") + ("" if item.published else " (ours)") for item in order])
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    axis.set_xlabel("balanced accuracy, five classes")
    axis.set_title(f"{found.source} (n={found.n})")
    axis.legend(loc="lower right", bbox_to_anchor=(1, 1), fontsize=8)
    caption = "Corruptions: bars are means over five severities, ticks the severities (taller: stronger)."
    return _picture(f"{name}-corruptions-{found.source}", caption, figure)


def pictures(judgement: Judgement, name: str) -> list[Picture]:
    """All plots of one system; `name` begins the file names."""
    if not judgement.rows:
        return []
    with _style():
        made = [
            confusion(judgement.rows, name),
            reliability(judgement.rows, name),
            risk_coverage(judgement.rows, name),
            roc(judgement.rows, name),
        ]
        made += [corruptions(found, name) for found in judgement.robustness]
    return [picture for picture in made if picture is not None]

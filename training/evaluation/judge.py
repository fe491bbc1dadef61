"""Every figure of one system from its predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edge.core.labels import LABELS
from edge.core.types import FloatArray
from edge.inference.classifier import softmax
from quantization import calibration
from training.config import CLASSES
from training.evaluation import conformal, foreign, reliability, selective
from training.evaluation import rows as chosen_rows
from training.evaluation.conformal import Coverage
from training.evaluation.foreign import Kind
from training.evaluation.reliability import Bin
from training.evaluation.robustness import Robustness
from training.metrics import Figures, Integers, figures
from training.predictions import Predictions

FIVE = len(LABELS)
Floats = npt.NDArray[np.float64]

COVERAGE = 0.9
"""Coverage at which the risk is stated."""


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A figure of the probabilities as the network gives them, and after division of its logits by the temperature."""

    before: float
    after: float


@dataclass(frozen=True, slots=True)
class View:
    """One way to read the logits. `auc` is one-vs-rest, None for a class that is absent or alone.

    "five": cells of the five classes, the call is the largest of the five logits; the view of the literature.
    "six": foreign cells too, the call is the largest of the six; the view of a device. `roc` has the false and the
    true positive rates of each class that has an `auc`.
    """

    figures: Figures
    auc: dict[str, float | None]
    macro_auc: float | None
    ece: Calibrated
    brier: Calibrated
    nll: Calibrated
    bins_before: tuple[Bin, ...]
    bins: tuple[Bin, ...]
    roc: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Abstention:
    """What a device does at the threshold: share of the row's cells that it counts, and share of those called wrongly.

    `other` is the share that is called `other`, `abstained` the share left for a person. `risk` is None without a
    counted cell.
    """

    coverage: float
    risk: float | None
    other: float
    abstained: float


@dataclass(frozen=True, slots=True)
class Selective:
    """Risk against coverage of the five-class view: area, risk at 90 % coverage, and the curve's N points."""

    aurc: float
    risk: float
    coverages: tuple[float, ...] = field(repr=False)
    risks: tuple[float, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Row:
    """Figures on one row of cells."""

    name: str
    source: str
    note: str
    five: View
    six: View
    selective: Selective
    abstention: Abstention
    conformal: tuple[Coverage, ...]


@dataclass(frozen=True, slots=True)
class Judgement:
    """Everything that was found of one system.

    `calibration` is None when there are no validation cells: the temperature is then 1 and nothing is abstained from.
    `score` is the score for `other` that is best on validation cells, `kinds` its AUROC and the others' on held-out
    cells, `kinds_validation` on validation cells.
    """

    calibration: calibration.Fit | None
    rows: tuple[Row, ...]
    score: str | None
    kinds: tuple[Kind, ...]
    kinds_validation: tuple[Kind, ...]
    robustness: tuple[Robustness, ...] = ()

    @property
    def temperature(self) -> float:
        """What logits are divided by."""
        return self.calibration.temperature if self.calibration else 1.0


def one_vs_rest(probabilities: Floats, labels: Integers) -> tuple[dict[str, float | None], float | None]:
    """AUC-ROC of each class that occurs, and their mean: probabilities float64[N, C], truth int64[N]."""
    found: dict[str, float | None] = {}
    for index in np.unique(labels).tolist():
        own = labels == index
        found[CLASSES[index]] = (
            None if own.all() else foreign.auroc(probabilities[own, index], probabilities[~own, index])
        )
    known = [value for value in found.values() if value is not None]
    return found, float(np.mean(known)) if known else None


def roc_curves(probabilities: Floats, labels: Integers) -> dict[str, tuple[tuple[float, ...], tuple[float, ...]]]:
    """False and true positive rates, one-vs-rest, of each class that occurs beside another."""
    from sklearn.metrics import roc_curve

    found = {}
    for index in np.unique(labels).tolist() if len(np.unique(labels)) > 1 else ():
        false, true, _ = roc_curve(labels == index, probabilities[:, index])
        found[CLASSES[index]] = (tuple(false.tolist()), tuple(true.tolist()))
    return found


def view(name: str, logits: FloatArray, labels: Integers, temperature: float) -> View:
    """Judge logits float32[N, C] (C five or six) with truth int64[N] below C."""
    called = logits.argmax(axis=1).astype(np.int64)
    before, after = softmax(logits), softmax(logits / temperature)
    correct = called == labels
    bins_before, bins = (reliability.reliability(chance.max(axis=1), correct) for chance in (before, after))
    auc, macro = one_vs_rest(after, labels)
    return View(
        figures=figures(name, labels, called),
        auc=auc,
        macro_auc=macro,
        ece=Calibrated(*(reliability.expected_calibration_error(each) for each in (bins_before, bins))),
        brier=Calibrated(*(reliability.brier(chance, labels) for chance in (before, after))),
        nll=Calibrated(*(reliability.negative_log_likelihood(chance, labels) for chance in (before, after))),
        bins_before=bins_before,
        bins=bins,
        roc=roc_curves(after, labels),
    )


def abstention(logits: FloatArray, labels: Integers, temperature: float, threshold: float) -> Abstention:
    """Decide as `edge.inference.classifier.decide` does, and compare with the truth."""
    called = logits.argmax(axis=1)
    cell = called < FIVE
    sure = softmax(logits[:, :FIVE] / temperature).max(axis=1) >= threshold
    counted = cell & sure
    risk = float((called[counted] != labels[counted]).mean()) if counted.any() else None
    return Abstention(float(counted.mean()), risk, float((~cell).mean()), float((cell & ~sure).mean()))


def _selective(logits: FloatArray, labels: Integers, temperature: float) -> Selective:
    confidence = softmax(logits[:, :FIVE] / temperature).max(axis=1)
    correct = logits[:, :FIVE].argmax(axis=1) == labels
    coverage, risk = selective.risk_coverage(confidence, correct)
    return Selective(
        selective.area(risk),
        selective.risk_at(coverage, risk, COVERAGE),
        tuple(coverage.tolist()),
        tuple(risk.tolist()),
    )


def judge(
    predictions: Predictions,
    leave_out: Sequence[str] = (),
    risk: float = calibration.RISK_TARGET,
    alpha: float | None = None,
) -> Judgement:
    """Compute every figure of one system.

    `leave_out` names sources that it was not trained on. Temperature, abstention threshold (at the stated `risk`),
    conformal quantiles (at the error rate `alpha`, none without) and the score for `other` come from validation cells.
    """
    fits = predictions.select(chosen_rows.validation(predictions, leave_out))
    whole = fits.select(fits.kind != "background")
    five = whole.select(whole.labels < FIVE)
    fitted = calibration.fit(whole.logits, whole.labels, whole.source, risk) if len(five) else None
    temperature, threshold = (fitted.temperature, fitted.threshold) if fitted else (1.0, 0.0)
    methods = []
    if alpha is not None and len(five):
        chances = softmax(five.logits[:, :FIVE] / temperature)
        methods = [conformal.fit(chances, five.labels, alpha, method) for method in conformal.METHODS]
    found = []
    for item in chosen_rows.rows(predictions, leave_out):
        cells = predictions.select(item.mask)
        own = cells.select(cells.labels < FIVE)
        chances = softmax(own.logits[:, :FIVE] / temperature)
        found.append(
            Row(
                name=item.name,
                source=item.source,
                note=item.note,
                five=view(item.name, own.logits[:, :FIVE], own.labels, temperature),
                six=view(item.name, cells.logits, cells.labels, temperature),
                selective=_selective(own.logits, own.labels, temperature),
                abstention=abstention(cells.logits, cells.labels, temperature, threshold),
                conformal=tuple(conformal.measure(method, chances, own.labels) for method in methods),
            )
        )
    on_validation = foreign.kinds(fits)
    return Judgement(
        calibration=fitted,
        rows=tuple(found),
        score=foreign.best_score(on_validation),
        kinds=tuple(foreign.kinds(predictions.select(chosen_rows.held_out(predictions, leave_out)))),
        kinds_validation=tuple(on_validation),
    )

"""May the adapted model replace the old one? Decided on cells that the adaptation did not see, and on the source's own.

The default is no: an adaptation must show on the site's held-out cells that it is better, and must not forget what the
model knew. Every refusal has a code and says what was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.core.errors import NothingToDoError

Integers = npt.NDArray[np.int64]


class AdaptationRefusedError(NothingToDoError):
    """The adapted model is not better, or not shown to be; nothing was written."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an adapted model must keep to. Shares are 0..1.

    `significance`: largest p of the paired test on held-out cells; 1 is no test. `least`: least balanced accuracy.
    `loss`: largest fall of balanced accuracy on the source's validation cells. `changed`: without labels, the largest
    share of the site's calls that may change. `disagreement`: largest share of cells that INT8 may call otherwise.
    """

    significance: float = 0.05
    least: float = 0.5
    loss: float = 0.10
    changed: float = 0.5
    disagreement: float = 0.1


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an adaptation is refused: a stable code, and a sentence with the figures."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Old and new on the same cells: balanced accuracies, and the one-sided p that the new one is no better."""

    cells: int
    groups: int
    old: float
    new: float
    p: float


def balanced_accuracy(labels: Integers, correct: npt.NDArray[np.bool_]) -> float:
    """Mean over the classes that occur of the share of correct cells."""
    return float(np.mean([correct[labels == label].mean() for label in np.unique(labels)]))


def compare(  # noqa: PLR0917  # each is another thing
    labels: Integers,
    old: npt.NDArray[np.bool_],
    new: npt.NDArray[np.bool_],
    groups: Sequence[str] | npt.NDArray[np.str_],
    seed: int = 0,
    draws: int = 20_000,
) -> Comparison:
    """Compare two models, correct or not on each of N cells, by exchanging them within whole groups.

    Paired randomisation test of the difference of balanced accuracies (Good, Permutation, Parametric and Bootstrap
    Tests of Hypotheses, 3rd ed., ch. 3): if the models are alike, their answers to a group's cells may be exchanged
    together. Cells of a group are not independent, so single cells are not exchanged. All 2^G exchanges are tried
    where there are at most `draws`, else that many random ones; p counts those at least as good as what was seen.
    With one cell a group and one class it is the sign test on the cells that one of the two gets wrong (exact McNemar).
    """
    weight = np.zeros(len(labels))
    for label in np.unique(labels):
        weight[labels == label] = 1.0 / (labels == label).sum() / len(np.unique(labels))
    gain = weight * (new.astype(np.float64) - old.astype(np.float64))
    _, index = np.unique(np.asarray(groups), return_inverse=True)
    by_group = np.bincount(index, weights=gain)
    moving = by_group[np.abs(by_group) > 1e-12]
    seen = float(moving.sum())
    if len(moving) == 0:
        p = 1.0
    elif 2 ** len(moving) <= draws:
        codes = np.arange(2 ** len(moving))[:, None] >> np.arange(len(moving)) & 1
        p = float((((1 - 2 * codes) @ moving) >= seen - 1e-12).mean())
    else:
        signs = np.random.default_rng(seed).choice((-1.0, 1.0), (draws, len(moving)))
        p = float((1 + ((signs @ moving) >= seen - 1e-12).sum()) / (1 + draws))
    return Comparison(
        len(labels), int(index.max()) + 1, balanced_accuracy(labels, old), balanced_accuracy(labels, new), p
    )


def judge_site(found: Comparison, limits: Limits, tried: int = 1) -> list[Refusal]:
    """Judge the held-out cells of the site; `tried` ways were compared on them, so that p is held against its share."""
    figures = f"balanced accuracy {found.old:.3f} before, {found.new:.3f} after, on {found.cells} held-out cells"
    if found.new < found.old:
        return [Refusal("worse-on-held-out", f"The adapted model is worse: {figures}.")]
    refusals = []
    allowed = limits.significance / tried
    if found.p > allowed and limits.significance < 1:
        refusals.append(
            Refusal(
                "not-shown-better",
                f"The adapted model is not shown to be better: {figures} of {found.groups} groups, "
                f"p = {found.p:.3f}, allowed {allowed:.3f}.",
            )
        )
    if found.new < limits.least:
        refusals.append(
            Refusal("too-weak", f"The adapted model calls the site's cells too badly: {figures}; least {limits.least}.")
        )
    return refusals


def judge_source(old: float, new: float, limits: Limits) -> list[Refusal]:
    """Judge the source's own validation cells by balanced accuracy before and after."""
    if old - new <= limits.loss:
        return []
    return [
        Refusal(
            "source-forgotten",
            f"On the cells that the model was made for, balanced accuracy fell from {old:.3f} to {new:.3f}; "
            f"allowed is {limits.loss}.",
        )
    ]


def judge_unlabelled(old: Integers, new: Integers, limits: Limits) -> list[Refusal]:
    """Judge the calls of the site's unlabelled cells before and after, for want of labels."""
    if not len(old):
        return []
    share = float((old != new).mean())
    refusals = []
    if share > limits.changed:
        refusals.append(
            Refusal("changed-too-much", f"{share:.0%} of the site's calls changed; allowed is {limits.changed:.0%}.")
        )
    if len(np.unique(new)) == 1 < len(np.unique(old)):
        refusals.append(Refusal("collapsed", "The adapted model calls every cell of the site the same."))
    return refusals


def judge_quantized(agreement: float, limits: Limits) -> list[Refusal]:
    """Judge how often the INT8 network gives the call of the float network, 0..1."""
    if 1.0 - agreement <= limits.disagreement:
        return []
    return [
        Refusal(
            "quantization-differs",
            f"The INT8 network agrees with the float one on {agreement:.1%} of the cells only.",
        )
    ]


def require(refusals: Sequence[Refusal]) -> None:
    """Raise AdaptationRefusedError with the first code and every reason, if there is any."""
    if refusals:
        raise AdaptationRefusedError(
            refusals[0].code,
            "Refused, nothing was written. " + " ".join(refusal.message for refusal in refusals),
            "Keep the present bundle. Check the labels, add cells of the classes that are missing, or more fields.",
        )

"""Does a new bundle stay inside what its predecessor allows its successors to change."""

from __future__ import annotations

from edge.bundle.manifest import Manifest, SiteFigures

_ROUNDING = 1e-9


def excess(active: Manifest, successor: Manifest) -> tuple[str, ...]:
    """Name each change that the active bundle's envelope does not allow; a bundle without one allows everything.

    Figures are compared on every source for which the active bundle gives them, precision by precision: a source that
    the successor leaves out counts as a change, because its figures may have become worse unseen.
    """
    envelope = active.envelope
    if envelope is None:
        return ()
    found = []
    if successor.name != active.name:
        found.append(f"its name is {successor.name}, not {active.name}")
    if not envelope.preprocessing and successor.preprocessing != active.preprocessing:
        found.append("it prepares crops otherwise")
    for before in active.figures:
        after = next((f for f in successor.figures if _place(f) == _place(before)), None)
        where = f"{before.source} ({before.precision})"
        if after is None:
            found.append(f"it gives no figures for {where}")
            continue
        drop = before.balanced_accuracy - after.balanced_accuracy
        if drop > envelope.balanced_accuracy_drop + _ROUNDING:
            found.append(f"its balanced accuracy on {where} is lower by {drop:.3f}")
        for label, recall in before.recall.items():
            new = after.recall.get(label)
            if new is None:
                found.append(f"it gives no recall of {label} on {where}")
            elif recall.value - new.value > envelope.recall_drop + _ROUNDING:
                found.append(f"its recall of {label} on {where} is lower by {recall.value - new.value:.3f}")
    return tuple(found)


def _place(figures: SiteFigures) -> tuple[str, str]:
    return figures.source, figures.precision

"""What quantization cost: the int8 network against the float network it was made from, on the same cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge.core.types import FloatArray


@dataclass(frozen=True, slots=True)
class Parity:
    """Agreement of two networks on `n` cells of one source.

    `agreement` is the share of cells that both give the same class, `signal_to_noise` in decibel compares the power of
    the reference logits with the power of the difference, `largest` and `mean` are the largest and the mean absolute
    difference of a logit.
    """

    source: str
    n: int
    agreement: float
    signal_to_noise: float
    largest: float
    mean: float


def compare(source: str, reference: FloatArray, quantized: FloatArray) -> Parity:
    """Compare logits float32[N, C] of two networks. Raises ValueError when the shapes differ or there is no cell."""
    if reference.shape != quantized.shape or len(reference) == 0:
        raise ValueError(f"cannot compare {reference.shape} with {quantized.shape}")
    difference = reference.astype(np.float64) - quantized
    noise = float(np.mean(difference**2))
    signal = float(np.mean(reference.astype(np.float64) ** 2))
    return Parity(
        source=source,
        n=len(reference),
        agreement=float(np.mean(reference.argmax(axis=1) == quantized.argmax(axis=1))),
        signal_to_noise=10 * float(np.log10(signal / noise)) if noise > 0 else float("inf"),
        largest=float(np.abs(difference).max()),
        mean=float(np.abs(difference).mean()),
    )


def table(rows: Sequence[Parity]) -> str:
    """Give the comparison as a Markdown table."""
    lines = [
        "| source | n | same class | logit SQNR dB | largest difference | mean |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.source} | {row.n} | {row.agreement:.4f} | {row.signal_to_noise:.1f} | {row.largest:.2f} | "
        f"{row.mean:.3f} |"
        for row in rows
    ]
    return "\n".join(lines)

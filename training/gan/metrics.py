"""How far apart two sets of pictures are, from features of a pretrained network: Frechet and kernel distance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Features = npt.NDArray[np.floating]


def frechet_distance(one: Features, other: Features) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2) of features float[n, d] (Heusel et al., NeurIPS 2017).

    C is the sample covariance (n - 1). With C = A^T A for the centred features A / sqrt(n - 1), the trace of the root
    of C1 C2 is the sum of the singular values of A1 A2^T: n by n, where the covariances would be d by d and singular.
    The distance has a bias that grows as n falls: compare only distances of equal n. Raises ValueError below two rows.
    """
    if min(len(one), len(other)) < 2:
        raise ValueError("a covariance needs two pictures of each set")
    first, second = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    shift = first.mean(axis=0) - second.mean(axis=0)
    a = (first - first.mean(axis=0)) / np.sqrt(len(first) - 1)
    b = (second - second.mean(axis=0)) / np.sqrt(len(second) - 1)
    shared = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float(shift @ shift + (a**2).sum() + (b**2).sum() - 2 * shared)


def squared_discrepancy(one: Features, other: Features) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy with the kernel (x.y / d + 1)^3.

    Binkowski et al., Demystifying MMD GANs, ICLR 2018. Its mean is 0 for two samples of one distribution, and a single
    value may be negative. Raises ValueError below two rows.
    """
    n, m = len(one), len(other)
    if min(n, m) < 2:
        raise ValueError("the estimate needs two pictures of each set")
    first, second = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)

    def kernel(a: Features, b: Features) -> npt.NDArray[np.float64]:
        return np.asarray((a @ b.T / a.shape[1] + 1.0) ** 3)

    within = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (kernel(first, first), kernel(second, second))]
    return float(within[0] + within[1] - 2 * kernel(first, second).mean())


@dataclass(frozen=True, slots=True)
class KernelDistance:
    """Mean and standard deviation of the squared discrepancy over random subsets of `size` pictures."""

    value: float
    deviation: float
    size: int


def kernel_distance(one: Features, other: Features, seed: int, subsets: int = 100, size: int = 100) -> KernelDistance:
    """Kernel inception distance over `subsets` pairs of subsets, drawn without replacement by the seed.

    A subset holds at most half of the smaller set, or all subsets would be alike. Raises ValueError below four rows.
    """
    size = min(size, min(len(one), len(other)) // 2)
    generator = np.random.default_rng(seed)
    values = [
        squared_discrepancy(
            one[generator.choice(len(one), size, replace=False)],
            other[generator.choice(len(other), size, replace=False)],
        )
        for _ in range(subsets)
    ]
    return KernelDistance(float(np.mean(values)), float(np.std(values)), size)

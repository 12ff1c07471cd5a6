"""The quantizers' formulas in numpy and float64, as far from the code under test as can be."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


def squared_distances(z: Array, codebook: Array) -> Array:
    """(N, K) of z (N, D) and codebook (K, D)."""
    return np.array([[((row - code) ** 2).sum() for code in codebook] for row in z])


def nearest(z: Array, codebook: Array) -> Indices:
    return squared_distances(z, codebook).argmin(1)


def nearest_margin(z: Array, codebook: Array) -> Array:
    """(s1 - s2) / (|s1| + |s2|) of s = z·μ - |μ|²/2, all centred on the codebook's mean."""
    codes, rows = codebook - codebook.mean(0), z - codebook.mean(0)
    s = np.sort([[row @ code - code @ code / 2 for code in codes] for row in rows], axis=1)
    return (s[:, -1] - s[:, -2]) / (np.abs(s[:, -1]) + np.abs(s[:, -2]))


def codebook_gradient(z: Array, codebook: Array) -> Array:
    """Of mean (sg z - μ_j)² over N and D, j the nearest code."""
    gradient = np.zeros_like(codebook)
    for row, j in zip(z, nearest(z, codebook), strict=True):
        gradient[j] += 2.0 * (codebook[j] - row) / z.size
    return gradient


def commitment_gradient(z: Array, codebook: Array) -> Array:
    """Of mean (z - sg μ_j)² over N and D, j the nearest code."""
    return 2.0 * (z - codebook[nearest(z, codebook)]) / z.size


@dataclass
class MovingAverages:
    """van den Oord et al. 2017, A.1, with Laplace smoothing: N_c, m_c and μ_c = m_c / N_c."""

    counts: Array
    sums: Array
    decay: float

    def update(self, z: Array, indices: Indices) -> None:
        for c in range(len(self.counts)):
            chosen = z[indices == c]
            self.counts[c] = self.decay * self.counts[c] + (1 - self.decay) * len(chosen)
            self.sums[c] = self.decay * self.sums[c] + (1 - self.decay) * chosen.sum(0)

    @property
    def codebook(self) -> Array:
        total, epsilon = self.counts.sum(), 1e-5
        smoothed = (self.counts + epsilon) / (total + len(self.counts) * epsilon) * total
        return self.sums / smoothed[:, None]


def softmax(logits: Array) -> Array:
    p = np.exp(logits - logits.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def entropy_of(q: Array) -> float:
    """mean_n H(q_n) of rows q (N, K)."""
    return float(-(q * np.log(q)).sum(1).mean())


def divergence_of(q: Array) -> float:
    """mean_n Σ_c q log(K q) of rows q (N, K)."""
    return float((q * np.log(q * q.shape[1])).sum(1).mean())


def usage_of(q: Array) -> float:
    """KL(q̄ || uniform) of rows q (N, K)."""
    mean = q.mean(0)
    return float((mean * np.log(mean * len(mean))).sum())


def numeric_gradient(function: Callable[[Array], float], at: Array, step: float = 1e-5) -> Array:
    """Central differences, one number at a time."""
    gradient = np.empty_like(at)
    for place in np.ndindex(*at.shape):
        ends = []
        for shift in (step, -step):
            moved = at.copy()
            moved[place] += shift
            ends.append(function(moved))
        gradient[place] = (ends[0] - ends[1]) / (2.0 * step)
    return gradient

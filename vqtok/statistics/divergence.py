"""How far a histogram of tokens lies from that of the reference."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNSEEN = 0.5
"""Added to every code's count in the reference, so that a code it never saw costs much, and not
infinitely much (Krichevsky and Trofimov 1981)."""


@dataclass(frozen=True)
class Divergence:
    """`kl_bits` KL(live || reference) and `js_bits` Jensen-Shannon, in bits and summed over levels
    of depth; `new_code_rate` the share of live tokens on codes that the reference never saw, mean
    over levels.
    """

    kl_bits: float
    js_bits: float
    new_code_rate: float


class ReferenceUsage:
    """Counts of reference tokens, (K,) or (depth, K), made ready for comparisons."""

    def __init__(self, counts: NDArray[np.int64]) -> None:
        self.counts = counts.reshape(-1, counts.shape[-1])
        smoothed = self.counts + UNSEEN
        self.shares: NDArray[np.float64] = smoothed / smoothed.sum(axis=1, keepdims=True)

    def kl_bits(self, weights: NDArray[Any]) -> float:
        """KL of a histogram (depth, K) that is not empty; see `Divergence`."""
        return sum(
            float((live * np.log2(live / shares)).sum()) for live, shares, _ in self._seen(weights)
        )

    def compare(self, weights: NDArray[Any]) -> Divergence:
        """All figures of a histogram (depth, K) that is not empty."""
        shannon = new = 0.0
        for live, shares, counts in self._seen(weights):
            middle = (live + shares) / 2
            one = float((live * np.log2(live / middle)).sum())
            # Where nothing is live, log2(reference / middle) is 1.
            other = float((shares * np.log2(shares / middle)).sum()) + 1 - float(shares.sum())
            shannon += (one + other) / 2
            new += float(live[counts == 0].sum()) / len(weights)
        return Divergence(self.kl_bits(weights), shannon, new)

    def _seen(
        self, weights: NDArray[Any]
    ) -> list[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]]:
        """For each level, of the codes with live tokens: live shares, reference shares, counts."""
        found: list[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]] = []
        for level, shares, counts in zip(weights, self.shares, self.counts, strict=True):
            codes = np.flatnonzero(level)
            found.append((level[codes] / level.sum(), shares[codes], counts[codes]))
        return found

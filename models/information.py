"""Entropies of distributions over codes, in nats, with gradient."""

from torch import Tensor

SMALLEST = 1e-12


def entropy(probabilities: Tensor) -> Tensor:
    """H of (…, K) numbers that sum to 1, over the last axis: (…,)."""
    p = probabilities.clamp_min(SMALLEST)
    return -(p * p.log()).sum(-1)

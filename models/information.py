"""Entropies of distributions over codes, and of Gaussian noise, in nats, with gradient."""

import math

import torch
from torch import Tensor

SMALLEST = 1e-12


def entropy(probabilities: Tensor) -> Tensor:
    """H of (…, K) numbers that sum to 1, over the last axis: (…,)."""
    p = probabilities.clamp_min(SMALLEST)
    return -(p * p.log()).sum(-1)


def cross_entropy(probabilities: Tensor, log_prior: Tensor) -> Tensor:
    """-Σ p log r of p (…, K) and log r (…, K) or (K,): (…,), H(p) where r = p, never less."""
    return -(probabilities * log_prior).sum(-1)


def divergence_from_uniform(probabilities: Tensor) -> Tensor:
    """KL(p || uniform) = log K - H(p) of (…, K): (…,) in [0, log K]."""
    return math.log(probabilities.shape[-1]) - entropy(probabilities)


def mutual_information(posteriors: Tensor) -> Tensor:
    """I(X; Z) = H(q̄) - mean_n H(q_n) of posteriors (N, K) of equally likely samples: ()."""
    return entropy(posteriors.mean(0)) - entropy(posteriors).mean()


def gaussian_entropy(variance: Tensor, dim: int) -> Tensor:
    """D/2 log(2πe σ²) of N(·, σ² I) in D dimensions; negative where σ² < 1/(2πe) = 0.0585."""
    return 0.5 * dim * (math.log(2.0 * math.pi * math.e) + torch.log(variance))

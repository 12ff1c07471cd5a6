"""Softmax assignments of tokens to codes, exact and relaxed, for quantizers that train with them.

softmax and log_softmax throughout, never exp or logsumexp: where exp underflows, as it does for all
but the nearest codes, those are thirty times slower on a CPU.
"""

import math

import torch
from torch import Tensor

from models.collectives import global_mean
from models.quantizers.base import Posterior
from models.randomness import DRAW_STREAM, GUMBEL_STREAM, Noise, Progress

TOKENS_PER_CHUNK = 256


def required(progress: Progress | None) -> Progress:
    """`progress`, which training draws by. Raises ValueError where it is missing."""
    if progress is None:
        raise ValueError("training needs `progress`: its noise and its temperature")
    return progress


def posterior_of(logits: Tensor) -> Posterior:
    """q(c|x) = softmax of logits (N, K) as its mean over all tokens and its mean entropy."""
    q = logits.softmax(1)
    entropy = -(q * logits.log_softmax(1)).sum(1).mean()
    return Posterior(global_mean(q.mean(0)), entropy)


def divergence_from_uniform(posterior: Posterior) -> Tensor:
    """mean_n Σ_c q(c|x_n) log(K q(c|x_n)) = log K - mean_n H(q(c|x_n)), in nats, at least 0."""
    return (math.log(len(posterior.mean)) - posterior.entropy).clamp_min(0.0)


def relaxed_draw(logits: Tensor, noise: Noise, temperature: float) -> tuple[Tensor, Tensor]:
    """Of logits (N, K), tokens of whole samples in order: weights y (N, K) and indices (N,).

    y = softmax((l + g) / temperature), g Gumbel noise (Jang et al. 2017, equation 2). The indices,
    argmax of l + g, are exact draws from softmax(l) at any temperature.
    """
    noisy = logits + _gumbel(noise, *logits.shape)
    # `max` walks the row in vector registers; `argmax` alone does not.
    return (noisy / temperature).softmax(1), noisy.detach().max(1).indices


def _gumbel(noise: Noise, num_tokens: int, codebook_size: int) -> Tensor:
    """(num_tokens, K), drawn in parts that stay in the processor's cache."""
    tokens = num_tokens // noise.num_samples
    step = max(1, TOKENS_PER_CHUNK // tokens)
    parts = [
        noise.of_samples(start, start + step).gumbel(GUMBEL_STREAM, tokens * codebook_size)
        for start in range(0, noise.num_samples, step)
    ]
    return torch.cat(parts).view(num_tokens, codebook_size)


@torch.no_grad()
def mean_of_draws(q: Tensor, noise: Noise, num_draws: int) -> Tensor:
    """(N, K): the mean of `num_draws` one-hot draws from each row of q (N, K).

    By inverting the distribution function, one uniform number a draw; their 23 bits see no
    probability below 1e-7.
    """
    per_sample = len(q) // noise.num_samples * num_draws
    u = noise.uniform(DRAW_STREAM, per_sample).view(len(q), num_draws).to(q)
    cumulative = q.cumsum(1)
    # The first place that reaches u > 0 has a probability > 0, and the last place reaches any u.
    draws = torch.searchsorted(cumulative, u * cumulative[:, -1:])
    share = torch.full_like(u, 1.0 / num_draws)
    return torch.zeros_like(q).scatter_add_(1, draws, share)

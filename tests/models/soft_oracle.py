"""Softmax quantizers' formulas in numpy and float64, and what their tests share."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.quantizers.base import to_tokens
from models.randomness import GUMBEL_STREAM, Noise, Progress
from tests.models.oracle import Array, Indices, numeric_gradient, softmax, squared_distances

SAMPLES, SIDE, NUM_STEPS = 3, 2, 10
TOKENS_PER_SAMPLE = SIDE * SIDE
TOKENS = SAMPLES * TOKENS_PER_SAMPLE


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


@dataclass(frozen=True)
class Sqvae:
    """SQ-VAE of heads (B, T, channels), T tokens a sample, codebook (K, D) and φ ()."""

    heads: Array
    codebook: Array
    phi: Array
    kind: str
    temperature: float
    gumbel: Array | float = 0.0

    @property
    def z(self) -> Array:
        return self.heads[..., : self.codebook.shape[1]].reshape(-1, self.codebook.shape[1])

    @property
    def w(self) -> Array:
        """(N, D) for IV, else (N, 1)."""
        log_v = self.heads[..., self.codebook.shape[1] :]
        if self.kind == "I":
            log_v = np.zeros((*self.heads.shape[:2], 1))
        if self.kind == "II":
            log_v = np.broadcast_to(log_v.mean(1, keepdims=True), log_v.shape)
        variance = np.exp(log_v) + np.exp(self.phi)
        return (1.0 / np.maximum(variance, 1e-10)).reshape(len(self.z), -1)

    @property
    def logits(self) -> Array:
        difference = self.z[:, None, :] - self.codebook[None, :, :]
        return -0.5 * (self.w[:, None, :] * difference**2).sum(2)

    @property
    def q(self) -> Array:
        return softmax(self.logits)

    @property
    def drawn(self) -> Indices:
        return (self.logits + self.gumbel).argmax(1)

    @property
    def z_q(self) -> Array:
        return softmax((self.logits + self.gumbel) / self.temperature) @ self.codebook

    @property
    def discrete(self) -> float:
        return divergence_of(self.q)

    def distance(self, z_q: Array) -> float:
        return float((0.5 * self.w * (self.z - z_q) ** 2).sum(1).mean())

    @property
    def continuous(self) -> float:
        return self.distance(self.z_q)

    def gradients(self, f: Callable[["Sqvae"], float]) -> tuple[Array, ...]:
        """Of f to heads, codebook and φ."""
        return (
            numeric_gradient(lambda heads: f(replace(self, heads=heads)), self.heads),
            numeric_gradient(lambda codes: f(replace(self, codebook=codes)), self.codebook),
            numeric_gradient(lambda phi: f(replace(self, phi=phi)), self.phi),
        )


def em_posterior(z: Array, codebook: Array, temperature: float) -> Array:
    """q(c|x) (N, K) of soft EM."""
    return softmax(-squared_distances(z, codebook) / temperature)


def inverse_draws(q: Array, u: Array) -> Indices:
    """(N, m): of each row of q (N, K), the codes at which its distribution reaches u (N, m)."""
    reached = np.cumsum(q, axis=1)[:, None, :] >= u[:, :, None]
    return np.asarray(reached.argmax(2))


def progress(step: int = 3, samples: tuple[int, ...] = (4, 11, 2)) -> Progress:
    return Progress(step, NUM_STEPS, Noise(7, step, torch.tensor(samples)))


def many(samples: int) -> Progress:
    """For `samples` samples."""
    return Progress(0, 1, Noise(0, 0, torch.arange(samples)))


def gumbel_of(given: Progress, codebook_size: int) -> Array:
    drawn = given.noise.gumbel(GUMBEL_STREAM, TOKENS_PER_SAMPLE * codebook_size)
    return drawn.reshape(-1, codebook_size).double().numpy()


def random_head(channels: int, seed: int = 1) -> Tensor:
    """(SAMPLES, channels, SIDE, SIDE) float64, which wants its gradient."""
    generator = torch.Generator().manual_seed(seed)
    shape = (SAMPLES, channels, SIDE, SIDE)
    return torch.randn(shape, dtype=torch.double, generator=generator).requires_grad_()


def tokens_of(x: Tensor) -> Array:
    """(N, C) of (B, C, h, w)."""
    return to_tokens(x.detach()).numpy()


def pulled(z_q: Tensor) -> tuple[Tensor, Array]:
    """<pull, z_q> for a fixed random pull, and the pull as (N, D)."""
    pull = torch.randn(z_q.shape, generator=torch.Generator().manual_seed(2)).double()
    return (pull * z_q).sum(), to_tokens(pull).numpy()


def assert_close(got: Any, expected: Any) -> None:
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-11)


def assert_gradients(got: tuple[Tensor, ...], expected: tuple[Array, ...]) -> None:
    """Autograd's against central differences, none of which may be all but zero."""
    for ours, theirs in zip(got, expected, strict=True):
        assert np.abs(theirs).max() > 1e-4
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)


def assert_frequencies(counts: Array | Indices, probabilities: Array) -> None:
    """Within 4.5 standard errors of independent draws, and with Pearson's χ² in its bounds."""
    total, degrees = counts.sum(), len(probabilities) - 1
    error = 4.5 * np.sqrt(probabilities * (1 - probabilities) / total)
    assert (np.abs(counts / total - probabilities) <= error).all()
    chi2 = ((counts - total * probabilities) ** 2 / (total * probabilities)).sum()
    assert chi2 < degrees + 4.5 * np.sqrt(2.0 * degrees)

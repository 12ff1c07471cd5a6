"""SQ-VAE's formulas in numpy and float64."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from tests.models.oracle import Array, Indices, divergence_of, numeric_gradient, softmax


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

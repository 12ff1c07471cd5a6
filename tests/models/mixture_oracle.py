"""GM-VQ's formulas in numpy and float64, and their gradients by differences."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from tests.models.oracle import (
    Array,
    Indices,
    entropy_of,
    numeric_gradient,
    softmax,
    squared_distances,
    usage_of,
)


@dataclass(frozen=True)
class Mixture:
    """GM-VQ, equations 15 to 18, of heads (N, 2 D) or (N, D + 1) and codebook (K, D).

    gumbel (N, K) is 0 where tokens are the argmax of the logits; epsilon (N, D) standard normal.
    """

    heads: Array
    codebook: Array
    offset: float
    two_sigma2: float = 1.0
    temperature: float = 1.0
    gumbel: Array | float = 0.0
    assignment_temperature: float = 1.0

    @property
    def z(self) -> Array:
        return self.heads[:, : self.codebook.shape[1]]

    @property
    def w(self) -> Array:
        """(N, D), or (N, 1) where a token has one precision."""
        raw = self.heads[:, self.codebook.shape[1] :] + self.offset
        return np.minimum(np.log1p(np.exp(-np.abs(raw))) + np.maximum(raw, 0.0), 1e3)

    @property
    def logits(self) -> Array:
        difference = self.z[:, None, :] - self.codebook[None, :, :]
        logits = -0.5 * (self.w[:, None, :] * difference**2).sum(2)
        return logits / self.assignment_temperature

    @property
    def posterior(self) -> Array:
        return softmax(self.logits)

    @property
    def posterior_mean(self) -> Array:
        return self.posterior.mean(0)

    @property
    def indices(self) -> Indices:
        return (self.logits + self.gumbel).argmax(1)

    @property
    def commitment(self) -> float:
        spread = self.posterior * squared_distances(self.z, self.codebook)
        return spread.sum(1).mean() / self.two_sigma2

    @property
    def usage(self) -> float:
        return usage_of(self.posterior)

    @property
    def entropy(self) -> float:
        return entropy_of(self.posterior)

    def relaxed_codes(self, codebook: Array) -> Array:
        """y @ codebook, y = softmax((l + g) / temperature): what the straight-through pulls at."""
        return softmax((self.logits + self.gumbel) / self.temperature) @ codebook

    def variances(self, indices: Indices) -> Array:
        """(N, 1): equation 18 for the codes of the tokens."""
        distance = ((self.z - self.codebook[indices]) ** 2).sum(1, keepdims=True)
        return distance / self.codebook.shape[1] / self.two_sigma2


def numeric_gradients(mixture: Mixture, f: Callable[[Mixture], float]) -> tuple[Array, Array]:
    return (
        numeric_gradient(lambda heads: f(replace(mixture, heads=heads)), mixture.heads),
        numeric_gradient(lambda codes: f(replace(mixture, codebook=codes)), mixture.codebook),
    )


def straight_through_gradients(mixture: Mixture, pull: Array) -> tuple[Array, Array]:
    """Of <pull, z_c>: through y @ sg M to the logits, and to the chosen row of M."""
    fixed = mixture.codebook
    of_head, of_codes = numeric_gradients(
        mixture, lambda m: float((pull * m.relaxed_codes(fixed)).sum())
    )
    np.add.at(of_codes, mixture.indices, pull)
    return of_head, of_codes


def noise_gradients(mixture: Mixture, pull: Array, epsilon: Array, kind: str) -> tuple[Array, ...]:
    """Of <pull, σ ε>, the tokens held fixed."""
    chosen = mixture.indices

    def value(m: Mixture) -> float:
        variances = m.variances(chosen)
        variances = variances if kind == "token" else variances.mean()
        return float((pull * np.sqrt(variances + 1e-8) * epsilon).sum())

    return numeric_gradients(mixture, value)

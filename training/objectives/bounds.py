"""Lower bounds of log p(x) under a Gaussian mixture, and what ALBO minimises beside them.

The model is c uniform over K codes, z ~ N(μ_c, σ_z² I), x ~ p(x|z). The posterior of GM-VQ is
q(c|x) q(z|x, c), q(z|x, c) = N(μ_c, σ_c²(x) I). Every function gives (N,) nats per sample.

`coupled_bound` and `product_bound` hold for every posterior. `aggregated_objective` is what GM-VQ
(arXiv 2410.10180, equation 11) trains once its regulariser is that of the coupled posterior: it
takes KL(q̄ || uniform) for the mean of KL(q(c|x) || uniform), which is larger by I(x; c), and
without the noise's entropy it drops a number of any sign (the paper, A.2, takes it for positive).
It is no bound either way: it exceeds log p(x) where the posteriors are narrow.
"""

import math
from dataclasses import dataclass

from torch import Tensor

from models.information import divergence_from_uniform, gaussian_entropy


@dataclass(frozen=True)
class MixturePosterior:
    """What the bounds read.

    posterior (N, K): q(c|x_n). variance (N, K): σ_c²(x_n) > 0. codebook (K, D).
    prior_variance: σ_z² > 0 of the model.
    posterior_mean (K,): q̄, some distribution over codes that knows no x; the batch's mean.
    """

    posterior: Tensor
    variance: Tensor
    codebook: Tensor
    prior_variance: float
    posterior_mean: Tensor

    @property
    def dim(self) -> int:
        return self.codebook.shape[1]

    @property
    def noise_entropy(self) -> Tensor:
        """Σ_c q(c|x) h(q(z|x, c)), at most the entropy of q(z|x)."""
        return (self.posterior * gaussian_entropy(self.variance, self.dim)).sum(1)

    @property
    def coupled_distance(self) -> Tensor:
        """E |z - μ_c|² under q(c|x) q(z|x, c)."""
        return self.dim * (self.posterior * self.variance).sum(1)

    @property
    def product_distance(self) -> Tensor:
        """E |z - μ_c|² under q̄(c) q(z|x)."""
        squares = self.codebook.square().sum(1)
        between = squares[:, None] + squares - 2.0 * self.codebook @ self.codebook.t()
        return self.coupled_distance + self.posterior @ between @ self.posterior_mean

    def prior_log_density(self, distance: Tensor) -> Tensor:
        """E log p(z|c) of E |z - μ_c|²."""
        normaliser = 0.5 * self.dim * math.log(2.0 * math.pi * self.prior_variance)
        return -distance / (2.0 * self.prior_variance) - normaliser


def coupled_bound(log_likelihood: Tensor, q: MixturePosterior) -> Tensor:
    """The evidence lower bound of q(c|x) q(z|x, c); log_likelihood (N,) is E log p(x|z)."""
    regular = q.prior_log_density(q.coupled_distance)
    return log_likelihood + regular - divergence_from_uniform(q.posterior) + q.noise_entropy


def product_bound(log_likelihood: Tensor, q: MixturePosterior) -> Tensor:
    """The bound of q̄(c) q(z|x), the entropy of q(z|x) replaced by its own lower bound."""
    regular = q.prior_log_density(q.product_distance)
    return log_likelihood + regular - divergence_from_uniform(q.posterior_mean) + q.noise_entropy


def aggregated_objective(
    log_likelihood: Tensor, q: MixturePosterior, *, noise_entropy: bool
) -> Tensor:
    """The coupled distance with KL(q̄ || uniform): an objective, not a bound (see above)."""
    regular = q.prior_log_density(q.coupled_distance)
    value = log_likelihood + regular - divergence_from_uniform(q.posterior_mean)
    return value + q.noise_entropy if noise_entropy else value

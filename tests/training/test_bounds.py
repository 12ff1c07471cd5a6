"""The two bounds hold on a mixture whose log p(x) is known, and what ALBO minimises is none."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from models.information import mutual_information
from training.objectives.bounds import (
    MixturePosterior,
    aggregated_objective,
    coupled_bound,
    product_bound,
)

SETTINGS, SAMPLES = 400, 8


@dataclass(frozen=True)
class Setting:
    """One-dimensional: z ~ N(μ_c, σ_z²), x ~ N(z, σ_x²), c uniform."""

    x: Tensor
    q: MixturePosterior
    sigma2_x: float

    @property
    def log_p(self) -> Tensor:
        """log p(x), exact: a mixture of N(μ_c, σ_z² + σ_x²)."""
        codes = self.q.codebook[:, 0]
        variance = self.q.prior_variance + self.sigma2_x
        densities = torch.distributions.Normal(codes, math.sqrt(variance)).log_prob(self.x[:, None])
        return densities.logsumexp(1) - math.log(len(codes))

    @property
    def log_likelihood(self) -> Tensor:
        """E log p(x|z) under q(c|x) N(μ_c, σ_c²), exact."""
        squares = (self.x[:, None] - self.q.codebook[:, 0]) ** 2 + self.q.variance
        error = (self.q.posterior * squares).sum(1)
        return -0.5 * (math.log(2.0 * math.pi * self.sigma2_x) + error / self.sigma2_x)


def random_setting(generator: torch.Generator) -> Setting:
    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.double)

    def between(low: float, high: float) -> float:
        """Even on a logarithmic scale."""
        u = torch.rand((), generator=generator, dtype=torch.double).item()
        return low * (high / low) ** u

    num_codes = int(torch.randint(2, 9, (), generator=generator))
    codes = between(0.3, 3.0) * normal(num_codes)
    sigma_z, sigma_x = between(0.03, 1.0), between(0.03, 1.0)
    z = codes[torch.randint(num_codes, (SAMPLES,), generator=generator)] + sigma_z * normal(SAMPLES)
    z_hat = z + 0.3 * sigma_z * normal(SAMPLES)
    precision = between(0.01, 10.0) / sigma_z**2
    posterior = (-0.5 * precision * (z_hat[:, None] - codes) ** 2).softmax(1)
    variance = sigma_z**2 * (0.5 * normal(SAMPLES, num_codes) - 0.5).exp()
    q = MixturePosterior(posterior, variance, codes[:, None], sigma_z**2, posterior.mean(0))
    return Setting(z + sigma_x * normal(SAMPLES), q, sigma_x**2)


@pytest.fixture(scope="module")
def settings() -> list[Setting]:
    generator = torch.Generator().manual_seed(0)
    return [random_setting(generator) for _ in range(SETTINGS)]


def test_both_bounds_hold_for_every_sample_of_every_setting(settings: list[Setting]) -> None:
    slack = []
    for s in settings:
        for bound in (coupled_bound, product_bound):
            gap = s.log_p - bound(s.log_likelihood, s.q)
            assert (gap >= -1e-9).all()
            slack.append(float(gap.min()))
    assert min(slack) < 0.2, "so loose that a wrong sign would not show"


def exceeding(settings: list[Setting], *, noise_entropy: bool) -> int:
    """In how many settings the mean over samples exceeds that of log p(x)."""
    return sum(
        bool(aggregated_objective(s.log_likelihood, s.q, noise_entropy=noise_entropy).mean() > mean)
        for s in settings
        for mean in [s.log_p.mean()]
    )


def test_the_aggregated_objective_is_no_bound(settings: list[Setting]) -> None:
    assert exceeding(settings, noise_entropy=False) > SETTINGS // 4
    assert exceeding(settings, noise_entropy=True) > SETTINGS // 5


def test_the_aggregated_objective_is_the_coupled_bound_and_the_information(
    settings: list[Setting],
) -> None:
    """What it lacks beside the entropy of the noise is I(x; c)."""
    for s in settings[:50]:
        added = aggregated_objective(s.log_likelihood, s.q, noise_entropy=True).mean()
        expected = coupled_bound(s.log_likelihood, s.q).mean() + mutual_information(s.q.posterior)
        torch.testing.assert_close(added, expected, rtol=1e-6, atol=1e-6)


def test_the_coupled_bound_is_tight_where_its_posterior_is_exact() -> None:
    """One code and an x that says nothing of z: q(z|x) = p(z|x) = N(μ, σ_z²)."""
    ones = torch.ones(1, 1, dtype=torch.double)
    q = MixturePosterior(ones, 0.25 * ones, ones, 0.25, ones[0])
    s = Setting(torch.zeros(1, dtype=torch.double), q, 1e8)
    for bound in (coupled_bound, product_bound):
        torch.testing.assert_close(bound(s.log_likelihood, q), s.log_p, rtol=0, atol=1e-6)


def test_distances_are_those_of_samples() -> None:
    """E |z - μ_c|² in two dimensions, by drawing z and c."""
    generator = torch.Generator().manual_seed(2)
    codes = torch.randn(4, 2, generator=generator, dtype=torch.double)
    p = torch.rand(1, 4, generator=generator, dtype=torch.double)
    p, mean = p / p.sum(), torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.double)
    variance = torch.rand(1, 4, generator=generator, dtype=torch.double)
    q = MixturePosterior(p, variance, codes, 1.0, mean)
    draws = 400_000
    j = torch.multinomial(p[0], draws, replacement=True, generator=generator)
    other = torch.multinomial(mean, draws, replacement=True, generator=generator)
    noise = torch.randn(draws, 2, generator=generator, dtype=torch.double)
    z = codes[j] + variance[0, j].sqrt()[:, None] * noise
    for expected, c in ((q.coupled_distance, j), (q.product_distance, other)):
        drawn = (z - codes[c]).square().sum(1).mean()
        assert float(drawn) == pytest.approx(float(expected), rel=0.01)

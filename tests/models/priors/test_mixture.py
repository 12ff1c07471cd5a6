"""Codes as a mixture of Gaussians, against its formulas in float64."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.priors.mixture import LatentMixture

K, D, SIGMA = 40, 3, 0.4


@pytest.fixture(name="mixture")
def _mixture() -> LatentMixture:
    generator = torch.Generator().manual_seed(5)
    codes = 2.0 + torch.randn(K, D, generator=generator) * torch.tensor([1.0, 0.3, 4.0])
    weights = torch.rand(K, generator=generator)
    mixture = LatentMixture(K, D)
    mixture.begin(codes, SIGMA, weights / weights.sum())
    return mixture


def oracle(mixture: LatentMixture, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """log r(c | x) (n, K), written from π_c N(z; e_c, σ²) in the decoder's coordinates."""
    mean, scale = mixture.mean.double().numpy(), mixture.scale.double().numpy()
    codes = mixture.codes.double().numpy() * scale + mean
    z = x * scale + mean
    squares = np.square(z[:, None] - codes).sum(-1)
    log_joint = mixture.log_weights.double().numpy() - squares / (2 * SIGMA**2)
    peak = log_joint.max(1, keepdims=True)
    return log_joint - peak - np.log(np.exp(log_joint - peak).sum(1, keepdims=True))


def test_latents_have_mean_zero_and_variance_one(mixture: LatentMixture) -> None:
    weights = mixture.log_weights.double().exp()
    codes = mixture.codes.double()
    mean = weights @ codes
    variance = weights @ codes.square() + mixture.variance.double()
    torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-6, rtol=0)
    torch.testing.assert_close(variance, torch.ones_like(variance), atol=1e-5, rtol=0)
    assert mixture.sigma == pytest.approx(SIGMA)


def test_responsibilities_are_those_of_the_formula(mixture: LatentMixture) -> None:
    x = torch.randn(200, D, generator=torch.Generator().manual_seed(6))
    expected = oracle(mixture, x.double().numpy())
    tokens = torch.arange(200) % K
    found = mixture.responsibility(x, tokens)
    assert found.numpy() == pytest.approx(expected[np.arange(200), tokens], abs=1e-3)


def test_the_guess_is_the_mean_of_the_codes_given_a_noisy_one(mixture: LatentMixture) -> None:
    """At any noise, by the same formula with codes and noise as they are then."""
    kept, variance = torch.tensor(0.6), torch.tensor([0.5, 0.7, 0.9])
    x = torch.randn(50, D, generator=torch.Generator().manual_seed(7))
    codes, at = mixture.codes.double().numpy(), variance.double().numpy()
    squares = (np.square(x.double().numpy()[:, None] - 0.6 * codes) / at).sum(-1)
    weights = np.exp(mixture.log_weights.double().numpy() - 0.5 * squares)
    expected = weights / weights.sum(1, keepdims=True) @ codes
    assert mixture.posterior_mean(x, kept, variance).numpy() == pytest.approx(expected, abs=1e-4)


def test_without_noise_there_is_no_mixture() -> None:
    with pytest.raises(ValueError, match="noise must be positive"):
        LatentMixture(K, D).begin(torch.randn(K, D), 0.0, torch.full((K,), 1 / K))

"""What Wu and Flierl's bottlenecks rest on: seven identities of soft assignments, in float64."""

import math

import pytest
import torch
from torch import Tensor

from models.information import (
    cross_entropy,
    divergence_from_uniform,
    entropy,
    gaussian_entropy,
    mutual_information,
)
from models.quantizers import QUANTIZERS, build_quantizer
from models.quantizers.base import hard_posterior

N, K, D = 500, 16, 3
LOG_K = math.log(K)
TEMPERATURES = [0.001, 0.1, 1.0, 10.0, 1000.0]


def squared_distances() -> Tensor:
    """(N, K) of vectors that use the codes unevenly."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(N, D, generator=generator, dtype=torch.double)
    codes = 1.5 * torch.randn(K, D, generator=generator, dtype=torch.double)
    return torch.cdist(z, codes).square()


def soft(temperature: float) -> Tensor:
    """p(z|i) of equation 28, exp(-|z - e|² / temperature) but for its sum."""
    return (-squared_distances() / temperature).softmax(1)


def hard() -> Tensor:
    return torch.eye(K, dtype=torch.double)[squared_distances().argmin(1)]


def assignments() -> list[Tensor]:
    return [hard(), *(soft(temperature) for temperature in TEMPERATURES)]


def priors() -> list[Tensor]:
    """log r of all kinds."""
    drawn = torch.randn(20, K, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    return list((2.0 * drawn).log_softmax(-1))


def close(one: Tensor, other: Tensor | float) -> None:
    torch.testing.assert_close(one, torch.as_tensor(other, dtype=one.dtype), rtol=1e-9, atol=1e-9)


def test_1_under_a_uniform_prior_the_cross_entropy_is_log_k_and_pulls_nowhere() -> None:
    uniform = torch.full((K,), -LOG_K, dtype=torch.double)
    for p in assignments():
        close(cross_entropy(p.mean(0), uniform), LOG_K)
    logits = (-squared_distances()).requires_grad_()
    cross_entropy(logits.softmax(1), uniform).mean().backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-15
    other = logits.detach().clone().requires_grad_()
    cross_entropy(other.softmax(1), priors()[0]).mean().backward()
    assert other.grad is not None
    assert other.grad.abs().max() > 1e-5


def test_2_a_hard_assignment_has_no_conditional_entropy() -> None:
    assert entropy(hard()).abs().max() < 1e-9
    close(mutual_information(hard()), entropy(hard().mean(0)))
    assert hard_posterior(squared_distances().argmin(1), K).entropy == 0.0


def test_3_where_r_is_the_mean_posterior_the_rates_are_entropy_and_information() -> None:
    for p in assignments():
        mean = p.mean(0)
        cost = cross_entropy(mean, mean.clamp_min(1e-12).log())
        close(cost, entropy(mean))
        close(cost - entropy(p).mean(), mutual_information(p))


def test_4_information_lies_between_0_and_what_codes_and_samples_hold() -> None:
    for p in [*assignments(), hard()[:5], soft(0.001)[:5]]:
        information = mutual_information(p)
        most = min(float(entropy(p.mean(0))), LOG_K, math.log(len(p)))
        assert -1e-12 <= information <= most + 1e-9


def test_5_cold_assignments_are_hard_and_hot_ones_hold_nothing() -> None:
    """Perplexity rises while information falls: it must not be read alone."""
    information = [float(mutual_information(soft(t))) for t in TEMPERATURES]
    perplexity = [float(entropy(soft(t).mean(0)).exp()) for t in TEMPERATURES]
    assert information == sorted(information, reverse=True)
    assert perplexity[1:] == sorted(perplexity[1:])
    assert information[0] == pytest.approx(float(mutual_information(hard())), abs=0.02)
    assert information[-1] < 1e-4
    assert perplexity[-1] > 15.99 > 1.5 * perplexity[0]


def test_6_the_rate_is_information_plus_the_mismatch_of_the_prior() -> None:
    for p in assignments():
        close(LOG_K - entropy(p).mean() - mutual_information(p), divergence_from_uniform(p.mean(0)))
        for log_prior in priors():
            rate = cross_entropy(p.mean(0), log_prior) - entropy(p).mean()
            mismatch = (p.mean(0) * (p.mean(0).clamp_min(1e-300).log() - log_prior)).sum()
            close(rate, mutual_information(p) + mismatch)
            assert mismatch > 0


@pytest.mark.parametrize("method", ["vq", "vq_ema", "gmvq"])
def test_7_what_the_decoder_reads_is_the_codeword_bit_for_bit(method: str) -> None:
    assert method in QUANTIZERS
    quantizer = build_quantizer(method, {"codebook_size": K, "code_dim": D}).eval()
    head = torch.randn(4, quantizer.head_channels, 5, 5)
    result = quantizer(head, None)
    rows = quantizer.code_table()[result.indices]
    assert torch.equal(result.z_q, rows.permute(0, 3, 1, 2))


def test_entropies_of_known_distributions() -> None:
    close(entropy(torch.full((K,), 1.0 / K, dtype=torch.double)), LOG_K)
    close(entropy(torch.tensor([0.5, 0.25, 0.25], dtype=torch.double)), 1.5 * math.log(2.0))
    close(divergence_from_uniform(torch.tensor([1.0, 0.0], dtype=torch.double)), math.log(2.0))
    normal = torch.distributions.Normal(0.0, torch.tensor(0.3, dtype=torch.double))
    close(gaussian_entropy(torch.tensor(0.09, dtype=torch.double), 5), 5 * normal.entropy())


def test_gaussian_entropy_changes_its_sign_where_the_docstring_says() -> None:
    assert (
        gaussian_entropy(torch.tensor(0.0586), 64) > 0 > gaussian_entropy(torch.tensor(0.0585), 1)
    )

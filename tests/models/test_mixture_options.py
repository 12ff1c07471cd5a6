"""GM-VQ's variants against their formulas: regularisers, temperature, gradients, entropies."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from models.quantizers import build_quantizer
from models.quantizers.mixture_noise import SMALLEST_VARIANCE
from models.quantizers.mixture_regulariser import REGULARISERS
from models.randomness import Noise, Progress
from tests.models.few_tokens import (
    NUM_STEPS,
    assert_close,
    assert_gradients,
    gumbel_of,
    progress,
    pulled,
)
from tests.models.mixture_oracle import Mixture, numeric_gradients
from tests.models.mixtures import D, K, build, epsilon_of, formula, gradients, random_head
from tests.models.oracle import Array, squared_distances

TWO_SIGMA2, TEMPERATURE, GUMBEL_TEMPERATURE = 0.7, 0.6, 0.9
OPTIONS: dict[str, Any] = {
    "two_sigma2": TWO_SIGMA2,
    "assignment_temperature": TEMPERATURE,
    "gumbel_temperature": GUMBEL_TEMPERATURE,
}


def mixture_of(quantizer: Any, head: Any, gumbel: Array | float) -> Mixture:
    """The formulas at the temperatures of `OPTIONS`."""
    return replace(
        formula(quantizer, head, gumbel),
        temperature=GUMBEL_TEMPERATURE,
        assignment_temperature=quantizer.assignment_temperature.start,
    )


def straight_through_codes(m: Mixture, at: Mixture) -> Array:
    """The value μ_j at `at`; for logits the slope of the softmax mixture, for codes that of μ_j."""
    fixed = at.codebook
    return m.codebook[at.indices] + m.relaxed_codes(fixed) - at.relaxed_codes(fixed)


def sampled(m: Mixture, at: Mixture, epsilon: Array) -> Array:
    """z = μ_j + σ_j ε, j that of `at`."""
    noise = np.sqrt(m.variances(at.indices) + SMALLEST_VARIANCE) * epsilon
    return straight_through_codes(m, at) + noise


def reading(name: str, m: Mixture, at: Mixture, epsilon: Array) -> float:
    """The four regularisers, as sums over all pairs."""
    if name == "commit":
        return m.commitment
    if name == "commit_hard":
        return ((m.z - straight_through_codes(m, at)) ** 2).sum(1).mean() / m.two_sigma2
    weights = m.posterior if name == "zsoft" else m.posterior_mean
    return (weights * squared_distances(sampled(m, at, epsilon), m.codebook)).sum(1).mean()


@pytest.mark.parametrize("precision", ["per_dimension", "scalar"])
@pytest.mark.parametrize("name", REGULARISERS)
def test_a_regulariser_has_the_value_and_the_gradient_of_its_formula(
    name: str, precision: str
) -> None:
    quantizer = build(regulariser=name, precision=precision, **OPTIONS).train()
    head, given = random_head(quantizer), progress()
    epsilon = epsilon_of(given)
    term = quantizer(head, given).terms["commitment"]
    at = mixture_of(quantizer, head, gumbel_of(given, K))
    assert_close(term.item(), reading(name, at, at, epsilon), rtol=1e-6)
    expected = numeric_gradients(at, lambda m: reading(name, m, at, epsilon))
    assert_gradients(gradients(quantizer, head, term), expected)


def covariance_trace(weights: Array, codes: Array) -> Array:
    """tr Cov of the codes under each row of weights (…, K)."""
    mean = weights @ codes
    return weights @ (codes**2).sum(1) - (mean**2).sum(-1)


@pytest.mark.parametrize("name", REGULARISERS)
def test_a_regularisers_expectation_is_commit_plus_twice_the_codes_spread(name: str) -> None:
    """Under q(c|x) for zsoft, under q̄ for the literal reading: what makes the latter collapse."""
    samples = 5_000
    quantizer = build(regulariser=name, **OPTIONS).train()
    head = random_head(quantizer)[:1].detach()
    noise = Noise(0, 0, torch.arange(samples))
    with torch.no_grad():
        result = quantizer(head.expand(samples, -1, -1, -1), Progress(0, 1, noise))
    m = mixture_of(quantizer, head, 0.0)
    spread = {
        "zsoft": covariance_trace(m.posterior, m.codebook).mean(),
        "literal": covariance_trace(m.posterior_mean, m.codebook),
    }.get(name, 0.0)
    expected = m.commitment + 2.0 * float(spread)
    assert result.terms["commitment"].item() == pytest.approx(expected, rel=0.02)
    assert name in ("commit", "commit_hard") or expected > 1.2 * m.commitment


def test_the_entropys_gradient_is_that_of_its_formula() -> None:
    quantizer = build(**OPTIONS).train()
    head, given = random_head(quantizer), progress()
    entropy = quantizer(head, given).posterior.entropy
    at = mixture_of(quantizer, head, 0.0)
    assert_close(entropy.item(), at.entropy)
    expected = numeric_gradients(at, lambda m: m.entropy)
    assert_gradients(gradients(quantizer, head, entropy), expected)


@pytest.mark.parametrize("dense", [False, True])
def test_the_decoders_gradient_reaches_the_drawn_code_or_all_by_their_share(dense: bool) -> None:
    quantizer = build(noise="off", dense_code_gradient=dense, **OPTIONS).train()
    head, given = random_head(quantizer), progress()
    z_q = quantizer(head, given).z_q
    loss, pull = pulled(z_q)
    at = mixture_of(quantizer, head, gumbel_of(given, K))
    assert_close(loss.item(), (pull * at.codebook[at.indices]).sum())

    def value(m: Mixture) -> float:
        soft = m.relaxed_codes(m.codebook)
        return float((pull * (soft if dense else straight_through_codes(m, at))).sum())

    expected = numeric_gradients(at, value)
    assert_gradients(gradients(quantizer, head, loss), expected)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("temperature", [0.25, 1.0, 4.0])
def test_the_assignment_temperature_divides_the_logits(temperature: float, training: bool) -> None:
    quantizer = build(assignment_temperature=temperature).train(training)
    head, given = random_head(quantizer), progress()
    result = quantizer(head, given)
    at = mixture_of(quantizer, head, gumbel_of(given, K) if training else 0.0)
    assert at.assignment_temperature == temperature
    assert (result.indices.flatten().numpy() == at.indices).all()
    assert_close(result.posterior.mean.detach(), at.posterior_mean)
    assert_close(result.posterior.entropy.item(), at.entropy)
    assert_close(result.terms["commitment"].item(), at.commitment)
    assert_close(result.statistics["precision"].item(), at.w.mean())


def test_the_assignment_temperature_changes_no_token_and_no_margin_of_evaluation() -> None:
    plain, cold = build().eval(), build(assignment_temperature=0.01).eval()
    head = random_head(plain).detach()
    for one, other in zip(plain.assign(head), cold.assign(head), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(plain(head, None).indices, cold(head, None).indices)
    entropies = [q(head, None).posterior.entropy.item() for q in (plain, cold)]
    assert entropies[1] < 0.05 < 0.5 < entropies[0]


def test_evaluation_sees_the_temperature_last_trained_with() -> None:
    ramp = {"start": 2.0, "end": 0.02}
    quantizer = build(assignment_temperature=ramp)
    head, step = random_head(quantizer).detach(), NUM_STEPS // 2
    assert float(quantizer.temperature) == 2.0
    given = progress(step)
    quantizer.after_step(quantizer.train()(head, given), given, {})
    expected = replace(formula(quantizer, head, 0.0), assignment_temperature=0.2).entropy
    assert_close(quantizer.eval()(head, None).posterior.entropy.item(), expected)
    other = build(assignment_temperature=ramp)
    other.load_state_dict(quantizer.state_dict())
    assert_close(other.eval()(head, None).posterior.entropy.item(), expected)


def test_a_constant_temperature_is_no_state() -> None:
    """Weights from before the option, and of all who do not use it, have none."""
    assert set(build(assignment_temperature=0.5).state_dict()) == {"codebook", "offset"}


def drawn_log_variance(m: Mixture, at: Mixture) -> float:
    return math.log(m.variances(at.indices).mean() + SMALLEST_VARIANCE)


def expected_log_variance(m: Mixture, sigma: Mixture) -> float:
    """Weighed by q of `m`, of the variances of `sigma`."""
    variances = squared_distances(sigma.z, sigma.codebook) / D / sigma.two_sigma2
    return float((m.posterior * np.log(variances + SMALLEST_VARIANCE)).sum(1).mean())


def entropy_of(log_variance: float) -> float:
    return 0.5 * D * (math.log(2.0 * math.pi * math.e) + log_variance)


@pytest.mark.parametrize("reaches", ["full", "zhat_only", "none"])
def test_the_component_entropy_is_the_posteriors_mean_of_the_codes_entropies(reaches: str) -> None:
    quantizer = build(component_entropy=True, sigma_gradient=reaches, **OPTIONS).train()
    head, given = random_head(quantizer), progress()
    term = quantizer(head, given).terms["component_entropy"]
    at = mixture_of(quantizer, head, 0.0)
    moved: Callable[[Mixture], Mixture] = {
        "full": lambda m: m,
        "zhat_only": lambda m: replace(m, codebook=at.codebook),
        "none": lambda m: at,
    }[reaches]
    assert_close(term.item(), entropy_of(expected_log_variance(at, at)))
    expected = numeric_gradients(at, lambda m: entropy_of(expected_log_variance(m, moved(m))))
    assert_gradients(gradients(quantizer, head, term), expected)


def test_the_component_entropy_of_one_variance_a_batch_is_that_of_the_drawn_codes() -> None:
    quantizer = build(component_entropy=True, noise="batch_mean", **OPTIONS).train()
    head, given = random_head(quantizer), progress()
    term = quantizer(head, given).terms["component_entropy"]
    at = mixture_of(quantizer, head, gumbel_of(given, K))
    assert_close(term.item(), entropy_of(drawn_log_variance(at, at)))
    expected = numeric_gradients(at, lambda m: entropy_of(drawn_log_variance(m, at)))
    assert_gradients(gradients(quantizer, head, term), expected)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"assignment_temperature": 0.0}, "assignment_temperature must be greater than 0"),
        ({"assignment_temperature": {"start": 1.0, "end": 0.0}}, "assignment_temperature"),
        ({"regulariser": "soft"}, "regulariser is one of commit, commit_hard, zsoft, literal"),
        ({"component_entropy": True, "noise": "off"}, "take another noise than off"),
    ],
)
def test_options_without_a_meaning_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        build_quantizer("gmvq", {"codebook_size": 4, "code_dim": 2, **options})

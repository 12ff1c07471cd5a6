"""GM-VQ against the formulas: forward values, each term's gradient, noise, schedules."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from models.quantizers import Quantized, build_quantizer
from models.quantizers.base import to_tokens
from models.quantizers.gmvq import (
    MAX_PRECISION,
    GaussianMixtureQuantizer,
)
from models.randomness import Noise, Progress
from tests.models import oracle
from tests.models.few_tokens import (
    NUM_STEPS,
    TOKENS,
    assert_close,
    assert_gradients,
    gumbel_of,
    progress,
    pulled,
)
from tests.models.mixture_oracle import (
    noise_gradients,
    numeric_gradients,
    straight_through_gradients,
)
from tests.models.mixtures import (
    D,
    K,
    build,
    divergence,
    epsilon_of,
    formula,
    gradients,
    random_head,
)

Loss = Callable[[Quantized], Tensor]
PRECISIONS = ("per_dimension", "scalar")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("two_sigma2", [1.0, 0.25])
def test_forward_values_are_the_formulas(precision: str, training: bool, two_sigma2: float) -> None:
    quantizer = build(precision=precision, two_sigma2=two_sigma2, noise="off").train(training)
    head, given = random_head(quantizer), progress()
    mixture = formula(quantizer, head, gumbel_of(given, K) if training else 0.0)
    result = quantizer(head, given)
    assert (result.indices.flatten().numpy() == mixture.indices).all()
    assert_close(to_tokens(result.z_q.detach()), mixture.codebook[mixture.indices])
    assert_close(to_tokens(result.z_e), mixture.z)
    assert_close(result.terms["commitment"].item(), mixture.commitment)
    assert_close(divergence(result).item(), mixture.usage)
    assert_close(result.posterior.mean.detach(), mixture.posterior_mean)
    assert_close(result.posterior.entropy.item(), mixture.entropy)
    assert_close(result.statistics["precision"].item(), mixture.w.mean())


@pytest.mark.parametrize("precision", PRECISIONS)
def test_scores_are_the_logits_but_for_a_constant_per_token(precision: str) -> None:
    quantizer = build(precision=precision)
    head = random_head(quantizer)
    scores = quantizer.scores(head).detach().view(TOKENS, K).numpy()
    mixture = formula(quantizer, head, 0.0)
    offsets = scores - mixture.logits
    assert_close(offsets, np.broadcast_to(offsets[:, :1], offsets.shape))
    centred = mixture.z - mixture.codebook.mean(0)
    assert_close(offsets[:, 0], 0.5 * (mixture.w * centred**2 * np.ones(D)).sum(1))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("term", ["commitment", "usage"])
def test_a_terms_gradient_is_that_of_its_formula(term: str, precision: str) -> None:
    quantizer = build(precision=precision, two_sigma2=0.7).train()
    head, given = random_head(quantizer), progress()
    result = quantizer(head, given)
    loss = divergence(result) if term == "usage" else result.terms[term]
    mixture = formula(quantizer, head, gumbel_of(given, K))
    expected = numeric_gradients(mixture, lambda m: getattr(m, term))
    assert_gradients(gradients(quantizer, head, loss), expected)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("step", [0, 3, 6])
def test_the_straight_through_gradient_is_that_of_the_softmax_mixture(
    step: int, precision: str
) -> None:
    """At the temperature of the step, 2 (0.1 / 2)^(step / steps)."""
    quantizer, given = build(precision=precision, noise="off").train(), progress(step)
    head = random_head(quantizer)
    loss, pull = pulled(quantizer(head, given).z_q)
    temperature = 2.0 * math.exp(math.log(0.05) * step / NUM_STEPS)
    mixture = replace(formula(quantizer, head, gumbel_of(given, K)), temperature=temperature)
    expected = straight_through_gradients(mixture, pull)
    assert_gradients(gradients(quantizer, head, loss), expected)


def test_gradients_of_all_outputs_together_are_the_sum() -> None:
    quantizer, given = build(noise="off").train(), progress()
    head = random_head(quantizer)
    parts: list[Loss] = [
        lambda result: pulled(result.z_q)[0],
        lambda result: 2.3 * result.terms["commitment"],
        lambda result: -0.4 * divergence(result),
    ]
    apart = [gradients(quantizer, head, part(quantizer(head, given))) for part in parts]
    result = quantizer(head, given)
    together = gradients(quantizer, head, torch.stack([part(result) for part in parts]).sum())
    for whole, *pieces in zip(together, *apart, strict=True):
        assert_close(whole, sum(pieces))


@pytest.mark.parametrize("two_sigma2", [1.0, 4.0])
@pytest.mark.parametrize("kind", ["token", "batch_mean", "off"])
def test_the_noise_has_the_variance_of_equation_18(kind: str, two_sigma2: float) -> None:
    quantizer, given = build(noise=kind, two_sigma2=two_sigma2).train(), progress()
    head = random_head(quantizer)
    mixture = formula(quantizer, head, gumbel_of(given, K))
    variances = mixture.variances(mixture.indices)
    variances = {"token": variances, "batch_mean": variances.mean(), "off": -1e-8}[kind]
    added = np.sqrt(variances + 1e-8) * epsilon_of(given)
    z_q = to_tokens(quantizer(head, given).z_q.detach())
    assert_close(z_q, mixture.codebook[mixture.indices] + added, rtol=3e-6)


@pytest.mark.parametrize("kind", ["token", "batch_mean"])
@pytest.mark.parametrize("reaches", ["full", "zhat_only", "none"])
def test_sigma_carries_gradient_to_what_the_option_names(reaches: str, kind: str) -> None:
    quantizer, given = build(noise=kind, sigma_gradient=reaches).train(), progress(step=0)
    head = random_head(quantizer)
    loss, pull = pulled(quantizer(head, given).z_q)
    mixture = replace(formula(quantizer, head, gumbel_of(given, K)), temperature=2.0)
    of_head, of_codes = straight_through_gradients(mixture, pull)
    more_head, more_codes = noise_gradients(mixture, pull, epsilon_of(given), kind)
    assert min(np.abs(more_head).max(), np.abs(more_codes).max()) > 1e-2
    expected = (
        of_head + (more_head if reaches != "none" else 0.0),
        of_codes + (more_codes if reaches == "full" else 0.0),
    )
    assert_gradients(gradients(quantizer, head, loss), expected)


def test_a_token_on_its_code_has_a_finite_gradient() -> None:
    quantizer = build().train()
    with torch.no_grad():
        head = random_head(quantizer)
        head[:, :D] = quantizer.codebook[0].view(1, D, 1, 1)
        head[:, D:] = 50.0
    head.requires_grad_()
    loss, _ = pulled(quantizer(head, progress()).z_q)
    assert all(np.isfinite(part).all() for part in gradients(quantizer, head, loss))


@pytest.mark.parametrize("step", range(NUM_STEPS))
def test_tokens_are_drawn_until_argmax_from_and_the_best_thereafter(step: int) -> None:
    quantizer, given = build(argmax_from=0.5).train(), progress(step)
    head = random_head(quantizer)
    gumbel = gumbel_of(given, K) if step < NUM_STEPS // 2 else 0.0
    mixture = formula(quantizer, head, gumbel)
    assert (quantizer(head, given).indices.flatten().numpy() == mixture.indices).all()


def test_tokens_are_drawn_from_the_posterior() -> None:
    quantizer = build().train()
    samples = 20_000
    head = random_head(quantizer)[:1, :, :1, :1].detach()
    noise = Noise(0, 0, torch.arange(samples))
    drawn = quantizer(head.expand(samples, -1, -1, -1), Progress(0, 1, noise)).indices
    posterior = formula(quantizer, head, 0.0).posterior[0]
    frequency = np.bincount(drawn.flatten().numpy(), minlength=K) / samples
    assert posterior.max() < 0.9
    error = 4.5 * np.sqrt(posterior * (1 - posterior) / samples)
    assert (np.abs(frequency - posterior) <= error).all()


def test_the_temperature_falls_exponentially() -> None:
    temperature = build().gumbel_temperature
    assert temperature.at(0.0) == 2.0
    assert temperature.at(0.5) == pytest.approx(math.sqrt(0.2))
    assert temperature.at(1.0) == pytest.approx(0.1)


def test_the_temperature_changes_no_forward_value() -> None:
    hot, cold = (build(gumbel_temperature=t).train() for t in (5.0, 0.01))
    head = random_head(hot)
    for first, second in zip(hot(head, progress())[:3], cold(head, progress())[:3], strict=True):
        assert torch.equal(first, second)


def test_training_without_progress_is_refused_in_words() -> None:
    quantizer = build().train()
    with pytest.raises(ValueError, match="training needs `progress`"):
        quantizer(random_head(quantizer), None)


def test_precision_is_bounded() -> None:
    quantizer = build().eval()
    head = random_head(quantizer).detach()
    head[:, D:] = 1e6
    assert quantizer(head, None).statistics["precision"].item() == MAX_PRECISION == 1e3
    bounded = formula(quantizer, head, 0.0)
    assert (bounded.w == 1e3).all()
    assert (quantizer.indices(head).flatten().numpy() == bounded.indices).all()


@pytest.mark.parametrize("shift", [10.0, -300.0])
def test_a_constant_added_to_vectors_and_codes_changes_nothing(shift: float) -> None:
    quantizer = build(noise="off").train()
    head, given = random_head(quantizer).detach(), progress()
    before, scores = quantizer(head, given), quantizer.scores(head)
    with torch.no_grad():
        quantizer.codebook.add_(shift)
        head[:, :D] += shift
    after = quantizer(head, given)
    assert torch.equal(before.indices, after.indices)
    assert_close(after.z_q.detach() - shift, before.z_q.detach())
    assert_close(after.terms["commitment"].item(), before.terms["commitment"].item())
    assert_close(divergence(after).item(), divergence(before).item())
    assert_close(quantizer.scores(head).detach(), scores.detach())


def test_a_far_constant_leaves_float32_tokens_as_they_are() -> None:
    """Uncentred products would cancel: at 1000 a float32 square is off by 0.06."""
    exact = build()
    coarse = GaussianMixtureQuantizer(K, D)
    head = torch.randn(50, 2 * D, 4, 4, generator=torch.Generator().manual_seed(3)) / 8
    codes = torch.randn(K, D, generator=torch.Generator().manual_seed(4)) / 8
    with torch.no_grad():
        head[:, :D] += 1000.0
        coarse.codebook.copy_(codes + 1000.0)
        exact.codebook.copy_(coarse.codebook)
    expected = formula(exact, head.double(), 0.0).indices
    assert (coarse.indices(head).flatten().numpy() == expected).mean() > 0.999
    drawn = coarse.eval()(head, None)
    assert (drawn.indices.flatten().numpy() == expected).mean() > 0.999
    reference = formula(exact, head.double(), 0.0)
    assert drawn.terms["commitment"].item() == pytest.approx(reference.commitment, rel=1e-3)


@pytest.mark.parametrize(("scale", "w0"), [(1e-4, 50.0), (1.0, None), (1e4, 0.05)])
def test_initialise_puts_the_own_codes_logit_at_minus_half_the_dimension(
    scale: float, w0: float | None
) -> None:
    quantizer = build()
    generator = torch.Generator().manual_seed(5)
    heads = scale * torch.randn(200, 2 * D, dtype=torch.double, generator=generator)
    quantizer.initialise(heads, progress())
    codes = quantizer.codebook.detach().numpy()
    nearest = oracle.squared_distances(heads[:, :D].numpy(), codes).min(1).mean()
    expected = D / nearest if w0 is None else w0
    assert 0.05 <= expected <= 50.0
    assert math.log1p(math.exp(float(quantizer.offset))) == pytest.approx(expected)


def test_the_offset_is_part_of_the_rule() -> None:
    quantizer = build()
    quantizer.offset.fill_(-0.25)
    assert quantizer.rule() == {"offset": -0.25, "max_precision": 1e3}


@pytest.mark.parametrize(
    "option",
    [
        {"gumbel_temperature": 0.0},
        {"two_sigma2": -1.0},
        {"argmax_from": 1.5},
        {"argmax_from": -0.1},
    ],
)
def test_options_out_of_range_are_refused(option: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(option)).split("_")[0]):
        build_quantizer("gmvq", {"codebook_size": 4, "code_dim": 2, **option})

"""Gumbel-VQVAE against the formulas: values, gradients, draws, evaluation that draws nothing."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.quantizers import build_quantizer
from models.quantizers.gumbel import GumbelQuantizer
from models.randomness import INITIALISATION_STEP, Progress
from tests.models.few_tokens import (
    NUM_STEPS,
    SIDE,
    assert_close,
    assert_frequencies,
    assert_gradients,
    gumbel_of,
    many,
    progress,
    pulled,
    random_head,
    tokens_of,
)
from tests.models.oracle import (
    Array,
    divergence_of,
    entropy_of,
    numeric_gradient,
    softmax,
    usage_of,
)

K, D = 5, 3
BOTH = pytest.mark.parametrize("hard", [True, False])


def build(**options: Any) -> GumbelQuantizer:
    torch.manual_seed(0)
    return GumbelQuantizer(K, D, **options).double().train()


def codes_of(quantizer: GumbelQuantizer) -> Array:
    return quantizer.codebook.detach().numpy()


def relaxed(logits: Array, given: Progress) -> Array:
    """y at the temperature of the step, 2 (0.1 / 2)^(step / steps)."""
    temperature = 2.0 * 0.05 ** (given.step / NUM_STEPS)
    return softmax((logits + gumbel_of(given, K)) / temperature)


def gradients(quantizer: GumbelQuantizer, head: Tensor, loss: Tensor) -> tuple[Tensor, Tensor]:
    """To the logits (N, K) and to the codebook."""
    of_head, of_codes = torch.autograd.grad(loss, (head, quantizer.codebook))
    return of_head.permute(0, 2, 3, 1).reshape(-1, K), of_codes


@BOTH
def test_training_values_are_the_formulas(hard: bool) -> None:
    quantizer, head, given = build(hard=hard), random_head(K), progress()
    result, logits, codes = quantizer(head, given), tokens_of(head), codes_of(quantizer)
    drawn = (logits + gumbel_of(given, K)).argmax(1)
    assert (result.indices.flatten().numpy() == drawn).all()
    assert_close(tokens_of(result.z_q), codes[drawn] if hard else relaxed(logits, given) @ codes)
    q = softmax(logits)
    assert_close(tokens_of(result.z_e), q @ codes)
    assert set(result.terms) == {"divergence"}
    assert_close(result.terms["divergence"].item(), divergence_of(q))
    assert_close(result.posterior.mean.detach(), q.mean(0))
    assert_close(result.posterior.entropy.item(), entropy_of(q))


@BOTH
def test_evaluation_is_the_argmax_of_the_logits_and_never_random(hard: bool) -> None:
    """Public code samples there too, so that an image's tokens differ from call to call."""
    quantizer, head = build(hard=hard).eval(), random_head(K)
    logits = tokens_of(head)
    best = logits.argmax(1)
    assert ((logits + gumbel_of(progress(), K)).argmax(1) != best).any()
    for given in (None, progress(), progress(step=5)):
        result = quantizer(head, given)
        assert (result.indices.flatten().numpy() == best).all()
        assert_close(tokens_of(result.z_q), codes_of(quantizer)[best])
        assert_close(result.terms["divergence"].item(), divergence_of(softmax(logits)))


def test_scores_are_the_logits_about_their_mean() -> None:
    quantizer, head = build(), random_head(K)
    logits = tokens_of(head)
    centred = logits - logits.mean(1, keepdims=True)
    assert_close(quantizer.scores(head).detach().reshape(-1, K), centred)
    best = np.sort(centred, axis=1)
    expected = (best[:, -1] - best[:, -2]) / (np.abs(best[:, -1]) + np.abs(best[:, -2]))
    assert_close(quantizer.assign(head)[1].detach().flatten(), expected)
    assert quantizer.rule() == {}


@pytest.mark.parametrize("step", [0, 3, 6])
def test_the_hard_form_has_the_mixtures_gradient_to_the_logits_and_its_tokens_to_the_codes(
    step: int,
) -> None:
    quantizer, head, given = build(), random_head(K), progress(step)
    result = quantizer(head, given)
    loss, pull = pulled(result.z_q)
    codes = codes_of(quantizer)
    of_logits = numeric_gradient(
        lambda logits: float((pull * (relaxed(logits, given) @ codes)).sum()), tokens_of(head)
    )
    of_codes = np.zeros_like(codes)
    np.add.at(of_codes, result.indices.flatten().numpy(), pull)
    assert_gradients(gradients(quantizer, head, loss), (of_logits, of_codes))


def test_the_soft_form_has_the_mixtures_gradient() -> None:
    quantizer, head, given = build(hard=False), random_head(K), progress()
    loss, pull = pulled(quantizer(head, given).z_q)
    logits, codes = tokens_of(head), codes_of(quantizer)

    def value(logits: Array, codes: Array) -> float:
        return float((pull * (relaxed(logits, given) @ codes)).sum())

    expected = (
        numeric_gradient(lambda changed: value(changed, codes), logits),
        numeric_gradient(lambda changed: value(logits, changed), codes),
    )
    assert_gradients(gradients(quantizer, head, loss), expected)


@BOTH
def test_the_divergence_and_the_posterior_pull_the_logits_alone(hard: bool) -> None:
    quantizer, head = build(hard=hard), random_head(K)
    result = quantizer(head, progress())
    mean, entropy = result.posterior
    for loss, formula in (
        (result.terms["divergence"], divergence_of),
        ((mean * mean.log()).sum(), usage_of),
        (entropy, entropy_of),
    ):
        of_head, of_codes = torch.autograd.grad(
            loss, (head, quantizer.codebook), retain_graph=True, allow_unused=True
        )
        expected = numeric_gradient(lambda logits, f=formula: f(softmax(logits)), tokens_of(head))
        assert of_codes is None
        assert_gradients((to_rows(of_head),), (expected,))


def to_rows(head: Tensor) -> Tensor:
    return head.permute(0, 2, 3, 1).reshape(-1, K)


def test_z_e_carries_no_gradient() -> None:
    assert not build()(random_head(K), progress()).z_e.requires_grad


def test_tokens_are_drawn_from_the_posterior() -> None:
    samples, head = 20_000, random_head(K).detach()[:1, :, :1, :1]
    drawn = build()(head.expand(samples, -1, -1, -1), many(samples)).indices
    counts = np.bincount(drawn.flatten().numpy(), minlength=K)
    assert_frequencies(counts, softmax(tokens_of(head))[0])


def test_the_temperature_changes_no_hard_value() -> None:
    hot, cold = (build(gumbel_temperature=t) for t in (5.0, 1e-6))
    head = random_head(K)
    for first, second in zip(hot(head, progress())[:2], cold(head, progress())[:2], strict=True):
        assert torch.equal(first, second)
    assert gradients(cold, head, pulled(cold(head, progress()).z_q)[0])[0].isfinite().all()


def test_the_temperature_falls_from_2_to_a_tenth() -> None:
    temperature = build().gumbel_temperature
    falls = [temperature.at(fraction) for fraction in (0.0, 0.5, 1.0)]
    assert falls == pytest.approx([2.0, math.sqrt(0.2), 0.1])


@BOTH
def test_a_samples_vectors_do_not_depend_on_the_batch(hard: bool) -> None:
    quantizer, head = build(hard=hard), random_head(K)
    whole = quantizer(head, progress(samples=(4, 11, 2))).z_q
    part = quantizer(head[[2, 0]], progress(samples=(2, 4))).z_q
    torch.testing.assert_close(part, whole[[2, 0]], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("samples", [1, 5, 300])
def test_noise_drawn_in_parts_is_that_of_the_whole(samples: int) -> None:
    given = many(samples)
    head = torch.zeros(samples, K, SIDE, SIDE).double()
    whole = given.noise.gumbel(1, SIDE * SIDE * K).reshape(-1, K)
    assert torch.equal(build()(head, given).indices.flatten(), whole.argmax(1))


def test_initialise_leaves_the_codes_which_no_distance_chooses() -> None:
    quantizer = build()
    before = copy.deepcopy(quantizer.state_dict())
    quantizer.initialise(torch.randn(50, K).double(), progress(INITIALISATION_STEP))
    assert all(torch.equal(before[name], t) for name, t in quantizer.state_dict().items())


def test_half_precision_would_pick_other_codes() -> None:
    """Around a constant that all logits share; under autocast they are compared as they are."""
    quantizer = GumbelQuantizer(256, D).eval()
    head = 50.0 + torch.randn(100, 256, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    expected = head.double().argmax(1)
    assert (head.bfloat16().argmax(1) != expected).float().mean() > 0.1
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(quantizer(head, None).indices, expected)
        assert torch.equal(quantizer.indices(head), expected)


def test_training_without_progress_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="training needs `progress`"):
        build()(random_head(K), None)


def test_a_temperature_of_zero_is_refused() -> None:
    options = {"codebook_size": 4, "code_dim": 2, "gumbel_temperature": {"start": 1.0, "end": 0.0}}
    with pytest.raises(ValueError, match="gumbel_temperature: a geometric ramp"):
        build_quantizer("gumbel", options)
    with pytest.raises(ValueError, match="gumbel_temperature must be greater than 0"):
        build_quantizer("gumbel", options | {"gumbel_temperature": -1.0})

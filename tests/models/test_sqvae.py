"""SQ-VAE against the formulas: values, each term's gradient, precisions, draws."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.information import entropy
from models.quantizers import build_quantizer
from models.quantizers.sqvae import MIN_VARIANCE, StochasticQuantizer
from models.randomness import INITIALISATION_STEP
from tests.models import oracle
from tests.models.few_tokens import (
    NUM_STEPS,
    SAMPLES,
    SIDE,
    TOKENS,
    TOKENS_PER_SAMPLE,
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
from tests.models.oracle import entropy_of, usage_of
from tests.models.sqvae_oracle import Sqvae

K, D = 5, 3
KINDS = pytest.mark.parametrize("kind", ["I", "II", "III", "IV"])


def build(kind: str, **options: Any) -> StochasticQuantizer:
    """Of variances about 1, where no probability is near 0 or 1."""
    torch.manual_seed(0)
    options = {"initial_log_variance": -0.5} | options
    quantizer = StochasticQuantizer(K, D, kind=kind, **options).double()  # type: ignore[arg-type]
    torch.nn.init.normal_(quantizer.codebook)
    return quantizer


def formula(quantizer: StochasticQuantizer, head: Tensor, step: int = 3) -> Sqvae:
    heads = tokens_of(head).reshape(SAMPLES, TOKENS_PER_SAMPLE, -1)
    return Sqvae(
        heads=heads,
        codebook=quantizer.codebook.detach().numpy(),
        phi=quantizer.log_variance.detach().numpy(),
        kind=quantizer.kind,
        temperature=math.exp(-1.25 * step / NUM_STEPS),
        gumbel=gumbel_of(progress(step), K),
    )


def gradients(quantizer: StochasticQuantizer, head: Tensor, loss: Tensor) -> tuple[Tensor, ...]:
    """As `Sqvae.gradients`."""
    wanted = (head, quantizer.codebook, quantizer.log_variance)
    of_head, *others = torch.autograd.grad(loss, wanted)
    return of_head.flatten(2).transpose(1, 2), *others


@KINDS
def test_training_values_are_the_formulas(kind: str) -> None:
    quantizer = build(kind).train()
    head = random_head(quantizer.head_channels)
    result, expected = quantizer(head, progress()), formula(quantizer, head)
    assert (result.indices.flatten().numpy() == expected.drawn).all()
    assert_close(tokens_of(result.z_q), expected.z_q)
    assert_close(tokens_of(result.z_e), expected.z)
    assert set(result.terms) == {"discrete", "continuous"}
    assert_close(result.terms["discrete"].item(), expected.discrete)
    assert_close(result.terms["continuous"].item(), expected.continuous)
    assert_close(result.posterior.mean.detach(), expected.q.mean(0))
    assert_close(result.posterior.entropy.item(), entropy_of(expected.q))
    assert_close(result.statistics["precision"], expected.w.mean())


@KINDS
def test_evaluation_takes_the_best_code_and_no_noise(kind: str) -> None:
    quantizer = build(kind).eval()
    head = random_head(quantizer.head_channels)
    result, expected = quantizer(head, None), formula(quantizer, head)
    best = expected.logits.argmax(1)
    assert (best != expected.drawn).any()
    assert (result.indices.flatten().numpy() == best).all()
    assert_close(tokens_of(result.z_q), expected.codebook[best])
    assert_close(result.terms["discrete"].item(), expected.discrete)
    assert_close(result.terms["continuous"].item(), expected.distance(expected.codebook[best]))


@KINDS
@pytest.mark.parametrize("term", ["discrete", "continuous"])
def test_a_terms_gradient_is_that_of_its_formula(term: str, kind: str) -> None:
    quantizer = build(kind).train()
    head = random_head(quantizer.head_channels)
    got = gradients(quantizer, head, quantizer(head, progress()).terms[term])
    expected = formula(quantizer, head).gradients(lambda f: getattr(f, term))
    assert_gradients(got, expected)


@KINDS
def test_the_posteriors_gradient_is_that_of_the_formula(kind: str) -> None:
    quantizer = build(kind).train()
    head = random_head(quantizer.head_channels)
    result = quantizer(head, progress())
    got = gradients(
        quantizer, head, 0.3 * result.posterior.entropy - entropy(result.posterior.mean)
    )
    expected = formula(quantizer, head).gradients(lambda f: usage_of(f.q) + 0.3 * entropy_of(f.q))
    assert_gradients(got, expected)


@KINDS
@pytest.mark.parametrize("step", [0, 7])
def test_z_q_has_the_gradient_of_the_mixture_and_passes_nothing_straight_through(
    kind: str, step: int
) -> None:
    quantizer = build(kind).train()
    head = random_head(quantizer.head_channels)
    loss, pull = pulled(quantizer(head, progress(step)).z_q)
    expected = formula(quantizer, head, step).gradients(lambda f: float((pull * f.z_q).sum()))
    assert_gradients(gradients(quantizer, head, loss), expected)


@KINDS
def test_scores_and_margins_are_those_of_centred_logits(kind: str) -> None:
    """But for the precision of the token, where it has one: it changes neither."""
    quantizer = build(kind).eval()
    head = random_head(quantizer.head_channels).detach()
    expected = formula(quantizer, head)
    scores = quantizer.scores(head).detach().reshape(TOKENS, K).numpy()
    scaled = scores if kind == "IV" else expected.w * scores
    offsets = scaled - expected.logits
    centred = expected.z - expected.codebook.mean(0)
    shared = 0.5 * (expected.w * centred**2 * np.ones(D)).sum(1, keepdims=True)
    assert_close(offsets, np.broadcast_to(shared, offsets.shape))
    best = np.sort(expected.logits + shared, axis=1)
    s1, s2 = best[:, -1], best[:, -2]
    margins = quantizer.assign(head)[1].detach().flatten()
    assert_close(margins, (s1 - s2) / (np.abs(s1) + np.abs(s2)))


@pytest.mark.parametrize("kind", ["I", "II", "III"])
def test_one_variance_a_token_changes_no_token(kind: str) -> None:
    """Nor does φ; what the tokens are is then no matter of the rule."""
    quantizer = build(kind).eval()
    head = random_head(quantizer.head_channels).detach()
    tokens, margins = quantizer.assign(head)
    assert (
        tokens.flatten().numpy() == oracle.nearest(tokens_of(head[:, :D]), code(quantizer))
    ).all()
    with torch.no_grad():
        quantizer.log_variance.add_(4.0)
        head[:1, D:] -= 3.0
    assert torch.equal(quantizer.assign(head)[0], tokens)
    assert torch.equal(quantizer.assign(head)[1], margins)
    assert quantizer.rule() == {}


def code(quantizer: StochasticQuantizer) -> oracle.Array:
    return quantizer.codebook.detach().numpy()


def test_variances_per_dimension_change_tokens_and_are_part_of_the_rule() -> None:
    quantizer = build("IV").eval()
    generator = torch.Generator().manual_seed(3)
    head = torch.randn(40, 2 * D, 2, 2, dtype=torch.double, generator=generator)
    head[:, D:] *= 3.0
    tokens, before = quantizer.indices(head), quantizer.rule()
    assert (
        tokens.flatten().numpy() != oracle.nearest(tokens_of(head[:, :D]), code(quantizer))
    ).any()
    with torch.no_grad():
        quantizer.log_variance.fill_(3.0)
    assert not torch.equal(quantizer.indices(head), tokens)
    assert before == {"log_variance": -0.5, "min_variance": MIN_VARIANCE}
    assert quantizer.rule() == {"log_variance": 3.0, "min_variance": 1e-10}


def test_the_variance_of_an_image_moves_with_all_its_tokens_and_no_other_image() -> None:
    quantizer = build("II").train()
    head = random_head(D + 1).detach()
    before = quantizer(head, progress()).z_q
    head[0, D, 0, 0] += 2.0
    moved = (quantizer(head, progress()).z_q != before).any(dim=1)
    assert moved[0].all()
    assert not moved[1:].any()


@KINDS
def test_narrow_posteriors_are_nearest_code_search(kind: str) -> None:
    """Distances of thousands of standard deviations: mixture, draw and argmax are one code."""
    quantizer = build(kind, initial_log_variance=-50.0).train()
    with torch.no_grad():
        quantizer.codebook.mul_(1e4)
        head = random_head(quantizer.head_channels) * 1e4
        head[:, D:] = 0.0
    nearest = oracle.nearest(tokens_of(head[:, :D]), code(quantizer))
    result = quantizer(head, progress())
    assert (result.indices.flatten().numpy() == nearest).all()
    assert_close(tokens_of(result.z_q), code(quantizer)[nearest])
    assert result.posterior.entropy.item() == pytest.approx(0.0, abs=1e-9)
    assert result.terms["discrete"].item() == pytest.approx(math.log(K))


@pytest.mark.parametrize(("log_v", "precision"), [(-1e3, 1e10), (1e3, 0.0)])
def test_precisions_stay_finite_and_so_do_their_gradients(log_v: float, precision: float) -> None:
    quantizer = build("IV", initial_log_variance=-1e3).train()
    head = random_head(2 * D).detach()
    head[:, D:] = log_v
    head.requires_grad_()
    result = quantizer(head, progress())
    assert result.statistics["precision"].item() == pytest.approx(precision)
    loss = result.terms["discrete"] + result.terms["continuous"]
    assert all(part.isfinite().all() for part in gradients(quantizer, head, loss))


@KINDS
def test_tokens_are_drawn_from_the_posterior(kind: str) -> None:
    quantizer, samples = build(kind).train(), 20_000
    head = random_head(quantizer.head_channels).detach()[:, :, :1, :1]
    given = many(samples)
    drawn = quantizer(head[:1].expand(samples, -1, -1, -1), given).indices
    one = Sqvae(
        tokens_of(head[:1])[:, None],
        code(quantizer),
        quantizer.log_variance.detach().numpy(),
        kind,
        1.0,
    )
    assert one.q.max() < 0.9
    assert_frequencies(np.bincount(drawn.flatten().numpy(), minlength=K), one.q[0])


@KINDS
def test_a_samples_vectors_do_not_depend_on_the_batch(kind: str) -> None:
    quantizer = build(kind).train()
    head = random_head(quantizer.head_channels)
    whole = quantizer(head, progress(samples=(4, 11, 2))).z_q
    part = quantizer(head[[2, 0]], progress(samples=(2, 4))).z_q
    torch.testing.assert_close(part, whole[[2, 0]], rtol=1e-12, atol=1e-12)


@KINDS
def test_half_precision_would_pick_other_codes(kind: str) -> None:
    """Under autocast the search is still that of the head's own numbers."""
    torch.manual_seed(0)
    quantizer = StochasticQuantizer(256, D, kind=kind).eval()  # type: ignore[arg-type]
    head = torch.randn(200, quantizer.head_channels, SIDE, SIDE)
    with torch.no_grad():
        head[:, :D] += 8.0
        quantizer.codebook.add_(8.0)
    expected = copy.deepcopy(quantizer).double().indices(head.double())
    rounded = quantizer.indices(head.bfloat16())
    assert (rounded != expected).float().mean() > 0.01
    with torch.autocast("cpu", torch.bfloat16):
        got = quantizer(head, None).indices
    assert (got != expected).float().mean() < 1e-3


def test_temperature_and_variance_default_to_the_published() -> None:
    quantizer = StochasticQuantizer(K, D).eval()
    ends = [quantizer.gumbel_temperature.at(fraction) for fraction in (0.0, 0.5, 1.0)]
    assert ends == pytest.approx([math.exp(-1e-5 * step) for step in (0, 62_500, 125_000)])
    statistics = quantizer(torch.randn(1, D, 1, 1), None).statistics
    assert statistics["precision"].item() == pytest.approx(1.0 / 21.0)


def test_codes_start_as_k_means_of_the_vectors_alone() -> None:
    quantizer = build("IV")
    centres = 10.0 * torch.eye(5, D).double() + torch.arange(5.0)[:, None]
    heads = torch.cat([centres.repeat(20, 1), 99.0 * torch.randn(100, D)], dim=1).double()
    quantizer.initialise(heads, progress(INITIALISATION_STEP))
    distance = torch.cdist(quantizer.codebook.detach(), centres)
    assert distance.min(1).values.max() < 1e-9
    assert sorted(distance.argmin(1).tolist()) == [0, 1, 2, 3, 4]


def test_training_without_progress_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="training needs `progress`"):
        build("I").train()(random_head(D), None)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"kind": "V"}, "kind must be one of I, II, III, IV, not 'V'"),
        ({"gumbel_temperature": 0.0}, "gumbel_temperature must be greater than 0"),
    ],
)
def test_options_out_of_range_are_refused(option: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_quantizer("sqvae", {"codebook_size": 4, "code_dim": 2, **option})

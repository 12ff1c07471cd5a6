"""VQ-VAE's quantizers against the formulas: search, terms, gradients, moving averages."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models.quantizers.base import to_tokens
from models.quantizers.nearest import nearest_scores
from models.quantizers.vq import VectorQuantizer
from models.quantizers.vq_ema import EmaVectorQuantizer
from models.randomness import Noise, Progress
from tests.models import oracle
from tests.models.code_oracle import on_sphere
from tests.models.oracle import Array

K, D, SAMPLES, SIDE = 7, 3, 2, 3
BOTH = pytest.mark.parametrize("kind", [VectorQuantizer, EmaVectorQuantizer])


def build(kind: type, **options: Any) -> Any:
    torch.manual_seed(0)
    return kind(K, D, **options).double().train()


def random_head(seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    head = torch.randn(SAMPLES, D, SIDE, SIDE, dtype=torch.double, generator=generator)
    return head.requires_grad_()


def progress(step: int = 0) -> Progress:
    return Progress(step, 100, Noise(0, step, torch.arange(SAMPLES)))


def arrays(quantizer: Any, head: Tensor) -> tuple[Array, Array]:
    return to_tokens(head.detach()).numpy(), quantizer.codebook.detach().clone().numpy()


def assert_close(got: Any, expected: Any) -> None:
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


@BOTH
@pytest.mark.parametrize("training", [True, False])
def test_forward_values_are_the_formulas(kind: type, training: bool) -> None:
    quantizer, head = build(kind).train(training), random_head()
    z, codes = arrays(quantizer, head)
    expected = oracle.nearest(z, codes)
    result = quantizer(head, progress())
    assert (result.indices.flatten().numpy() == expected).all()
    assert_close(to_tokens(result.z_q.detach()), codes[expected])
    assert_close(to_tokens(result.z_e), z)
    error = np.mean((z - codes[expected]) ** 2)
    names = {"codebook", "commitment"} if kind is VectorQuantizer else {"commitment"}
    assert set(result.terms) == names
    for term in result.terms.values():
        assert_close(term.item(), error)
    counts = np.bincount(expected, minlength=K)
    assert_close(result.posterior.mean, np.float32(counts / counts.sum()))
    assert result.posterior.entropy.item() == 0.0


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 20), st.integers(1, 8), st.floats(-1e3, 1e3))
def test_the_best_score_is_the_smallest_distance(
    seed: int, num_codes: int, dim: int, shift: float
) -> None:
    rng = np.random.default_rng(seed)
    z, codes = rng.normal(size=(9, dim)) + shift, rng.normal(size=(num_codes, dim)) + shift
    scores = nearest_scores(torch.from_numpy(z), torch.from_numpy(codes)).numpy()
    assert (scores.argmax(1) == oracle.nearest(z, codes)).all()
    centred = ((z - codes.mean(0)) ** 2).sum(1, keepdims=True)
    np.testing.assert_allclose(
        centred - 2 * scores, oracle.squared_distances(z, codes), rtol=1e-6, atol=1e-8
    )


@BOTH
def test_margins_are_those_of_centred_scores(kind: type) -> None:
    quantizer, head = build(kind).eval(), random_head()
    margins = quantizer.assign(head)[1].detach().flatten()
    assert_close(margins, oracle.nearest_margin(*arrays(quantizer, head)))


@BOTH
def test_a_far_constant_leaves_float32_tokens_as_they_are(kind: type) -> None:
    """Uncentred products would cancel: at 1000 a float32 square is off by 0.06."""
    quantizer = kind(K, D)
    head = torch.randn(50, D, 4, 4, generator=torch.Generator().manual_seed(3)) / 8 + 1000.0
    with torch.no_grad():
        quantizer.codebook.copy_(quantizer.codebook / 8 + 1000.0)
    z, codes = arrays(quantizer.double(), head.double())
    expected = oracle.nearest(z, codes)
    assert (quantizer.float().indices(head).flatten().numpy() == expected).mean() > 0.999


@BOTH
def test_the_gradient_passes_straight_through_to_the_head_alone(kind: type) -> None:
    quantizer, head = build(kind), random_head()
    pull = torch.randn(head.shape).double()
    loss = (pull * quantizer(head, progress()).z_q).sum()
    loss.backward()
    assert head.grad is not None
    assert torch.equal(head.grad, pull)
    assert quantizer.codebook.grad is None


@BOTH
def test_commitment_pulls_the_head_alone(kind: type) -> None:
    quantizer, head = build(kind), random_head()
    quantizer(head, progress()).terms["commitment"].backward()
    expected = oracle.commitment_gradient(*arrays(quantizer, head))
    assert head.grad is not None
    assert_close(to_tokens(head.grad), expected)
    assert quantizer.codebook.grad is None


def test_the_codebook_term_pulls_the_codes_alone() -> None:
    quantizer, head = build(VectorQuantizer), random_head()
    quantizer(head, progress()).terms["codebook"].backward()
    assert head.grad is None
    assert quantizer.codebook.grad is not None
    assert_close(quantizer.codebook.grad, oracle.codebook_gradient(*arrays(quantizer, head)))


@pytest.mark.parametrize("decay", [0.0, 0.8, 0.99])
def test_codes_are_moving_averages_of_what_chose_them(decay: float) -> None:
    quantizer = build(EmaVectorQuantizer, decay=decay)
    quantizer.sums[4] = quantizer.codebook[4] = 100.0
    averages = oracle.MovingAverages(np.ones(K), quantizer.codebook.detach().clone().numpy(), decay)
    for step in range(4):
        head = random_head(step)
        z, codes = arrays(quantizer, head)
        chosen = oracle.nearest(z, codes)
        quantizer.after_step(quantizer(head, progress(step)), progress(step), {})
        assert step or 4 not in chosen
        averages.update(z, chosen)
        assert_close(quantizer.counts, averages.counts)
        assert_close(quantizer.sums, averages.sums)
        np.testing.assert_allclose(quantizer.codebook, averages.codebook, rtol=1e-9)


def test_unit_codes_are_directions_of_moving_averages_of_unit_latents() -> None:
    quantizer = build(EmaVectorQuantizer, decay=0.8, normalise=True)
    averages = oracle.MovingAverages(np.ones(K), quantizer.codebook.detach().clone().numpy(), 0.8)
    for step in range(3):
        head = random_head(step)
        z, codes = on_sphere(arrays(quantizer, head)[0]), on_sphere(averages.codebook)
        chosen = oracle.nearest(z, codes)
        result = quantizer(head, progress(step))
        assert_close(to_tokens(result.z_e), z)
        assert_close(to_tokens(result.z_q.detach()), codes[chosen])
        assert_close(result.terms["commitment"].item(), np.mean((z - codes[chosen]) ** 2))
        quantizer.after_step(result, progress(step), {})
        averages.update(z, chosen)
        assert_close(quantizer.sums, averages.sums)
        np.testing.assert_allclose(quantizer.code_table(), on_sphere(averages.codebook), rtol=1e-9)


def test_a_code_that_was_never_chosen_stays_finite() -> None:
    quantizer = build(EmaVectorQuantizer, decay=0.0)
    quantizer.after_step(quantizer(random_head(), progress()), progress(), {})
    assert quantizer.counts.min() == 0.0
    assert quantizer.codebook.isfinite().all()


def test_moving_averages_start_over_from_the_initialised_codes() -> None:
    quantizer = build(EmaVectorQuantizer)
    quantizer.after_step(quantizer(random_head(), progress()), progress(), {})
    quantizer.initialise(torch.randn(50, D).double(), progress())
    assert torch.equal(quantizer.counts, torch.ones(K).double())
    assert torch.equal(quantizer.sums, quantizer.codebook)
    before = quantizer.codebook.clone()
    empty = quantizer(random_head(), progress())._replace(
        z_e=torch.zeros(1, D, 0, 1).double(), indices=torch.zeros(1, 0, 1, dtype=torch.int64)
    )
    quantizer.after_step(empty, progress(), {})
    torch.testing.assert_close(quantizer.codebook, before)


def with_two_far_codes(kind: type) -> Any:
    """Nothing chooses codes 2 and 5, which are replaced after one step."""
    quantizer = build(kind, replace_after=1)
    with torch.no_grad():
        quantizer.codebook.mul_(0.3)
        quantizer.codebook[[2, 5]] += 1e4
        if kind is EmaVectorQuantizer:
            quantizer.sums.copy_(quantizer.codebook)
    return quantizer


def batch_using_all_but_the_far(quantizer: Any) -> Tensor:
    rows = [c for c in range(K) if c not in (2, 5)]
    codes = quantizer.codebook.detach()[rows]
    return codes.t().reshape(1, D, len(rows), 1).clone().requires_grad_()


@BOTH
def test_dead_codes_move_onto_the_batch_and_stay_there(kind: type) -> None:
    quantizer = with_two_far_codes(kind)
    kept = [c for c in range(K) if c not in (2, 5)]
    head = batch_using_all_but_the_far(quantizer)
    before = quantizer.codebook.detach().clone()
    quantizer.after_step(quantizer(head, progress()), progress(), {})
    after = quantizer.codebook.detach().clone()
    torch.testing.assert_close(after[kept], before[kept], rtol=1e-4, atol=1e-4)
    vectors = to_tokens(head.detach())
    distance, chosen = torch.cdist(after[[2, 5]], vectors).min(1)
    assert (distance < 0.1 * vectors[chosen].norm(dim=1)).all()
    assert (distance > 0).all()
    if kind is EmaVectorQuantizer:
        assert torch.equal(quantizer.counts[[2, 5]], torch.ones(2).double())
        torch.testing.assert_close(quantizer.sums[[2, 5]], after[[2, 5]], rtol=1e-4, atol=0)
    later = quantizer(random_head(), progress(1))
    quantizer.dead_codes = None
    quantizer.after_step(later, progress(1), {})
    assert quantizer.codebook.detach().norm(dim=1).max() < 100.0


@BOTH
def test_without_the_option_nothing_is_replaced(kind: type) -> None:
    quantizer = with_two_far_codes(kind)
    quantizer.dead_codes = None
    head = batch_using_all_but_the_far(quantizer)
    quantizer.after_step(quantizer(head, progress()), progress(), {})
    assert quantizer.codebook[[2, 5]].norm(dim=1).min() > 1e3
    assert kind(K, D).dead_codes is None


def test_the_optimiser_forgets_the_moments_of_moved_codes() -> None:
    quantizer = with_two_far_codes(VectorQuantizer)
    head = batch_using_all_but_the_far(quantizer)
    optimiser = torch.optim.AdamW([quantizer.codebook], lr=0.0)
    quantizer.codebook.square().sum().backward()
    optimiser.step()
    quantizer.after_step(quantizer(head, progress()), progress(), optimiser.state)
    moments = optimiser.state[quantizer.codebook]["exp_avg"]
    assert (moments[[2, 5]] == 0).all()
    assert (moments[[0, 1, 3, 4, 6]] != 0).all()


def test_only_the_gradient_form_trains_its_codebook_by_gradient() -> None:
    assert isinstance(VectorQuantizer(K, D).codebook, nn.Parameter)
    assert list(EmaVectorQuantizer(K, D).parameters()) == []

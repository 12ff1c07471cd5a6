"""Soft EM against the formulas: E step, M step, temperature, and its limits."""

from typing import Any

import numpy as np
import pytest
import torch

from models.quantizers import build_quantizer
from models.quantizers.em import EmQuantizer
from models.quantizers.vq_ema import EmaVectorQuantizer
from models.randomness import DRAW_STREAM, INITIALISATION_STEP, Progress
from tests.models import oracle
from tests.models.few_tokens import (
    SIDE,
    TOKENS_PER_SAMPLE,
    assert_close,
    assert_frequencies,
    assert_gradients,
    many,
    progress,
    pulled,
    random_head,
    tokens_of,
)
from tests.models.oracle import (
    Array,
    Indices,
    entropy_of,
    numeric_gradient,
    softmax,
    squared_distances,
    usage_of,
)

K, D = 5, 3
DRAWS = pytest.mark.parametrize("num_samples", [0, 1, 10])


def build(temperature: Any = 1.5, **options: Any) -> EmQuantizer:
    torch.manual_seed(0)
    return EmQuantizer(K, D, assignment_temperature=temperature, **options).double().train()


def codes_of(quantizer: Any) -> Array:
    return quantizer.codebook.detach().clone().numpy()


def em_posterior(z: Array, codebook: Array, temperature: float) -> Array:
    """q(c|x) (N, K) of soft EM."""
    return softmax(-squared_distances(z, codebook) / temperature)


def inverse_draws(q: Array, u: Array) -> Indices:
    """(N, m): of each row of q (N, K), the codes at which its distribution reaches u (N, m)."""
    reached = np.cumsum(q, axis=1)[:, None, :] >= u[:, :, None]
    return np.asarray(reached.argmax(2))


def responsibilities(q: Array, given: Progress, num_samples: int) -> Array:
    """(N, K): q, or the mean of one-hot draws."""
    if num_samples == 0:
        return q
    u = given.noise.uniform(DRAW_STREAM, TOKENS_PER_SAMPLE * num_samples)
    draws = inverse_draws(q, u.reshape(len(q), num_samples).double().numpy())
    return np.stack([np.bincount(row, minlength=K) / num_samples for row in draws])


@DRAWS
def test_training_values_are_the_formulas(num_samples: int) -> None:
    quantizer, head, given = build(num_samples=num_samples), random_head(D), progress()
    z, codes = tokens_of(head), codes_of(quantizer)
    q = em_posterior(z, codes, 1.5)
    z_q = responsibilities(q, given, num_samples) @ codes
    result = quantizer(head, given)
    assert_close(tokens_of(result.z_q), z_q)
    assert_close(tokens_of(result.z_e), z)
    assert (result.indices.flatten().numpy() == oracle.nearest(z, codes)).all()
    assert set(result.terms) == {"commitment"}
    assert_close(result.terms["commitment"].item(), ((z - z_q) ** 2).mean())
    assert_close(result.posterior.mean.detach(), q.mean(0))
    assert_close(result.posterior.entropy.item(), entropy_of(q))
    assert result.statistics["temperature"].item() == 1.5


@DRAWS
def test_evaluation_takes_the_nearest_code_and_no_noise(num_samples: int) -> None:
    quantizer, head = build(num_samples=num_samples).eval(), random_head(D)
    z, codes = tokens_of(head), codes_of(quantizer)
    nearest = oracle.nearest(z, codes)
    for given in (None, progress(), progress(step=5)):
        result = quantizer(head, given)
        assert (result.indices.flatten().numpy() == nearest).all()
        assert_close(tokens_of(result.z_q), codes[nearest])
        assert_close(result.terms["commitment"].item(), ((z - codes[nearest]) ** 2).mean())
        assert_close(result.posterior.entropy.item(), entropy_of(em_posterior(z, codes, 1.5)))
    assert_close(quantizer.assign(head)[1].detach().flatten(), oracle.nearest_margin(z, codes))
    assert quantizer.rule() == {}


@DRAWS
def test_z_q_passes_its_gradient_straight_through_to_the_head(num_samples: int) -> None:
    quantizer, head = build(num_samples=num_samples), random_head(D)
    loss, pull = pulled(quantizer(head, progress()).z_q)
    assert_close(tokens_of(torch.autograd.grad(loss, head)[0]), pull)


@DRAWS
def test_commitment_pulls_the_head_to_z_q_held_fixed(num_samples: int) -> None:
    quantizer, head, given = build(num_samples=num_samples), random_head(D), progress()
    result = quantizer(head, given)
    z = tokens_of(head)
    z_q = tokens_of(result.z_q)
    (got,) = torch.autograd.grad(result.terms["commitment"], head)
    assert_close(tokens_of(got), 2.0 * (z - z_q) / z.size)


def test_the_posteriors_gradient_is_that_of_the_formula() -> None:
    quantizer, head = build(), random_head(D)
    mean, entropy = quantizer(head, progress()).posterior
    (got,) = torch.autograd.grad((mean * mean.log()).sum() + 0.3 * entropy, head)

    def value(z: Array) -> float:
        q = em_posterior(z, codes_of(quantizer), 1.5)
        return usage_of(q) + 0.3 * entropy_of(q)

    assert_gradients(
        (got.permute(0, 2, 3, 1).reshape(-1, D),), (numeric_gradient(value, tokens_of(head)),)
    )


def test_codes_are_trained_by_averages_alone() -> None:
    assert list(build().parameters()) == []


@DRAWS
@pytest.mark.parametrize("decay", [0.0, 0.99])
def test_codes_are_moving_averages_of_responsibilities(num_samples: int, decay: float) -> None:
    quantizer = build(num_samples=num_samples, decay=decay)
    counts, sums = np.ones(K), codes_of(quantizer)
    for step in range(4):
        head, given = random_head(D, seed=step), progress(step)
        z = tokens_of(head)
        r = responsibilities(em_posterior(z, codes_of(quantizer), 1.5), given, num_samples)
        quantizer.after_step(quantizer(head, given), given, {})
        counts = decay * counts + (1.0 - decay) * r.sum(0)
        sums = decay * sums + (1.0 - decay) * r.T @ z
        averages = oracle.MovingAverages(counts, sums, decay)
        np.testing.assert_allclose(quantizer.counts, counts, rtol=1e-8)
        np.testing.assert_allclose(quantizer.sums, sums, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(quantizer.codebook, averages.codebook, rtol=1e-8, atol=1e-10)


def test_counts_and_sums_of_all_processes_are_averaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process with the same batch doubles them."""
    monkeypatch.setattr("models.quantizers.moving_average.global_sum", lambda x: 2.0 * x)
    quantizer, head, given = build(num_samples=0, decay=0.5), random_head(D), progress()
    r = em_posterior(tokens_of(head), codes_of(quantizer), 1.5)
    quantizer.after_step(quantizer(head, given), given, {})
    assert_close(quantizer.counts, 0.5 + r.sum(0))


@DRAWS
def test_cold_em_is_hard_k_means_by_moving_averages(num_samples: int) -> None:
    cold = build(temperature=1e-6, num_samples=num_samples, decay=0.9)
    hard = EmaVectorQuantizer(K, D, decay=0.9).double().train()
    hard.load_state_dict({k: v for k, v in cold.state_dict().items() if k != "temperature"})
    for step in range(5):
        head, given = random_head(D, seed=step), progress(step)
        ours, theirs = cold(head, given), hard(head, given)
        assert torch.equal(ours.indices, theirs.indices)
        torch.testing.assert_close(ours.z_q, theirs.z_q)
        torch.testing.assert_close(ours.terms, theirs.terms)
        torch.testing.assert_close(ours.posterior.mean.float(), theirs.posterior.mean)
        for quantizer, result in ((cold, ours), (hard, theirs)):
            quantizer.after_step(result, given, {})
        torch.testing.assert_close(cold.codebook, hard.codebook)


def with_unit_codes(num_samples: int) -> EmQuantizer:
    """Whose z_q shows how often each code was drawn."""
    quantizer = EmQuantizer(K, K, num_samples=num_samples, assignment_temperature=1.5)
    quantizer.codebook.copy_(torch.eye(K))
    return quantizer.double().train()


@pytest.mark.parametrize("num_samples", [1, 10])
def test_codes_are_drawn_from_the_posterior(num_samples: int) -> None:
    quantizer, samples, z = with_unit_codes(num_samples), 20_000, random_head(K).detach()
    one = z[:1, :, :1, :1]
    z_q = quantizer(one.expand(samples, -1, -1, -1), many(samples)).z_q
    counts = num_samples * tokens_of(z_q).sum(0)
    assert_frequencies(counts, em_posterior(tokens_of(one), np.eye(K), 1.5)[0])


def test_many_draws_come_near_the_posterior_mean() -> None:
    exact, drawn = with_unit_codes(0), with_unit_codes(5_000)
    head = random_head(K)
    difference = exact(head, progress()).z_q - drawn(head, progress()).z_q
    assert 0.0 < difference.abs().max() < 4.5 * 0.5 / 5_000**0.5


def test_a_code_without_probability_is_never_drawn() -> None:
    """Codes before, between and after those that tokens are near."""
    quantizer = with_unit_codes(10).float()
    quantizer.codebook[[0, 2, 4]] += 1e4
    head = torch.zeros(2_000, K, 1, 1)
    z_q = quantizer(head, many(2_000)).z_q
    assert z_q[:, [1, 3]].sum(1).sub(1.0).abs().max() < 1e-6


@DRAWS
def test_a_samples_vectors_do_not_depend_on_the_batch(num_samples: int) -> None:
    quantizer, head = build(num_samples=num_samples), random_head(D)
    whole = quantizer(head, progress(samples=(4, 11, 2))).z_q
    part = quantizer(head[[2, 0]], progress(samples=(2, 4))).z_q
    torch.testing.assert_close(part, whole[[2, 0]], rtol=1e-12, atol=1e-12)


def test_the_temperature_comes_of_the_heads_where_none_is_given() -> None:
    """A token's own code then starts at a logit of -D/2, whatever the units of the heads."""
    for scale in (1e-2, 1.0, 1e3):
        quantizer = build(temperature=None)
        assert quantizer.temperature.item() == 1.0
        heads = scale * torch.randn(200, D, dtype=torch.double)
        quantizer.initialise(heads, progress(INITIALISATION_STEP))
        nearest = oracle.squared_distances(heads.numpy(), codes_of(quantizer)).min(1).mean()
        assert nearest / quantizer.temperature.item() == pytest.approx(D / 2)
        assert quantizer.state_dict()["temperature"] == quantizer.temperature


def test_a_given_temperature_is_kept_from_the_data() -> None:
    quantizer = build(temperature={"start": 4.0, "end": 1.0})
    quantizer.initialise(torch.randn(50, D).double(), progress(INITIALISATION_STEP))
    assert quantizer.temperature.item() == 4.0


def test_heads_that_are_their_own_codes_leave_a_temperature_above_0() -> None:
    quantizer = build(temperature=None)
    quantizer.initialise(torch.arange(5.0 * D).view(5, D).double(), progress(INITIALISATION_STEP))
    assert quantizer.temperature.item() > 0.0


def test_a_ramp_anneals_the_temperature_and_evaluation_has_the_last() -> None:
    quantizer, head = build(temperature={"start": 4.0, "end": 1.0}), random_head(D)
    z, codes = tokens_of(head), codes_of(quantizer)
    given = progress(step=5)
    result = quantizer(head, given)
    assert_close(result.posterior.entropy.item(), entropy_of(em_posterior(z, codes, 2.0)))
    quantizer.after_step(result, given, {})
    after = quantizer.eval()(head, None).posterior.entropy.item()
    assert_close(after, entropy_of(em_posterior(z, codes_of(quantizer), 2.0)))


def test_moving_averages_start_over_from_the_initialised_codes() -> None:
    quantizer = build()
    quantizer.after_step(quantizer(random_head(D), progress()), progress(), {})
    quantizer.initialise(torch.randn(50, D).double(), progress(INITIALISATION_STEP))
    assert torch.equal(quantizer.counts, torch.ones(K).double())
    assert torch.equal(quantizer.sums, quantizer.codebook)


def test_half_precision_would_pick_other_codes() -> None:
    quantizer = EmQuantizer(256, D).eval()
    quantizer.codebook += 8.0
    head = 8.0 + torch.randn(200, D, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    expected = oracle.nearest(tokens_of(head.double()), codes_of(quantizer).astype(np.float64))
    flat = quantizer.indices(head.bfloat16()).flatten().numpy()
    assert (flat != expected).mean() > 0.01
    with torch.autocast("cpu", torch.bfloat16):
        got = quantizer(head, None).indices.flatten().numpy()
    assert (got != expected).mean() < 1e-3


def test_training_without_progress_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="training needs `progress`"):
        build()(random_head(D), None)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"num_samples": -1}, "num_samples is 0 or the number of draws, not -1"),
        ({"decay": 1.0}, "decay is a share in"),
        ({"assignment_temperature": 0.0}, "assignment_temperature must be greater than 0"),
    ],
)
def test_options_out_of_range_are_refused(option: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_quantizer("em", {"codebook_size": 4, "code_dim": 2, **option})

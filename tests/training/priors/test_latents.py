"""Samples of a diffusion prior in numpy: their tokens, their seeds, the graph they come from."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.priors import DiffusionPrior, TokenShape, build_bounded
from tests.models.priors.test_diffusion import on_a_line, probabilities
from tests.representative import few_of
from training.graphs import export_step
from training.parity import ExportRefused
from training.priors.latents import CodeMixture, Latents, Step, draw_latents, token_tosses
from training.priors.sliced import sliced_distance
from training.priors.step import LatentSampler, hold, mixture_of, open_step, walk_of
from training.priors.times import torch_step

SHAPE = TokenShape((2, 3), codebook_size=20, num_labels=2, code_dim=4)
NUM = 4000


@pytest.fixture(name="prior", scope="module")
def _prior() -> DiffusionPrior:
    """A prior with weights as after training, whose spread is measured."""
    generator = torch.Generator().manual_seed(3)
    torch.manual_seed(7)
    prior = build_bounded("diffusion", SHAPE, {"width": 16, "num_layers": 2, "num_heads": 2})
    counts = torch.randint(1, 50, (6, 20), generator=generator)
    prior.begin(counts, torch.randn(20, 4, generator=generator), 0.5)
    for parameter in prior.network.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    prior.spread.uniform_(0.0, 0.5, generator=generator)
    return prior.eval()


@pytest.fixture(name="in_onnx", scope="module")
def _in_onnx(prior: DiffusionPrior) -> Step:
    return open_step(export_step(prior))


def labels_of(count: int, label: int = 2) -> NDArray[np.int32]:
    return np.full(count, label, np.int32)


@pytest.mark.slow
def test_a_step_in_onnx_leads_where_it_leads_in_pytorch(
    prior: DiffusionPrior, in_onnx: Step
) -> None:
    assert 0.0 < hold(prior, in_onnx) < 1e-4


@pytest.mark.slow
def test_a_step_that_leads_elsewhere_is_refused(prior: DiffusionPrior, in_onnx: Step) -> None:
    def broken(*arrays: Any) -> Latents:
        return in_onnx(*arrays) + np.float32(np.nan)

    with pytest.raises(ExportRefused, match="a step in ONNX ends nan from where"):
        hold(prior, broken)


@pytest.mark.slow
def test_samples_in_onnx_are_those_in_pytorch(prior: DiffusionPrior, in_onnx: Step) -> None:
    walk, labels = walk_of(prior), labels_of(20, label=1)
    ours = draw_latents(torch_step(prior), walk, 5, range(20), labels)
    theirs = draw_latents(in_onnx, walk, 5, range(20), labels)
    assert np.abs(ours - theirs).max() < 1e-3
    mixture = mixture_of(prior)
    assert np.array_equal(mixture.likeliest(ours), mixture.likeliest(theirs))


@pytest.mark.slow
def test_a_sample_is_a_function_of_seed_and_number(prior: DiffusionPrior, in_onnx: Step) -> None:
    sampler = LatentSampler(in_onnx, walk_of(prior), mixture_of(prior))
    together = sampler.tokens(5, range(6), labels_of(6), likeliest=False)
    assert np.array_equal(together, sampler.tokens(5, range(6), labels_of(6), likeliest=False))
    alone = sampler.tokens(5, range(4, 5), labels_of(1), likeliest=False)
    assert np.array_equal(together[4:5], alone)
    for other in (
        sampler.tokens(6, range(6), labels_of(6), likeliest=False),
        sampler.tokens(5, range(6), labels_of(6, label=0), likeliest=False),
        sampler.tokens(5, range(6, 12), labels_of(6), likeliest=False),
    ):
        assert not np.array_equal(together, other)


def test_the_likeliest_token_is_that_of_the_formula(prior: DiffusionPrior) -> None:
    mixture = mixture_of(prior)
    latents = np.random.default_rng(2).standard_normal((300, 6, 4))
    squares = (np.square(latents[:, :, None] - mixture.codes) / mixture.variance).sum(-1)
    expected = (mixture.log_weights - 0.5 * squares).argmax(-1)
    assert np.array_equal(mixture.likeliest(latents), expected)


def test_tokens_are_drawn_as_often_as_their_responsibility() -> None:
    mixture = CodeMixture(np.array([[-1.0], [0.5]]), np.array([0.5]), np.log([0.7, 0.3]))
    tosses = np.random.default_rng(1).random(NUM)
    tokens = mixture.drawn(np.zeros((NUM, 1)), tosses)
    odds = 0.3 * np.exp(-(0.5**2)) / (0.7 * np.exp(-1.0))
    p = odds / (1 + odds)
    assert tokens.mean() == pytest.approx(p, abs=4 * (p * (1 - p) / NUM) ** 0.5)


@pytest.mark.parametrize("trained", few_of([False, True], [True]))
def test_samples_are_as_frequent_as_their_probabilities(trained: bool) -> None:
    """Chi-square of one token's codes: the mixture's weights where the network does nothing."""
    prior = on_a_line(trained=trained)
    prior.spread.fill_(0.2)
    exact = probabilities(prior)
    sampler = LatentSampler(torch_step(prior), walk_of(prior), mixture_of(prior))
    tokens = sampler.tokens(3, range(NUM), labels_of(NUM, label=1), likeliest=False)
    counts = np.bincount(tokens[:, 0], minlength=3)
    chi_square = float((np.square(counts - NUM * exact) / (NUM * exact)).sum())
    # The 99.9 % quantile of two degrees of freedom.
    assert chi_square < 13.8
    if not trained:
        weights = np.exp(sampler.mixture.log_weights)
        assert counts / NUM == pytest.approx(weights, abs=0.03)


def test_numbers_of_tokens_are_not_those_of_latents(prior: DiffusionPrior) -> None:
    tosses = token_tosses(walk_of(prior), 5, range(3))
    assert tosses.shape == (3, 6)
    assert len(np.unique(tosses)) == 18


def test_the_distance_is_that_of_means_and_grows_with_it() -> None:
    generator = np.random.default_rng(4)
    one, other = generator.standard_normal((2, 400, 30))
    floor, error = sliced_distance(one, other)
    assert 0 < error < floor < 0.2
    # Along a random direction of 30 a shift by 2 in all is one by 2 on average.
    far, error = sliced_distance(one, other + 2.0)
    assert far == pytest.approx(2.0, rel=0.2)
    assert sliced_distance(one, one)[0] == 0.0
    with pytest.raises(ValueError, match="cannot be paired"):
        sliced_distance(one, other[:9])

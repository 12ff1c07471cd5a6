"""The diffusion prior against what a grid of one position and one dimension lets one work out."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.priors import DiffusionPrior, TokenShape, build_bounded, vp
from models.priors.mixture import LatentMixture
from models.randomness import EVALUATION_STEP, Noise

LINE = TokenShape((1, 1), codebook_size=3, num_labels=1, code_dim=1)
CODES = torch.tensor([[-1.0], [0.2], [1.5]])
COUNTS = torch.tensor([[500, 300, 200]])
SMALL = {"width": 8, "num_layers": 1, "num_heads": 2}
POINTS = np.linspace(-7, 7, 701)


def on_a_line(*, trained: bool, **options: Any) -> DiffusionPrior:
    """A prior over a single token; `trained`: its network does something, if nothing useful."""
    torch.manual_seed(7)
    prior = build_bounded("diffusion", LINE, {**SMALL, "step_size": 0.05, **options})
    prior.begin(COUNTS, CODES, 0.5)
    if trained:
        generator = torch.Generator().manual_seed(3)
        for parameter in prior.network.parameters():
            torch.nn.init.normal_(parameter, std=0.4, generator=generator)
    return prior.eval()


@torch.no_grad()
def probabilities(prior: DiffusionPrior, label: int = 1) -> NDArray[np.float64]:
    """p(c) (3,) of tokens drawn by responsibility, the density carried from step to step."""
    density = np.exp(-0.5 * POINTS**2) / math.sqrt(2 * math.pi)
    width = POINTS[1] - POINTS[0]
    x = torch.from_numpy(POINTS).float()[:, None, None]
    labels = torch.full((len(x),), label)
    for number in range(prior.num_passes, 0, -1):
        t, s = number * prior.step_size, (number - 1) * prior.step_size
        times = torch.tensor([[t, s]]).expand(len(x), 2)
        mean, moved = (
            prior.step(x, times, labels, torch.full_like(x, each))[:, 0, 0].double().numpy()
            for each in (0.0, 1.0)
        )
        variance = float(moved[0] - mean[0]) ** 2
        squares = np.square(POINTS[:, None] - mean) / variance
        density = np.exp(-0.5 * squares) @ density * width / math.sqrt(2 * math.pi * variance)
    r = [prior.mixture.responsibility(x[:, 0], torch.full((len(x),), c)) for c in range(3)]
    return np.array([float((each.double().exp().numpy() * density).sum() * width) for each in r])


def repeated(prior: DiffusionPrior, token: int, times: int = 2000) -> Tensor:
    """Estimates of the bound on one token."""
    tokens = torch.full((times, 1), token)
    noise = Noise(0, EVALUATION_STEP, torch.arange(times))
    return prior.nats(tokens, torch.ones(times, dtype=torch.long), noise)


@pytest.mark.parametrize("schedule", ["steps-20", "steps-8", "steps-2"])
@pytest.mark.parametrize(("trained", "spread"), [(False, 0.0), (True, 0.0), (True, 0.4)])
def test_the_bound_is_one_on_the_sampler_itself(
    schedule: str, trained: bool, spread: float
) -> None:
    prior = on_a_line(trained=trained)
    prior.spread.fill_(spread)
    prior.set_schedule(schedule)
    exact = probabilities(prior)
    assert exact.sum() == pytest.approx(1.0, abs=1e-3)
    for token in range(3):
        nats = repeated(prior, token)
        error = float(nats.std() / len(nats) ** 0.5)
        assert float(nats.mean()) + 4 * error > -math.log(exact[token])


def test_it_is_tight_where_the_mixture_is_the_truth() -> None:
    """In small steps from far enough: of one position the mixture knows all."""
    prior = on_a_line(trained=False, step_size=0.01)
    weights = prior.mixture.log_weights.exp().double()
    mean = sum(float(weights[c] * repeated(prior, c).mean()) for c in range(3))
    entropy = -float((weights * weights.log()).sum())
    assert mean == pytest.approx(entropy, abs=0.04)
    assert probabilities(prior) == pytest.approx(weights.numpy(), abs=0.01)


def test_the_inequality_of_dequantising_holds_for_any_density() -> None:
    """log p(c) >= E[log p(z) + log r(c | z) - log q(z | c)], z ~ q(z | c), by quadrature, with
    equality where p is the mixture itself.
    """
    mixture = LatentMixture(3, 1)
    weights = torch.tensor([0.5, 0.3, 0.2])
    mixture.begin(CODES, 0.5, weights)
    width, x = POINTS[1] - POINTS[0], torch.from_numpy(POINTS).float()[:, None]
    codes, sd = mixture.codes[:, 0].double().numpy(), float(mixture.variance.sqrt())
    parts = np.array([normal(POINTS, code, sd) for code in codes])
    densities = {
        "own": weights.double().numpy() @ parts,
        "standard": normal(POINTS, 0.0, 1.0),
        "two": 0.3 * normal(POINTS, -1.0, 0.2) + 0.7 * normal(POINTS, 0.5, 1.5),
    }
    for name, density in densities.items():
        total = 0.0
        for token in range(3):
            log_r = mixture.responsibility(x, torch.full((len(x),), token)).double().numpy()
            p = float((density * np.exp(log_r)).sum() * width)
            inside = np.log(density) + log_r - np.log(np.maximum(parts[token], 1e-300))
            bound = float((parts[token] * inside).sum() * width)
            total += p
            assert bound < math.log(p) + 1e-4
            if name == "own":
                assert bound == pytest.approx(math.log(p), abs=1e-4)
        assert total == pytest.approx(1.0, abs=1e-4)


def normal(x: NDArray[np.float64], mean: float, sd: float) -> NDArray[np.float64]:
    return np.exp(-0.5 * ((x - mean) / sd) ** 2) / (sd * math.sqrt(2 * math.pi))


def test_steps_as_wide_as_guesses_are_off_cost_least() -> None:
    prior = on_a_line(trained=True)
    tokens = torch.arange(6000)[:, None] % 3
    labels, noise = (
        torch.ones(6000, dtype=torch.long),
        Noise(0, EVALUATION_STEP, torch.arange(6000)),
    )
    for number in range(1, 21):
        prior.measure_spread(number, tokens, labels, noise)
    measured = prior.spread.clone()
    costs: dict[float, float] = {}
    for share in (0.0, 0.5, 1.0, 2.0):
        prior.spread.copy_(share * measured)
        costs[share] = float(prior.terms(tokens, labels, noise).steps.sum(1).mean())
    assert min(costs, key=lambda share: costs[share]) == 1.0
    assert costs[0.0] > 1.02 * costs[1.0]


def test_training_minimises_what_the_steps_cost() -> None:
    """The mean of the loss is the cost of steps so small that smaller ones change nothing."""
    prior, count = on_a_line(trained=True, step_size=0.0025, label_dropout=0.0), 20_000
    tokens = torch.arange(count)[:, None] % 3
    labels = torch.ones(count, dtype=torch.long)
    terms = prior.terms(tokens, labels, Noise(0, EVALUATION_STEP, torch.arange(count)))
    with torch.no_grad():
        losses = [
            float(prior.loss(tokens, labels, Noise(0, n, torch.arange(count)))) for n in (0, 1)
        ]
    expected = float(terms.steps.sum(1).mean())
    assert sum(losses) / 2 == pytest.approx(expected, rel=0.04)


def test_before_training_the_network_changes_nothing() -> None:
    prior = on_a_line(trained=False)
    x, t = torch.randn(9, 1, 1), torch.linspace(0, 1, 9)
    column = t[:, None, None]
    start = prior.mixture.variance
    guess = prior.mixture.posterior_mean(x, vp.kept(column), vp.variance(column, start))
    labels = torch.zeros(9, dtype=torch.long)
    torch.testing.assert_close(prior.denoise(x, t, labels), guess, rtol=0, atol=0)


def test_the_terms_are_the_bound_of_every_schedule() -> None:
    prior = on_a_line(trained=True)
    tokens, labels = torch.zeros((5, 1), dtype=torch.long), torch.ones(5, dtype=torch.long)
    noise = Noise(0, EVALUATION_STEP, torch.arange(5))
    bound = prior.terms(tokens, labels, noise).bound()
    assert bound.shape == (5, 10)
    prior.set_schedule("steps-20")
    assert torch.equal(prior.nats(tokens, labels, noise), bound[:, -1])


def test_options_and_schedules_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="no whole part of a tenth"):
        on_a_line(trained=False, step_size=0.03)
    with pytest.raises(ValueError, match="label_dropout is a share"):
        on_a_line(trained=False, label_dropout=2)
    with pytest.raises(ValueError, match="one token a cell"):
        build_bounded("diffusion", TokenShape((2, 2, 2), 3, code_dim=1), SMALL)
    with pytest.raises(ValueError, match="no option 'schedules'"):
        build_bounded("diffusion", LINE, {"schedules": ["raster"]})
    prior = on_a_line(trained=False)
    for schedule in ("steps-3", "steps-22", "halton-2", "steps-0"):
        with pytest.raises(ValueError, match="S a multiple of 2, at most 20"):
            prior.set_schedule(schedule)

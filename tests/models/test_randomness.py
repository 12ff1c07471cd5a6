"""Noise: the right distributions, nothing in common between neighbours, no state."""

import hashlib
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from models.randomness import (
    GUMBEL_STREAM,
    INITIALISATION_STEP,
    NORMAL_STREAM,
    REPLACEMENT_STREAM,
    Noise,
    Progress,
)

STREAMS = (GUMBEL_STREAM, NORMAL_STREAM, REPLACEMENT_STREAM)
NUM_SAMPLES, COUNT = 256, 1024

seeds = st.integers(0, 2**32)
steps = st.integers(INITIALISATION_STEP, 2**31)
samples = st.integers(0, 2**40)
batches = st.lists(samples, min_size=1, max_size=6)


def noise(seed: int = 0, step: int = 0, indices: list[int] | None = None) -> Noise:
    chosen = range(NUM_SAMPLES) if indices is None else indices
    return Noise(seed, step, torch.tensor(list(chosen), dtype=torch.int64))


def uniform(seed: int = 0, step: int = 0, stream: int = GUMBEL_STREAM) -> Tensor:
    return noise(seed, step).uniform(stream, COUNT)


def assert_unrelated(a: Tensor, b: Tensor) -> None:
    """Neither correlated nor, on a grid of 16 x 16, dependent."""
    x, y = a.flatten().double().numpy(), b.flatten().double().numpy()
    assert abs(np.corrcoef(x, y)[0, 1]) < 4.5 / math.sqrt(len(x))
    cells = np.bincount((16 * x).astype(int) * 16 + (16 * y).astype(int), minlength=256)
    assert stats.chisquare(cells).pvalue > 1e-4


@given(seeds, steps, batches, st.sampled_from(STREAMS))
def test_uniform_numbers_are_midpoints_of_2_to_the_23_cells(
    seed: int, step: int, indices: list[int], stream: int
) -> None:
    """So that neither 0 nor 1 occurs, whatever the hash gives."""
    cells = noise(seed, step, indices).uniform(stream, 50).double() * 2**23 - 0.5
    assert torch.equal(cells, cells.round())
    assert cells.min() >= 0
    assert cells.max() < 2**23


def test_uniform_numbers_stay_inside_of_0_and_1_among_millions() -> None:
    numbers = noise(indices=list(range(1024))).uniform(GUMBEL_STREAM, 4096)
    assert numbers.dtype == torch.float32
    assert numbers.shape == (1024, 4096)
    assert 0.0 < numbers.min() < 2e-6
    assert 1.0 - 2e-6 < numbers.max() < 1.0


@pytest.mark.parametrize(
    ("kind", "mean", "variance", "name"),
    [
        ("uniform", 0.5, 1 / 12, "uniform"),
        ("gumbel", 0.5772156649, math.pi**2 / 6, "gumbel_r"),
        ("normal", 0.0, 1.0, "norm"),
    ],
)
@pytest.mark.parametrize(("seed", "step"), [(0, 0), (1, 70_000), (2**31, INITIALISATION_STEP)])
def test_distributions(
    kind: str, mean: float, variance: float, name: str, seed: int, step: int
) -> None:
    drawn: Tensor = getattr(noise(seed, step), kind)(NORMAL_STREAM, COUNT)
    assert drawn.shape == (NUM_SAMPLES, COUNT)
    assert drawn.dtype == torch.float32
    numbers = drawn.flatten().double().numpy()
    error = 4.5 / math.sqrt(len(numbers))
    assert abs(numbers.mean() - mean) < error * math.sqrt(variance)
    fourth = ((numbers - numbers.mean()) ** 4).mean()
    assert abs(numbers.var() - variance) < error * math.sqrt(fourth)
    assert stats.kstest(numbers, name).pvalue > 1e-4


@pytest.mark.parametrize("lag", [1, 2, 3, 16, 512])
def test_numbers_of_one_sample_are_unrelated(lag: int) -> None:
    numbers = uniform()
    assert_unrelated(numbers[:, lag:], numbers[:, :-lag])


@pytest.mark.parametrize("lag", [1, 2, 16, 128])
def test_neighbouring_samples_are_unrelated(lag: int) -> None:
    numbers = uniform()
    assert_unrelated(numbers[lag:], numbers[:-lag])


@pytest.mark.parametrize("other", [1, 2, 256, 65_537, 2**20, 2**32])
def test_neighbouring_seeds_and_steps_are_unrelated(other: int) -> None:
    assert_unrelated(uniform(), uniform(seed=other))
    assert_unrelated(uniform(), uniform(step=other))
    assert_unrelated(uniform(seed=other), uniform(step=other))


def test_the_next_step_is_no_shift_of_this_one() -> None:
    """Step and sample index must not merely be added."""
    assert_unrelated(uniform(step=1)[:-1], uniform(step=0)[1:])
    assert_unrelated(uniform(step=1)[1:], uniform(step=0)[:-1])
    assert_unrelated(uniform(seed=1)[:-1], uniform(seed=0)[1:])


def test_streams_are_unrelated() -> None:
    first, second, third = (uniform(stream=stream) for stream in STREAMS)
    assert_unrelated(first, second)
    assert_unrelated(second, third)
    assert_unrelated(first, third)


def test_the_two_halves_of_a_normal_number_are_unrelated() -> None:
    """Neighbouring numbers and their squares: radius and angle come from different draws."""
    scaled = torch.special.ndtr(noise().normal(NORMAL_STREAM, COUNT))
    assert_unrelated(scaled[:, 1:], scaled[:, :-1])
    assert_unrelated((2 * scaled[:, 1:] - 1).abs(), (2 * scaled[:, :-1] - 1).abs())


def test_bits_of_a_number_are_balanced() -> None:
    cells = (uniform().double() * 2**23).long().flatten()
    for bit in range(23):
        share = ((cells >> bit) & 1).double().mean().item()
        assert abs(share - 0.5) < 2.25 / math.sqrt(len(cells))


@given(batches, st.data())
def test_the_noise_of_some_samples_is_that_part_of_the_whole(
    indices: list[int], data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(indices) - 1))
    stop = data.draw(st.integers(start + 1, len(indices)))
    whole = noise(3, 5, indices)
    part = whole.of_samples(start, stop)
    assert part.num_samples == stop - start
    for kind in ("uniform", "gumbel", "normal"):
        expected = getattr(whole, kind)(NORMAL_STREAM, 7)[start:stop]
        assert torch.equal(getattr(part, kind)(NORMAL_STREAM, 7), expected)


@given(seeds, steps, batches)
def test_a_samples_noise_does_not_depend_on_the_batch(
    seed: int, step: int, indices: list[int]
) -> None:
    together = noise(seed, step, indices).gumbel(GUMBEL_STREAM, 9)
    for row, index in enumerate(indices):
        alone = noise(seed, step, [index]).gumbel(GUMBEL_STREAM, 9)
        torch.testing.assert_close(together[row], alone[0], rtol=1e-6, atol=1e-6)
        assert torch.equal(
            noise(seed, step, indices).uniform(GUMBEL_STREAM, 9)[row],
            noise(seed, step, [index]).uniform(GUMBEL_STREAM, 9)[0],
        )


@given(seeds, steps, batches, batches)
def test_noise_of_the_whole_batch_depends_on_seed_and_step_only(
    seed: int, step: int, first: list[int], second: list[int]
) -> None:
    numbers = noise(seed, step, first).batch_uniform(REPLACEMENT_STREAM, 20)
    assert numbers.shape == (20,)
    assert torch.equal(numbers, noise(seed, step, second).batch_uniform(REPLACEMENT_STREAM, 20))
    for other in (noise(seed + 1, step, first), noise(seed, step + 1, first)):
        assert not torch.equal(numbers, other.batch_uniform(REPLACEMENT_STREAM, 20))
    assert not torch.equal(numbers, noise(seed, step, first).batch_uniform(NORMAL_STREAM, 20))


def test_noise_of_the_whole_batch_is_uniform() -> None:
    numbers = noise().batch_uniform(REPLACEMENT_STREAM, 100_000)
    assert stats.kstest(numbers.double().numpy(), "uniform").pvalue > 1e-4


def test_drawing_twice_gives_the_same_numbers() -> None:
    once = noise(1, 2)
    first = once.uniform(GUMBEL_STREAM, 5)
    once.normal(NORMAL_STREAM, 5)
    assert torch.equal(first, once.uniform(GUMBEL_STREAM, 5))


def test_the_numbers_of_today_are_the_numbers_of_tomorrow() -> None:
    """A run that is resumed after an update goes on with the same noise."""
    drawn = noise(1, 2, [0, 1, 49_999]).uniform(GUMBEL_STREAM, 1000)
    cells = (drawn.double() * 2**23).numpy().astype("<i4")
    assert (
        hashlib.sha256(cells.tobytes()).hexdigest()
        == "15fc2fa8eb5c8769392f4d2195961f4bc31ddbf76e26bbc13224477614f94b8d"
    )


def test_progress_is_the_share_that_lies_behind() -> None:
    assert Progress(0, 8, noise()).fraction == 0.0
    assert Progress(6, 8, noise()).fraction == 0.75

"""The per-position prior: its probabilities, and that sample i depends on (seed, i) alone."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from vqtok.errors import InvalidParameter
from vqtok.priors import Prior, Reveal, SamplingRule, TablePrior, Wish, draw_all
from vqtok.priors.draw import begin

RNG = np.random.default_rng(5)
COUNTS = RNG.integers(0, 50, (3, 4, 16)).astype(np.uint32)
COUNTS[..., 7] = 0
PRIOR = TablePrior(COUNTS)


def sample(
    prior: TablePrior, n: int, seed: int, temperature: float = 1.0, first: int = 0
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    drawn = draw_all(prior, Wish(n, seed, first, SamplingRule(temperature)))
    return drawn.tokens, drawn.bits


def test_probabilities_of_all_grids_of_a_tiny_prior_sum_to_one() -> None:
    counts = np.array([[[3, 0, 1], [0, 0, 9]]], np.uint32)
    table = TablePrior(counts).probabilities[0]
    total = sum(table[0, a] * table[1, b] for a, b in product(range(3), repeat=2))
    assert total == pytest.approx(1, abs=1e-12)


def test_one_half_is_added_to_codes_that_training_used_and_to_no_other() -> None:
    counts = np.array([[[3, 0, 0, 1], [0, 2, 0, 2]]], np.uint32)
    expected = np.array([[[3.5, 0.5, 0, 1.5], [0.5, 2.5, 0, 2.5]]]) / 5.5
    assert np.allclose(TablePrior(counts).probabilities, expected, atol=1e-15)


def test_usage_says_which_codes_were_used_where_it_is_given() -> None:
    counts = np.array([[[4, 0, 0]]], np.uint32)
    table = TablePrior(counts, np.array([4, 1, 0])).probabilities
    assert np.allclose(table, [[[4.5 / 5, 0.5 / 5, 0]]])


def test_without_any_count_all_codes_are_equally_likely() -> None:
    table = TablePrior(np.zeros((2, 2, 8), np.uint32)).probabilities
    assert np.allclose(table, 1 / 8)


@given(seed=st.integers(0, 2**64 - 1), first=st.integers(0, 40), n=st.integers(1, 5))
def test_a_sample_is_the_same_in_any_request_that_holds_it(seed: int, first: int, n: int) -> None:
    whole, whole_bits = sample(PRIOR, first + n, seed)
    part, part_bits = sample(PRIOR, n, seed, first=first)
    assert np.array_equal(part, whole[first:])
    assert np.array_equal(part_bits, whole_bits[first:])


def test_other_seeds_and_other_samples_differ() -> None:
    one, two = sample(PRIOR, 2, 1)[0], sample(PRIOR, 2, 2)[0]
    assert not np.array_equal(one, two)
    assert not np.array_equal(one[0], one[1])


def test_samples_of_today_are_the_samples_of_tomorrow() -> None:
    assert sample(PRIOR, 1, 42)[0].ravel().tolist() == [11, 5, 13, 6, 4, 6, 3, 1, 14, 11, 4, 2]


def test_every_seed_of_64_bits_has_samples_of_its_own() -> None:
    flat = TablePrior(np.ones((4, 4, 256), np.uint32))
    seeds = [0, 1, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 2, 2**64 - 1]
    grids = {sample(flat, 1, seed)[0].tobytes() for seed in seeds}
    assert len(grids) == len(seeds)


@pytest.mark.parametrize("seed", [0, 1, 42, 2**32, 2**53 + 1, 2**63 - 1])
def test_the_stream_of_a_sample_is_that_of_its_counter_key(seed: int) -> None:
    flat = TablePrior(np.ones((4, 4, 256), np.uint32))
    for index, grid in enumerate(sample(flat, 3, seed)[0]):
        # Of 256 equally likely codes the highest eight bits of a draw are the code.
        raw = np.random.Philox(key=[seed, index]).random_raw(16)
        assert np.array_equal(grid.ravel(), raw >> np.uint64(56))


def test_frequencies_follow_the_table_at_any_temperature() -> None:
    for temperature in (0.5, 1.0, 2.0):
        tokens, _ = sample(PRIOR, 4000, 3, temperature)
        weights = PRIOR.probabilities ** (1 / temperature)
        expected = weights / weights.sum(axis=-1, keepdims=True)
        observed = (tokens[..., None] == np.arange(16)).sum(axis=0)
        assert (observed[..., 7] == 0).all()
        keep = np.delete(np.arange(16), 7)
        pvalue = stats.chisquare(
            observed[..., keep].ravel(), 4000 * expected[..., keep].ravel(), ddof=11
        ).pvalue
        assert pvalue > 1e-4


def test_bits_are_the_code_length_under_the_untempered_table() -> None:
    tokens, bits = sample(PRIOR, 3, 9, temperature=0.3)
    table = PRIOR.probabilities
    rows, columns = np.indices((3, 4))
    expected = [-np.log2(table[rows, columns, grid]).sum() for grid in tokens]
    assert np.allclose(bits, expected)


def test_mean_bits_approach_the_entropy() -> None:
    bits = sample(PRIOR, 4000, 1)[1]
    assert bits.mean() == pytest.approx(PRIOR.entropy_bits, abs=4 * bits.std() / 4000**0.5)


def test_temperature_zero_and_a_tiny_one_take_the_most_likely_codes() -> None:
    best = PRIOR.probabilities.argmax(axis=-1)
    assert np.array_equal(sample(PRIOR, 1, 0, 0.0)[0][0], best)
    assert np.isfinite(sample(PRIOR, 1, 0, 1e-300)[1]).all()


def test_depth_is_one_more_axis_of_the_grid() -> None:
    counts = RNG.integers(1, 9, (2, 3, 4, 8)).astype(np.uint32)
    counts[:, :, 1, 5] = 0
    tokens, bits = sample(TablePrior(counts), 500, 0)
    assert tokens.shape == (500, 2, 3, 4)
    assert tokens.dtype == np.int32
    assert bits.shape == (500,)
    assert (tokens[:, :, :, 1] != 5).all()
    assert (tokens[:, :, :, 0] == 5).any()


@pytest.mark.parametrize(
    ("n", "seed", "temperature"),
    [(0, 0, 1.0), (-1, 0, 1.0), (1, -1, 1.0), (1, 2**64, 1.0), (1, 0, -0.1), (1, 0, np.nan),
     (1, 0, np.inf)],
)  # fmt: skip
def test_parameters_out_of_range_are_refused(n: int, seed: int, temperature: float) -> None:
    with pytest.raises(InvalidParameter):
        sample(PRIOR, n, seed, temperature)


def test_all_samples_together_are_those_of_one_after_another() -> None:
    mask = np.zeros((3, 4), bool)
    mask[1, 1:3] = True
    for grid in (None, (5, 9), (2, 3)):
        known = None if grid else np.full((3, 4), 3)
        wish = Wish(
            6,
            2,
            1,
            SamplingRule(0.7, top_k=9),
            grid=grid,
            known=known,
            mask=mask if known is not None else None,
        )
        together = draw_all(PRIOR, wish)
        for index, reveal in enumerate(begin(PRIOR, wish)):
            _finish(PRIOR, reveal)
            assert np.array_equal(together.tokens[index].ravel(), reveal.tokens)
            assert together.bits[index] == pytest.approx(reveal.bits)
            assert together.drawn_bits[index] == pytest.approx(reveal.drawn_bits)


def _finish(prior: Prior, reveal: Reveal) -> None:
    while not reveal.is_done:
        (ask,) = reveal.asks()
        labels = np.array([ask.label], np.int32)
        reveal.accept([prior.logits(ask.tokens[None], labels, ask.positions[None])[0]])

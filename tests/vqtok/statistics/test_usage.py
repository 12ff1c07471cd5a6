"""Usage of codes against figures worked out otherwise."""

import math

import numpy as np
import pytest

from vqtok.statistics import summarise


def test_equal_use_of_all_codes_has_a_perplexity_of_their_number() -> None:
    summary = summarise(np.full(64, 100))
    assert summary.perplexity == pytest.approx(64)
    assert summary.entropy_bits == pytest.approx(6)
    assert summary.usage == 1
    assert summary.dead_codes == 0
    assert summary.num_tokens == 6400


def test_a_histogram_by_hand() -> None:
    summary = summarise(np.array([2, 1, 1, 0]))
    assert summary.entropy_bits == pytest.approx(1.5)
    assert summary.perplexity == pytest.approx(2**1.5)
    assert summary.entropy_bits_miller_madow == pytest.approx(1.5 + 2 / 8 / math.log(2))
    assert summary.perplexity_miller_madow == pytest.approx(2**1.5 * math.exp(1 / 4))
    assert (summary.used_codes, summary.dead_codes, summary.usage) == (3, 1, 0.75)


def test_without_tokens_what_is_undefined_is_none() -> None:
    summary = summarise(np.zeros(8, np.int64), np.ones(8, np.int64))
    assert (summary.usage, summary.entropy_bits, summary.perplexity) == (None, None, None)
    assert summary.dead_codes == 8
    assert summary.dead_codes_by_chance == 8


def test_miller_madow_mends_most_of_the_lack_of_a_small_sample() -> None:
    """THEORY: with 4096 tokens of a codebook of perplexity 458 the plug-in is some 10 % low."""
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(1024, 0.5))
    truth = math.exp(-(shares * np.log(shares)).sum())
    summary = summarise(rng.multinomial(4096, shares))
    assert summary.perplexity is not None
    assert summary.perplexity_miller_madow is not None
    assert abs(summary.perplexity_miller_madow - truth) < abs(summary.perplexity - truth) / 3


def test_dead_codes_by_chance_are_those_that_so_few_tokens_miss() -> None:
    reference = np.array([70, 20, 10, 0])
    expected = 0.3**5 + 0.8**5 + 0.9**5 + 1
    summary = summarise(np.array([4, 1, 0, 0]), reference)
    assert summary.dead_codes_by_chance == pytest.approx(expected)
    assert summarise(np.array([5, 0]), np.array([5, 0])).dead_codes_by_chance == 1
    assert summarise(np.array([5, 0]), np.array([0, 0])).dead_codes_by_chance is None

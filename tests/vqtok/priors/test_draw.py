"""Samples follow the distribution, cost what they should, and depend on nothing else."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from tests.representative import few_of
from tests.vqtok.priors.joint import JointPrior
from vqtok.errors import InvalidParameter, InvalidTokens
from vqtok.priors import SamplingRule, Wish, checked_wish, draw_all, most_rows

NUM = 6000
TWO_GROUPS = (0, 1, 1, 0)
RULES = [SamplingRule(0.6), SamplingRule(1.7, top_p=0.8), SamplingRule(top_k=2)]
GUIDED = SamplingRule(cfg_scale=1.5)


def number_of(grids: NDArray[np.int32]) -> NDArray[np.int64]:
    return grids.reshape(len(grids), 4) @ 3 ** np.arange(3, -1, -1)


@pytest.mark.parametrize("groups", [(0, 1, 2, 3), TWO_GROUPS, (0, 0, 0, 0)])
@pytest.mark.parametrize("label", few_of([None, 1], [1]))
def test_frequencies_are_the_probabilities(groups: tuple[int, ...], label: int | None) -> None:
    prior = JointPrior(groups)
    drawn = draw_all(prior, Wish(NUM, seed=3, label=label), batch=500)
    number = 2 if label is None else label
    p = np.exp([prior.log_prob(grid, number) for grid in prior.grids])
    assert p.sum() == pytest.approx(1.0)
    if groups == (0, 1, 2, 3):
        assert np.allclose(p, prior.joint[number], atol=1e-6)
    counts = np.bincount(number_of(drawn.tokens), minlength=81)
    seldom = p * NUM < 5
    observed, expected = counts[~seldom], p[~seldom] * NUM
    if seldom.any():
        observed = np.append(observed, counts[seldom].sum())
        expected = np.append(expected, p[seldom].sum() * NUM)
    assert stats.chisquare(observed, expected).pvalue > 1e-3


@pytest.mark.parametrize("groups", [(0, 1, 2, 3), TWO_GROUPS])
def test_bits_are_the_code_length_under_the_model(groups: tuple[int, ...]) -> None:
    prior = JointPrior(groups)
    for rule in (SamplingRule(), SamplingRule(0.5, top_k=2)):
        drawn = draw_all(prior, Wish(50, seed=1, rule=rule, label=0))
        expected = [-prior.log_prob(grid.ravel(), 0) / np.log(2) for grid in drawn.tokens]
        assert np.allclose(drawn.bits, expected, atol=1e-5)
        assert rule.is_model == np.allclose(drawn.bits, drawn.drawn_bits, atol=1e-9)


@pytest.mark.parametrize("rule", few_of([*RULES, GUIDED], [RULES[0]]))
def test_drawn_bits_are_the_code_length_under_the_distribution_of_the_rule(
    rule: SamplingRule,
) -> None:
    """2 ** -bits of all grids that can be drawn sum to one, and grids are drawn as often."""
    prior = JointPrior()
    drawn = draw_all(prior, Wish(NUM, seed=5, rule=rule, label=1), batch=1000)
    numbers = number_of(drawn.tokens)
    bits = dict(zip(numbers.tolist(), drawn.drawn_bits, strict=True))
    p = np.array([2.0 ** -bits[n] for n in sorted(bits)])
    # What was never drawn is missing from the sum; it is rare.
    assert 0.99 < p.sum() <= 1 + 1e-9
    counts = np.array([(numbers == n).sum() for n in sorted(bits)])
    often = p * NUM >= 5
    expected = p[often] / p[often].sum() * counts[often].sum()
    assert stats.chisquare(counts[often], expected).pvalue > 1e-3


@given(st.integers(0, 2**64 - 1), st.integers(0, 9), st.integers(1, 4), st.integers(1, 5))
def test_a_sample_is_the_same_in_any_batch(seed: int, first: int, n: int, batch: int) -> None:
    prior = JointPrior(TWO_GROUPS)
    part = draw_all(prior, Wish(n, seed, first), batch)
    whole = draw_all(prior, Wish(first + n, seed), batch=3)
    assert np.array_equal(part.tokens, whole.tokens[first:])
    assert np.array_equal(part.bits, whole.bits[first:])


def test_a_sample_takes_a_pass_a_group_and_guidance_two_rows() -> None:
    prior = JointPrior(TWO_GROUPS)
    draw_all(prior, Wish(5, label=0), batch=4)
    assert prior.batches == [4, 4, 1, 1]
    prior.batches.clear()
    draw_all(prior, Wish(2, label=0, rule=SamplingRule(cfg_scale=1.0)))
    assert prior.batches == [4, 4]


def test_temperature_zero_takes_the_likeliest_code_at_every_step() -> None:
    prior = JointPrior()
    drawn = draw_all(prior, Wish(3, label=1, rule=SamplingRule(0.0)))
    grid = np.full(4, 3)
    for position in range(4):
        grid[position] = prior.logits(
            grid[None].astype(np.int32), np.array([1], np.int32), np.array([[position]], np.int32)
        ).argmax()
    assert (drawn.tokens.reshape(3, 4) == grid).all()
    assert (drawn.drawn_bits == 0).all()
    nearly = draw_all(prior, Wish(3, label=1, rule=SamplingRule(1e-9)))
    assert np.array_equal(nearly.tokens, drawn.tokens)


def test_no_guidance_is_the_model_given_the_label() -> None:
    prior = JointPrior()
    guided = draw_all(prior, Wish(40, label=0, rule=SamplingRule(cfg_scale=1e-12)))
    plain = draw_all(prior, Wish(40, label=0))
    assert np.array_equal(guided.tokens, plain.tokens)
    assert np.allclose(guided.drawn_bits, plain.bits, atol=1e-6)


@given(st.integers(0, 80), st.integers(0, 15), st.integers(0, 1000))
def test_in_painting_changes_no_known_token(number: int, which: int, seed: int) -> None:
    prior = JointPrior(TWO_GROUPS)
    known = prior.grids[number].reshape(2, 2)
    mask = (which >> np.arange(4) & 1).astype(bool).reshape(2, 2)
    junk = np.where(mask, known, -9)
    drawn = draw_all(prior, Wish(3, seed, known=junk, mask=mask))
    assert (drawn.tokens[:, mask] == known[mask]).all()
    assert (drawn.tokens < 3).all()
    assert (drawn.tokens >= 0).all()
    if mask.all():
        assert (drawn.bits == 0).all()


def test_what_is_painted_in_follows_the_distribution_given_what_is_known() -> None:
    prior = JointPrior()
    known, mask = np.array([[0, 2], [9, 9]]), np.array([[True, True], [False, False]])
    drawn = draw_all(prior, Wish(NUM, seed=8, known=known, mask=mask), batch=1000)
    fits = (prior.grids[:, 0] == 0) & (prior.grids[:, 1] == 2)
    p = prior.joint[2] * fits / (prior.joint[2] * fits).sum()
    counts = np.bincount(number_of(drawn.tokens), minlength=81)
    assert counts[~fits].sum() == 0
    assert stats.chisquare(counts[fits], p[fits] * NUM).pvalue > 1e-3
    expected = -np.log2(p[number_of(drawn.tokens)])
    assert np.allclose(drawn.bits, expected, atol=1e-5)


@pytest.mark.parametrize("grid", [(2, 2), (1, 1), (2, 5), (4, 2), (5, 3)])
def test_other_grids_are_drawn_window_by_window_each_token_once(grid: tuple[int, ...]) -> None:
    prior = JointPrior()
    drawn = draw_all(prior, Wish(2, seed=4, grid=grid))
    assert drawn.tokens.shape == (2, *grid)
    assert (drawn.tokens < 3).all()
    assert drawn.windowed == (grid != (2, 2))
    assert (drawn.bits > 0).all()


def test_the_code_length_of_windows_is_exact() -> None:
    """Of 1 x 3 tokens by windows of 2 x 2: p of all 27 sums to one."""
    prior = JointPrior()
    drawn = draw_all(prior, Wish(NUM, seed=2, grid=(1, 3)), batch=1000)
    by_grid = {tuple(g.ravel()): b for g, b in zip(drawn.tokens, drawn.bits, strict=True)}
    p = {grid: 2.0**-bits for grid, bits in by_grid.items()}
    assert sum(p.values()) == pytest.approx(1.0, abs=0.01)
    counts = {grid: (drawn.tokens.reshape(-1, 3) == grid).all(axis=1).sum() for grid in p}
    often = [grid for grid in p if p[grid] * NUM >= 5]
    total = sum(counts[grid] for grid in often) / sum(p[grid] for grid in often)
    observed = [counts[grid] for grid in often]
    assert stats.chisquare(observed, [p[grid] * total for grid in often]).pvalue > 1e-3


KNOWN, MASK = np.zeros((2, 2), int), np.ones((2, 2), bool)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n": 0}, "n must be"),
        ({"n": 2.5}, "n must be a whole number"),
        ({"seed": -1}, "seed must be"),
        ({"seed": 2**64}, "seed must be"),
        ({"passes": 0}, "passes must be"),
        ({"temperature": "1"}, "temperature must be"),
        ({"label": 2}, r"label must be in 0 .. 1, or one of one, two"),
        ({"label": "three"}, r"or one of one, two"),
        ({"cfg_scale": 1.0}, "cfg_scale needs a label"),
        ({"grid": (2, 2, 2)}, "2 positive numbers, such as 2 x 2"),
        ({"grid": (0, 2)}, "2 positive numbers"),
        ({"grid": 2}, r"\(h, w\)"),
        ({"known": KNOWN}, "need a mask"),
        ({"mask": MASK}, "need a mask"),
    ],
)
def test_a_wish_that_cannot_be_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidParameter, match=words):
        draw_all(JointPrior(), checked_wish(**options))


@pytest.mark.parametrize(
    ("known", "words"),
    [(KNOWN + 3, "0 .. 2"), (KNOWN - 1, "0 .. 2"), (KNOWN * 1.0, "integers"), (KNOWN[0], "shape")],
)
def test_known_tokens_are_codes_of_the_grid(known: NDArray[Any], words: str) -> None:
    with pytest.raises(InvalidTokens, match=words):
        draw_all(JointPrior(), Wish(known=known, mask=MASK))


@pytest.mark.parametrize("wish", [Wish(grid=(3, 3)), Wish(known=KNOWN, mask=MASK), Wish(passes=2)])
def test_a_prior_of_one_order_draws_whole_native_grids_only(wish: Wish) -> None:
    prior = JointPrior(any_order=False)
    with pytest.raises(InvalidParameter, match=r"\(joint\) draws one token after another"):
        draw_all(prior, wish)
    assert draw_all(prior, Wish(2)).tokens.shape == (2, 2, 2)


def test_another_number_of_passes_reveals_in_the_same_order() -> None:
    prior = JointPrior((0, 1, 2, 3))
    two = draw_all(prior, Wish(NUM, seed=6, passes=2), batch=1000)
    assert prior.batches == [1000] * 12
    same = draw_all(JointPrior((0, 0, 1, 1)), Wish(NUM, seed=6), batch=1000)
    assert np.array_equal(two.tokens, same.tokens)
    assert np.array_equal(two.bits, same.bits)
    assert draw_all(prior, Wish(passes=99)).tokens.shape == (1, 2, 2)


def test_labels_have_names() -> None:
    prior = JointPrior()
    by_name = draw_all(prior, Wish(20, label="two"))
    assert np.array_equal(by_name.tokens, draw_all(prior, Wish(20, label=1)).tokens)


@pytest.mark.parametrize(
    "wish",
    [
        Wish(3),
        Wish(2, label=0, rule=SamplingRule(cfg_scale=1.0)),
        Wish(1, passes=2),
        Wish(2, grid=(5, 7)),
        Wish(1, known=KNOWN, mask=MASK),
    ],
)
def test_no_wish_takes_more_rows_than_are_counted_for_it(wish: Wish) -> None:
    prior = JointPrior()
    draw_all(prior, wish)
    rows = most_rows(prior, wish)
    assert sum(prior.batches) <= rows
    if wish.mask is None:
        # A window beside others has a quarter of its positions left to draw.
        assert sum(prior.batches) >= rows / 4

"""Divergences against loops written from their formulas, in float64."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from vqtok.statistics import ReferenceUsage


def kl_by_formula(live: NDArray[np.int64], reference: NDArray[np.int64]) -> float:
    """sum p log2(p / r), r = (count + 1/2) / (M + K/2)."""
    total = 0.0
    for count, seen in zip(live.tolist(), reference.tolist(), strict=True):
        if count:
            p = count / int(live.sum())
            r = (seen + 0.5) / (int(reference.sum()) + len(reference) / 2)
            total += p * math.log2(p / r)
    return total


def js_by_formula(live: NDArray[np.int64], reference: NDArray[np.int64]) -> float:
    """(KL(p || m) + KL(r || m)) / 2, m = (p + r) / 2, over all codes."""
    total = 0.0
    for count, seen in zip(live.tolist(), reference.tolist(), strict=True):
        p = count / int(live.sum())
        r = (seen + 0.5) / (int(reference.sum()) + len(reference) / 2)
        m = (p + r) / 2
        total += (p * math.log2(p / m) if p else 0.0) / 2 + r * math.log2(r / m) / 2
    return total


@pytest.mark.parametrize("codebook_size", [2, 37, 1024])
def test_divergences_are_those_of_the_formulas(codebook_size: int) -> None:
    rng = np.random.default_rng(codebook_size)
    shares = rng.dirichlet(np.full(codebook_size, 0.3))
    reference = rng.multinomial(5000, shares)
    live = rng.multinomial(300, rng.dirichlet(np.full(codebook_size, 0.3)))
    found = ReferenceUsage(reference).compare(live[None])
    assert found.kl_bits == pytest.approx(kl_by_formula(live, reference), rel=1e-12)
    assert found.js_bits == pytest.approx(js_by_formula(live, reference), rel=1e-12)
    new = live[reference == 0].sum() / live.sum()
    assert found.new_code_rate == pytest.approx(new)


def test_levels_of_depth_add_up_and_new_codes_are_their_mean() -> None:
    rng = np.random.default_rng(5)
    reference, live = rng.integers(0, 4, (3, 20)), rng.integers(0, 9, (3, 20))
    found = ReferenceUsage(reference).compare(live)
    levels = [ReferenceUsage(r).compare(x[None]) for r, x in zip(reference, live, strict=True)]
    assert found.kl_bits == pytest.approx(sum(each.kl_bits for each in levels))
    assert found.js_bits == pytest.approx(sum(each.js_bits for each in levels))
    assert found.new_code_rate == pytest.approx(np.mean([each.new_code_rate for each in levels]))


def test_the_reference_itself_lies_at_nought_and_what_it_never_saw_is_all_new() -> None:
    reference = np.full(64, 1000)
    same = ReferenceUsage(reference).compare(reference[None])
    assert (same.kl_bits, same.js_bits, same.new_code_rate) == pytest.approx((0, 0, 0), abs=1e-12)
    half = np.array([1000, 1000, 0, 0])
    far = ReferenceUsage(half).compare(np.array([[0, 0, 7, 7]]))
    assert far.new_code_rate == 1
    assert far.js_bits == pytest.approx(1, abs=0.01)
    assert math.isfinite(far.kl_bits)


def test_uniform_tokens_against_a_skewed_reference_by_hand() -> None:
    reference = np.array([3, 1]) * 10**9
    expected = 0.5 * math.log2(0.5 / 0.75) + 0.5 * math.log2(0.5 / 0.25)
    assert ReferenceUsage(reference).kl_bits(np.array([[8, 8]])) == pytest.approx(
        expected, rel=1e-6
    )

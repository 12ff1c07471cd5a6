"""Distances and dimensions of a codebook against figures worked out otherwise."""

import numpy as np
import pytest

from vqtok.statistics import codebook_distances, effective_dimension


def test_distances_of_a_square() -> None:
    distances = codebook_distances(np.array([[0, 0], [0, 1], [1, 0], [5, 5]], np.float32))
    assert distances.nearest_min == pytest.approx(1)
    assert distances.nearest_median == pytest.approx(1)
    assert distances.nearest_mean == pytest.approx((1 + 1 + 1 + 41**0.5) / 4)
    assert distances.pairwise_median == pytest.approx((2**0.5 + 41**0.5) / 2)
    assert distances.duplicates == 0


def test_twin_codes_far_from_the_origin_are_duplicates() -> None:
    table = np.random.default_rng(1).standard_normal((64, 4)).astype(np.float32)
    table[10] = table[20]
    distances = codebook_distances(table + 100)
    assert distances.duplicates == 2
    assert codebook_distances(np.ones((4, 2), np.float32)).duplicates == 4


def test_a_large_table_is_measured_in_blocks() -> None:
    table = np.random.default_rng(1).standard_normal((3000, 3)).astype(np.float32)
    nearest = np.full(3000, np.inf)
    for index in range(3000):
        distance = np.linalg.norm(table.astype(float) - table[index], axis=1)
        distance[index] = np.inf
        nearest[index] = distance.min()
    distances = codebook_distances(table)
    assert distances.nearest_min == pytest.approx(nearest.min(), rel=1e-6)
    assert distances.nearest_mean == pytest.approx(nearest.mean(), rel=1e-9)


def test_the_dimension_is_that_of_the_codes_in_use() -> None:
    rng = np.random.default_rng(2)
    table = rng.standard_normal((4096, 6)).astype(np.float32)
    everywhere = effective_dimension(table, np.ones(4096))
    assert everywhere.code_dim == 6
    assert everywhere.participation_ratio == pytest.approx(6, rel=0.01)
    assert everywhere.entropy == pytest.approx(6, rel=0.01)
    table[2048:, 1:] = 0
    on_a_line = effective_dimension(table, np.arange(4096) >= 2048)
    assert on_a_line.participation_ratio == pytest.approx(1)
    assert on_a_line.entropy == pytest.approx(1)


def test_the_dimension_weighs_codes_by_their_use_as_the_formula_says() -> None:
    rng = np.random.default_rng(3)
    table = (rng.standard_normal((50, 4)) * [3, 1, 0.5, 0.1] + 7).astype(np.float32)
    counts = rng.integers(0, 9, 50)
    covariance = np.cov(table.T.astype(np.float64), ddof=0, fweights=counts)
    spread = np.linalg.eigvalsh(covariance)
    shares = spread / spread.sum()
    found = effective_dimension(table, counts)
    assert found.participation_ratio == pytest.approx(spread.sum() ** 2 / (spread**2).sum())
    assert found.entropy == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))


def test_one_code_or_none_has_no_dimension() -> None:
    table = np.eye(4, dtype=np.float32)
    for counts in ([0, 0, 0, 0], [0, 5, 0, 0]):
        found = effective_dimension(table, np.array(counts))
        assert (found.participation_ratio, found.entropy) == (None, None)

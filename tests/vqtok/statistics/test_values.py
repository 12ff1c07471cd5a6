"""Quantiles of a histogram against those of the values themselves."""

import numpy as np
import pytest

from vqtok.statistics import ValueHistogram
from vqtok.statistics.values import BINS_PER_DECADE

WIDTH = 10 ** (1 / BINS_PER_DECADE)
SHARES = (0.01, 0.05, 0.25, 0.5, 0.99)


@pytest.mark.parametrize("seed", range(5))
def test_quantiles_are_off_by_less_than_a_bin_and_the_mean_is_exact(seed: int) -> None:
    values = np.random.default_rng(seed).lognormal(-4, 1.5, 5000).astype(np.float32)
    histogram = ValueHistogram(1e-6, 1e2)
    for part in np.array_split(values, 7):
        histogram.add(part)
    summary = histogram.summary(*SHARES)
    assert summary.num_values == 5000
    assert summary.mean == pytest.approx(values.mean(dtype=np.float64), rel=1e-12)
    for share, found in zip(SHARES, summary.quantiles.values(), strict=True):
        assert found is not None
        assert 1 / WIDTH < found / np.quantile(values, share) < WIDTH


def test_weights_count_as_repetition() -> None:
    values = np.random.default_rng(0).random(500)
    weighed, repeated = ValueHistogram(1e-6, 1), ValueHistogram(1e-6, 1)
    weighed.add(values[:200], 3.0)
    weighed.add(values[200:])
    repeated.add(values[:200].repeat(3))
    repeated.add(values[200:])
    assert weighed.summary(0.5).quantiles == repeated.summary(0.5).quantiles
    assert weighed.summary().mean == pytest.approx(repeated.summary().mean)
    assert weighed.summary().num_values == 500


def test_values_outside_the_bins_are_counted_at_their_ends_and_no_numbers_are_not() -> None:
    histogram = ValueHistogram(0.01, 10)
    histogram.add(np.array([0.0, 1e-9, 5.0, 1e6, np.nan, np.inf]))
    summary = histogram.summary(0.25, 0.99)
    assert summary.num_values == 4
    assert summary.quantiles["p25"] == pytest.approx(0.005)
    assert summary.quantiles["p99"] == pytest.approx(10)


def test_histograms_add_up() -> None:
    values = np.random.default_rng(1).random(300)
    whole, first, second = (ValueHistogram(1e-6, 1) for _ in range(3))
    whole.add(values)
    first.add(values[:100])
    second.add(values[100:])
    first.merge(second)
    ours, theirs = first.summary(*SHARES), whole.summary(*SHARES)
    assert ours.quantiles == theirs.quantiles
    assert (ours.num_values, ours.mean) == (theirs.num_values, pytest.approx(theirs.mean))


def test_without_values_there_are_no_figures() -> None:
    summary = ValueHistogram(1e-6, 1).summary(0.05, 0.5)
    assert (summary.num_values, summary.mean) == (0, None)
    assert summary.quantiles == {"p05": None, "p50": None}

"""Intervals are scipy's; curves are read on straight lines and not beyond their start."""

import numpy as np
import pytest
from scipy import stats

from training.compare.statistics import Interval, at_time, paired_interval

CURVE = [
    {"step": 10, "seconds": 2.0, "mse": 0.08},
    {"step": 20, "seconds": 4.0, "mse": 0.04},
    {"step": 30, "seconds": 8.0, "mse": 0.03},
]


@pytest.mark.parametrize("count", [2, 3, 5, 30])
def test_the_interval_is_that_of_scipys_paired_t_test(count: int) -> None:
    rng = np.random.default_rng(count)
    ours, theirs = rng.normal(1.0, 0.3, count), rng.normal(0.9, 0.2, count)
    expected = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    interval = paired_interval(ours.tolist(), theirs.tolist())
    assert interval is not None
    assert interval.mean == pytest.approx(float((ours - theirs).mean()), rel=1e-12)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_pairing_takes_out_what_seeds_share() -> None:
    seeds = np.array([1.0, 5.0, 9.0])
    interval = paired_interval((seeds + np.array([0.10, 0.11, 0.12])).tolist(), seeds.tolist())
    assert interval is not None
    assert not interval.holds_zero
    assert stats.ttest_ind(seeds + 0.11, seeds).confidence_interval(0.95).low < 0.0


def test_one_seed_has_no_interval_and_seeds_that_do_not_pair_are_refused() -> None:
    assert paired_interval([1.0], [2.0]) is None
    with pytest.raises(ValueError, match="2 and 1 runs do not pair"):
        paired_interval([1.0, 2.0], [1.0])


@pytest.mark.parametrize(("low", "high", "holds"), [(-1, 1, True), (0, 1, True), (0.1, 1, False)])
def test_an_interval_holds_zero_with_its_ends(low: float, high: float, *, holds: bool) -> None:
    assert Interval(0.5, low, high).holds_zero is holds


@pytest.mark.parametrize(
    ("seconds", "mse"),
    [(2.0, 0.08), (3.0, 0.06), (4.0, 0.04), (5.0, 0.0375), (8.0, 0.03), (99.0, 0.03)],
)
def test_a_curve_is_read_between_its_validations(seconds: float, mse: float) -> None:
    assert at_time(CURVE, seconds) == pytest.approx(mse, rel=1e-12)


def test_before_its_first_validation_a_curve_says_nothing() -> None:
    assert at_time(CURVE, 1.999) is None
    assert at_time([], 5.0) is None

"""Ratios of what was measured in the same rounds, with 95 % intervals: middle, low, high."""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

RESAMPLES = 2000

Ratio = tuple[float, float, float]


def ratio_of_rounds(above: NDArray[np.float64], below: NDArray[np.float64]) -> Ratio:
    """The geometric mean of the ratio in each round, and Student's interval of the logarithms."""
    logs = np.log(above / below)
    half = 0.0
    if len(logs) > 1:
        half = float(stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs)))
    middle = float(logs.mean())
    return float(np.exp(middle)), float(np.exp(middle - half)), float(np.exp(middle + half))


def ratio_of_medians(above: NDArray[np.float64], below: NDArray[np.float64]) -> Ratio:
    """The ratio of the medians over the rounds, and its interval by rounds that are drawn again.
    For differences, of which one round alone says little and may be below zero.
    """
    drawn = np.random.default_rng(0).integers(0, len(above), (RESAMPLES, len(above)))
    ratios = np.median(above[drawn], axis=1) / np.median(below[drawn], axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(np.median(above) / np.median(below)), float(low), float(high)

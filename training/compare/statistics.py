"""Differences over seeds, and learning curves at a time."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtrit

CONFIDENCE = 0.95
ENOUGH_SEEDS = 3
"""With fewer nothing is called best or tied."""


class Interval(NamedTuple):
    """A mean difference and where it lies with 95 % confidence."""

    mean: float
    low: float
    high: float

    @property
    def holds_zero(self) -> bool:
        return self.low <= 0.0 <= self.high


def paired_interval(ours: Sequence[float], theirs: Sequence[float]) -> Interval | None:
    """Student's interval of the mean of ours - theirs, paired by seed; None below two pairs.

    Raises ValueError for sequences of different lengths.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} and {len(theirs)} runs do not pair")
    if len(ours) < 2:
        return None
    differences = np.subtract(ours, theirs)
    mean = float(differences.mean())
    error = float(differences.std(ddof=1)) / math.sqrt(len(differences))
    half = float(stdtrit(len(differences) - 1, (1.0 + CONFIDENCE) / 2.0)) * error
    return Interval(mean, mean - half, mean + half)


def at_time(history: Sequence[Mapping[str, Any]], seconds: float) -> float | None:
    """The validation MSE after `seconds` of training, between two validations on a straight line.

    After the last validation its own MSE, since the run had ended; None before the first.
    """
    if not history or seconds < history[0]["seconds"]:
        return None
    times = [point["seconds"] for point in history]
    return float(np.interp(seconds, times, [point["mse"] for point in history]))

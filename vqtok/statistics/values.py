"""Mean and quantiles of many values in little memory."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS_PER_DECADE = 20
"""A quantile is off by at most the width of its bin, a factor of 10 ** (1 / 20) or 12 %."""


@dataclass(frozen=True)
class ValueSummary:
    """`quantiles` by their names ("p50"); None where there are no values."""

    num_values: int
    mean: float | None
    quantiles: dict[str, float | None]


class ValueHistogram:
    """Values of at least 0, counted in bins of equal ratio from `lowest` to `highest`; one bin
    below and one above take the rest. Values that are no numbers are left out.
    """

    def __init__(self, lowest: float, highest: float) -> None:
        self._start = float(np.log10(lowest))
        decades = float(np.log10(highest)) - self._start
        self._num_bins = round(decades * BINS_PER_DECADE)
        self._counts = np.zeros(self._num_bins + 2)
        self._sum = 0.0
        self._weight = 0.0
        self._num_values = 0

    def add(self, values: NDArray[Any], weight: float = 1.0) -> None:
        """Count values (n,), each `weight` times."""
        finite = np.isfinite(values)
        if not finite.all():
            values = values[finite]
        with np.errstate(divide="ignore"):
            places = (np.log10(values) - self._start) * BINS_PER_DECADE
        bins = np.clip(np.floor(places) + 1, 0, self._num_bins + 1).astype(np.intp)
        self._counts += weight * np.bincount(bins, minlength=self._num_bins + 2)
        self._sum += weight * float(values.sum(dtype=np.float64))
        self._weight += weight * len(values)
        self._num_values += len(values)

    def merge(self, other: "ValueHistogram") -> None:
        """Add what another histogram of the same bins has counted."""
        self._counts += other._counts
        self._sum += other._sum
        self._weight += other._weight
        self._num_values += other._num_values

    def summary(self, *quantiles: float) -> ValueSummary:
        """Mean and the quantiles, of which 0.5 is named "p50"."""
        mean = self._sum / self._weight if self._weight else None
        named = {f"p{100 * share:02g}": self.quantile(share) for share in quantiles}
        return ValueSummary(self._num_values, mean, named)

    def quantile(self, share: float) -> float | None:
        """The value below which this share of the values lies."""
        if not self._weight:
            return None
        reached = np.cumsum(self._counts)
        wanted = share * float(reached[-1])
        place = int(np.searchsorted(reached, wanted))
        within = (wanted - (reached[place - 1] if place else 0.0)) / self._counts[place]
        if place == 0:
            return float(within * 10**self._start)
        # Within a bin the logarithms are taken to be spread evenly; the last has no upper end.
        bins = min(place - 1 + within, self._num_bins)
        return float(10 ** (self._start + bins / BINS_PER_DECADE))

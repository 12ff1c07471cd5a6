"""Histograms for what happens several times a request: to note a value takes a quarter of the time
that the client library's take.
"""

import threading
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

import numpy as np
from prometheus_client import Metric
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector


class Series:
    """The values of one set of labels. Safe for several threads."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._lock = threading.Lock()

    def observe(self, value: float) -> None:
        """Note one value."""
        bucket = bisect_left(self._bounds, value)
        with self._lock:
            self._counts[bucket] += 1
            self._sum += value

    def observe_all(self, values: Sequence[float]) -> None:
        """Note several values."""
        buckets = np.searchsorted(self._bounds, values)
        counts = np.bincount(buckets, minlength=len(self._counts)).tolist()
        with self._lock:
            self._counts = [old + new for old, new in zip(self._counts, counts, strict=True)]
            self._sum += sum(values)

    def read(self) -> tuple[list[tuple[str, float]], float]:
        """Each bound as text with the number of values not above it, and the sum of all values."""
        with self._lock:
            counts, total = list(self._counts), self._sum
        names = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(counts)), strict=True)), total


class Histograms(Collector):
    """A histogram for each set of labels, as Prometheus reads it; `bounds` ascend."""

    def __init__(
        self, name: str, meaning: str, *, bounds: Sequence[float], labels: Sequence[str] = ()
    ) -> None:
        self._name = name
        self._meaning = meaning
        self._labels = labels
        self._bounds = bounds
        self._series: dict[tuple[str, ...], Series] = {}

    def series(self, *values: str) -> Series:
        """The one for these labels; made when it is first asked for."""
        return self._series.setdefault(values, Series(self._bounds))

    def collect(self) -> Iterable[Metric]:
        """Called at every scrape."""
        family = HistogramMetricFamily(self._name, self._meaning, labels=self._labels)
        for values, series in list(self._series.items()):
            buckets, total = series.read()
            family.add_metric(values, buckets, total)
        return [family]

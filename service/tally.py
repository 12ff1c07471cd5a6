"""Requests that were answered, counted in bunches: to count each of them at once would take some
hundredths of what the service adds to a small image.
"""

import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from service.histogram import Histograms

BUNCH_REQUESTS = 256


class _Answered(NamedTuple):
    route: str
    status: int
    seconds: Mapping[str, float] | None


class RequestTally(Collector):
    """Counts requests by route and status, and the time that they spent in each of `stages`, by
    the `bounds` of a histogram. What is read is always up to date.

    `admit` and `answer` belong to the event loop; any thread may read.
    """

    def __init__(self, stages: Sequence[str], bounds: Sequence[float]) -> None:
        self.num_admitted = 0
        self._stages = stages
        self._waiting: deque[_Answered] = deque()
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str], int] = {}
        self._seconds = Histograms(
            "vqtok_stage_seconds",
            "Time that an answered request spent in each stage.",
            labels=("stage", "route"),
            bounds=bounds,
        )

    def admit(self) -> None:
        """Count a request that passed the first gate."""
        self.num_admitted += 1

    def answer(self, route: str, status: int, seconds: Mapping[str, float] | None) -> None:
        """Count an answer, and the seconds in each stage if they are of interest."""
        self._waiting.append(_Answered(route, status, seconds))
        if len(self._waiting) >= BUNCH_REQUESTS:
            self._settle()

    def collect(self) -> Iterable[Metric]:
        """Called at every scrape."""
        self._settle()
        admitted = CounterMetricFamily(
            "vqtok_requests_admitted",
            "Requests that passed the first gate; those whose caller stays get an answer.",
            value=self.num_admitted,
        )
        answered = CounterMetricFamily(
            "vqtok_requests",
            "Requests by route and status; 499 is a caller who left.",
            labels=("route", "status"),
        )
        with self._lock:
            for labels, count in self._counts.items():
                answered.add_metric(labels, count)
        return [admitted, answered, *self._seconds.collect()]

    def _settle(self) -> None:
        with self._lock:
            # Others may come meanwhile; they wait for the next time.
            some = [self._waiting.popleft() for _ in range(len(self._waiting))]
            for each in some:
                labels = (each.route, str(each.status))
                self._counts[labels] = self._counts.get(labels, 0) + 1
            for route in {each.route for each in some}:
                self._observe(route, [each.seconds for each in some if each.route == route])

    def _observe(self, route: str, answered: Sequence[Mapping[str, float] | None]) -> None:
        timed = [seconds for seconds in answered if seconds is not None]
        if timed:
            for stage in self._stages:
                series = self._seconds.series(stage, route)
                series.observe_all([seconds.get(stage, 0.0) for seconds in timed])

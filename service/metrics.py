"""What Prometheus reads. Every label has a fixed set of values, so no input can add a series."""

import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import partial

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from starlette.routing import compile_path

from service.admission import Reserved
from service.batch import BatchReport
from service.histogram import Histograms, Series
from service.tally import RequestTally
from service.token_cache import Origins, TokenCache

STAGES = ("admit", "body", "decode", "queue", "model", "serialize")
IMAGE_KINDS = ("encode", "decode", "sample", "reconstruct")
REFUSALS = ("slots", "bytes", "work", "quota", "too_large", "key", "not_ready", "draining")
DROPS = ("disconnect", "deadline")
OTHER_ROUTE = "other"

_SECONDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The service's metrics in a registry of their own. Also the batcher's observer."""

    def __init__(self, routes: Iterable[str], version: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        paths = [*routes]
        self._plain_routes = {path for path in paths if "{" not in path}
        self._routes = [(path, compile_path(path)[0]) for path in paths]
        self._add_requests()
        self._add_work()
        self._add_process(version)

    def _add_requests(self) -> None:
        self.tally = RequestTally(STAGES, _SECONDS)
        self.registry.register(self.tally)
        self.refused = Counter(
            "vqtok_requests_refused",
            "Requests refused for want of a key or at one of the two gates, by what was lacking.",
            ["reason"],
            registry=self.registry,
        )
        for reason in REFUSALS:
            self.refused.labels(reason)

    def _add_work(self) -> None:
        images = Counter(
            "vqtok_images",
            "Images answered, by what was done with them.",
            ["kind"],
            registry=self.registry,
        )
        # To look a series up by its labels takes longer than to count.
        self._image_series = {kind: images.labels(kind) for kind in IMAGE_KINDS}
        self.queue_items = Gauge(
            "vqtok_queue_items", "Items that wait for a runner.", registry=self.registry
        )
        self.queue_seconds = self._histogram(
            "vqtok_queue_seconds", "Time that entries of the queue waited for a runner.", _SECONDS
        )
        self.batch_size = self._histogram(
            "vqtok_batch_size", "Items that the model ran on at once.", _BATCH_SIZES
        )
        self.abandoned = Counter(
            "vqtok_abandoned",
            "Items dropped before the model ran: the caller left, or the deadline passed.",
            ["reason"],
            registry=self.registry,
        )
        self.cache_images = Counter(
            "vqtok_cache_images",
            "Images whose tokens were in the cache, were waited for, or had to be computed.",
            ["outcome"],
            registry=self.registry,
        )
        for outcome in asdict(Origins()):
            self.cache_images.labels(outcome)
        for reason in DROPS:
            self.abandoned.labels(reason)

    def _add_process(self, version: str) -> None:
        self.loop_lag = self._histogram(
            "vqtok_event_loop_lag_seconds", "How late the event loop runs what is due.", _SECONDS
        )
        self.ready = Gauge(
            "vqtok_ready", "1 while requests are taken, else 0.", registry=self.registry
        )
        self.build_info = Gauge(
            "vqtok_build_info",
            "1; the labels say what runs.",
            ["version", "python"],
            registry=self.registry,
        )
        self.build_info.labels(version, platform.python_version()).set(1)

    def _histogram(self, name: str, meaning: str, bounds: Sequence[float]) -> Series:
        histograms = Histograms(name, meaning, bounds=bounds)
        self.registry.register(histograms)
        return histograms.series()

    def watch_admission(self, reserved: Callable[[], Reserved]) -> None:
        """Read what is reserved from `reserved` at each scrape."""
        gauges: dict[str, tuple[str, Callable[[Reserved], float]]] = {
            "vqtok_requests_in_work": ("Requests that hold a slot.", lambda r: r.requests),
            "vqtok_body_bytes_held": ("Bytes of bodies reserved or held.", lambda r: r.num_bytes),
            "vqtok_work_seconds": ("Device time reserved by requests.", lambda r: r.seconds),
        }
        for name, (meaning, read) in gauges.items():
            gauge = Gauge(name, meaning, registry=self.registry)
            gauge.set_function(partial(_read, reserved, read))

    def watch_cache(self, cache: TokenCache) -> None:
        """Read the cache's size at each scrape."""
        size = Gauge("vqtok_cache_bytes", "Memory of cached tokens.", registry=self.registry)
        size.set_function(lambda: cache.num_bytes)
        evicted = Gauge(
            "vqtok_cache_evicted_images",
            "Images whose tokens had to go for others, since the start.",
            registry=self.registry,
        )
        evicted.set_function(lambda: cache.num_evicted)

    def watch_queue(self, num_queued: Callable[[], int]) -> None:
        """Read the queue's length from `num_queued` at each scrape."""
        self.queue_items.set_function(lambda: float(num_queued()))

    def count_images(self, kind: str, count: int) -> None:
        """Count images that are answered, of one of `IMAGE_KINDS`."""
        self._image_series[kind].inc(count)

    def route_label(self, path: str) -> str:
        """The known route that a path belongs to, else "other"."""
        if path in self._plain_routes:
            return path
        for route, pattern in self._routes:
            if pattern.fullmatch(path):
                return route
        return OTHER_ROUTE

    def batch_done(self, report: BatchReport) -> None:
        """A batch has run; called from runner threads."""
        self.batch_size.observe(report.num_rows)
        for seconds in report.waited:
            self.queue_seconds.observe(seconds)

    def rows_dropped(self, num_rows: int, reason: str) -> None:
        """Rows were dropped before the model ran; called from runner threads."""
        self.abandoned.labels(reason).inc(num_rows)

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)


def _read(reserved: Callable[[], Reserved], read: Callable[[Reserved], float]) -> float:
    return read(reserved())

"""Our histograms are read by Prometheus as the client library's are."""

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from service.histogram import Histograms, Series

BOUNDS = (0.0001, 0.00025, 0.5, 1.0, 30.0)
VALUES = (0.0, 0.0001, 0.00011, 0.5, 0.7, 29.0, 31.0)


def _lines(registry: CollectorRegistry) -> list[str]:
    lines = generate_latest(registry).decode().splitlines()
    return [line for line in lines if "_created" not in line]


def test_it_says_what_the_librarys_says() -> None:
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    histogram = Histogram("a_seconds", "Some time.", ["x", "y"], buckets=BOUNDS, registry=theirs)
    histograms = Histograms("a_seconds", "Some time.", bounds=BOUNDS, labels=("x", "y"))
    ours.register(histograms)
    for number, value in enumerate(VALUES):
        labels = ("even" if number % 2 else "odd", 'with "quotes"')
        histogram.labels(*labels).observe(value)
        histograms.series(*labels).observe(value)
    assert _lines(ours) == _lines(theirs)


def test_one_without_labels_or_values_is_there_too() -> None:
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    Histogram("a_seconds", "Some time.", buckets=BOUNDS, registry=theirs)
    histograms = Histograms("a_seconds", "Some time.", bounds=BOUNDS)
    histograms.series()
    ours.register(histograms)
    assert _lines(ours) == _lines(theirs)


def test_several_values_at_once_count_like_each_alone() -> None:
    alone, together = Series(BOUNDS), Series(BOUNDS)
    for value in VALUES:
        alone.observe(value)
    together.observe_all(VALUES[:3])
    together.observe_all(VALUES[3:])
    (buckets, total), (expected, alone_total) = together.read(), alone.read()
    assert buckets == expected
    assert total == pytest.approx(alone_total)

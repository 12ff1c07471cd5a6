"""Requests are counted in bunches, and whoever reads sees all of them."""

import threading

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from service.tally import BUNCH_REQUESTS, RequestTally

BOUNDS = (0.001, 0.5, 1.0)
STAGES = ("body", "model")


def _read(tally: RequestTally) -> list[str]:
    registry = CollectorRegistry()
    registry.register(tally)
    return _lines(registry)


def _lines(registry: CollectorRegistry) -> list[str]:
    lines = generate_latest(registry).decode().splitlines()
    return sorted(line for line in lines if "_created" not in line and not line.startswith("#"))


def test_it_says_what_the_librarys_counters_say_at_any_moment() -> None:
    theirs = CollectorRegistry()
    admitted = Counter("vqtok_requests_admitted", "Passed.", registry=theirs)
    answered = Counter("vqtok_requests", "Answered.", ["route", "status"], registry=theirs)
    seconds = Histogram(
        "vqtok_stage_seconds", "Time.", ["stage", "route"], buckets=BOUNDS, registry=theirs
    )
    tally = RequestTally(STAGES, BOUNDS)
    for number in range(2 * BUNCH_REQUESTS + 10):
        route, status = ("/a", "/b")[number % 2], (200, 429, 499)[number % 3]
        tally.admit()
        admitted.inc()
        times = {"model": number / 256} if status == 200 else None
        tally.answer(route, status, times)
        answered.labels(route, status).inc()
        if times is not None:
            seconds.labels("model", route).observe(times["model"])
            # A stage that a request has not been through took it no time.
            seconds.labels("body", route).observe(0.0)
        if number in (0, BUNCH_REQUESTS - 2, BUNCH_REQUESTS - 1, BUNCH_REQUESTS):
            assert _read(tally) == _lines(theirs)
    assert _read(tally) == _lines(theirs)


def test_nothing_is_lost_when_others_read_meanwhile() -> None:
    tally = RequestTally(STAGES, BOUNDS)
    done = threading.Event()

    def read_all_the_time() -> None:
        while not done.is_set():
            _read(tally)

    readers = [threading.Thread(target=read_all_the_time) for _ in range(3)]
    for reader in readers:
        reader.start()
    count = 40 * BUNCH_REQUESTS + 7
    for _ in range(count):
        tally.answer("/a", 200, {"model": 2.0})
    done.set()
    for reader in readers:
        reader.join()
    lines = _read(tally)
    assert f'vqtok_requests_total{{route="/a",status="200"}} {count}.0' in lines
    assert f'vqtok_stage_seconds_count{{route="/a",stage="model"}} {count}.0' in lines

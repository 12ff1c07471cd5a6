"""What the service adds to the model, by the operating system's accounts.

    python -m benchmarks.serving.added_cost

The server has one core and the load another. What a server uses a request is its processor time
over the requests that it answered. What it adds to the model is told in two ways: beside
onnxruntime alone, which encodes the same images on the server's core a few seconds earlier or
later; and beside what calls of onnxruntime take in the server itself at the same time, by the
clocks of the threads that make them. The first has in it what server and model cost each other in
the processor's caches, and on a machine whose speed changes within seconds it varies by more than
a server adds to large batches; the second does not vary so, and has only one half of that: what
the server's own code loses.

All are measured in turn, two seconds each, many times over; and the servers are started several
times, because where a process happens to lie in memory makes it a few hundredths faster or slower.
"""

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from benchmarks.serving.model_alone import ProcessorSeconds, model_alone
from benchmarks.serving.processes import (
    Neighbours,
    Server,
    in_words,
    processor_name,
    require_programs,
)
from benchmarks.serving.ratios import ratio_of_medians
from benchmarks.serving.servers import (
    BATCH,
    JSON,
    LOAD_CORE,
    NPY,
    PNG,
    SERVER_CORE,
    made_images,
    plain_server,
    service_server,
)
from benchmarks.serving.session_clock import SessionClock
from benchmarks.serving.wrk import Body, burst
from vqtok.images import write_image
from vqtok.wire.npy_format import write_array

RAW_SECONDS = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; the report as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path("bundles/cifar10-gmvq"))
    parser.add_argument("--starts", type=int, default=4, help="how often the servers are started")
    parser.add_argument("--rounds", type=int, default=6, help="after each start")
    parser.add_argument("--seconds", type=int, default=2, help="of load on a server at a time")
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args(arguments)
    require_programs("wrk", "taskset")
    report = measure(chosen.bundle, chosen.starts, chosen.rounds, chosen.seconds)
    if chosen.output is not None:
        chosen.output.write_text(json.dumps(report, indent=1) + "\n")
    for line in lines(report):
        sys.stdout.write(f"{line}\n")
    return 0


def measure(bundle: Path, starts: int, rounds: int, seconds: int) -> dict[str, Any]:
    """Processor seconds an image of each thing that is compared, a list over the rounds."""
    seen: dict[str, list[float]] = {}
    neighbours = Neighbours()
    with Progress() as progress:
        task = progress.add_task("measuring", total=starts * rounds)
        for _ in range(starts):
            with ExitStack() as stack:
                things = _started(bundle, seconds, stack)
                for _ in range(rounds):
                    # Whoever comes after the same other every time has its caches.
                    for name in random.sample(list(things), len(things)):
                        for part, cost in things[name]().items():
                            seen.setdefault(f"{name}{part}", []).append(cost)
                    progress.advance(task)
    return {
        "hardware": processor_name(),
        "stolen_share": neighbours.share(),
        "seconds_an_image": seen,
        "starts": starts,
    }


IN_SESSION = ", of it in the session"

Costs = Mapping[str, float]
"""Processor seconds an image: of the whole, "", and IN_SESSION of what runs a model."""


def _started(bundle: Path, seconds: int, stack: ExitStack) -> dict[str, Callable[[], Costs]]:
    """What is compared, by name."""
    images = made_images()
    one = Body("/v1/encode", PNG, JSON, write_image(images[0]))
    many = Body("/v1/encode", NPY, NPY, write_array(images), BATCH)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    clocks = [folder / "service", folder / "plain"]
    service = stack.enter_context(service_server(bundle, clocks[0])).wait_ready()
    plain = stack.enter_context(plain_server(bundle, clocks[1])).wait_ready()
    alone = stack.enter_context(model_alone(bundle, images, SERVER_CORE))
    of_service, of_plain = (
        _Counted(*each, seconds) for each in zip((service, plain), clocks, strict=True)
    )
    return {
        **{f"raw, {n} at a time": partial(_raw, alone, n) for n in (1, 8, BATCH)},
        "service, PNG": partial(of_service.costs, one, 16),
        "service, npy of 64": partial(of_service.costs, many, 2),
        "plain, PNG": partial(of_plain.costs, _at(one, "/encode"), 16),
        "plain, npy of 64": partial(of_plain.costs, _at(many, "/encode"), 2),
        "plain, PNG without a model": partial(of_plain.costs, _at(one, "/decode-only"), 16),
        "plain, nothing": partial(of_plain.costs, _at(one, "/noop"), 16),
    }


def _raw(alone: ProcessorSeconds, number: int) -> Costs:
    return {"": alone(number, RAW_SECONDS)}


def lines(report: Mapping[str, Any]) -> list[str]:
    """What was found, in words: medians over the rounds, and ratios of them."""
    seen = {name: np.array(v) for name, v in report["seconds_an_image"].items()}
    raw = {number: seen[f"raw, {number} at a time"] for number in (1, 8, BATCH)}
    bare = seen["plain, PNG without a model"]
    found = [f"{name}: {1e6 * np.median(each):.0f} µs an image" for name, each in seen.items()]
    for server in ("service", "plain"):
        for number in (1, 8):
            added = _ratio(seen[f"{server}, PNG"] - raw[number], bare)
            found.append(
                f"{server} adds to a PNG, beside the model {number} at a time, {added} of a plain "
                "route without a model"
            )
        for number in (BATCH, 8):
            share = _ratio(100 * (seen[f"{server}, npy of 64"] - raw[number]), raw[number])
            found.append(f"{server} adds to npy of 64 {share} % of the model, {number} at a time")
        found += [_beside_session(seen, f"{server}, {body}") for body in ("PNG", "npy of 64")]
    return [*found, in_words(report["stolen_share"])]


def _beside_session(seen: Mapping[str, np.ndarray], name: str) -> str:
    inside = seen[f"{name}{IN_SESSION}"]
    share = _ratio(100 * (seen[name] - inside), inside)
    return f"{name}: beside its own calls of the session {share} % of what they take"


def _ratio(above: np.ndarray, below: np.ndarray) -> str:
    middle, low, high = ratio_of_medians(above, below)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def _at(body: Body, path: str) -> Body:
    return Body(path, body.content_type, body.accept, body.data, body.num_images)


class _Counted:
    """A server under load, and the clock at its model."""

    def __init__(self, server: Server, clock: Path, seconds: int) -> None:
        self._server = server
        self._clock = SessionClock(clock)
        self._seconds = seconds

    def costs(self, body: Body, connections: int) -> Costs:
        """While so many connections ask for `body`, for some seconds."""
        before, inside, requests = self._server.processor_seconds(), self._clock.seconds, 0
        # A machine that others share may stand still for longer than a burst.
        while not requests:
            seen = burst(
                self._server.url,
                body,
                connections=connections,
                seconds=self._seconds,
                core=LOAD_CORE,
                drained=True,
            )
            if seen.broken or seen.refused:
                raise RuntimeError(f"{self._server.name} {body.path}: {seen}")
            requests += seen.requests
        images = requests * body.num_images
        costs = {"": (self._server.processor_seconds() - before) / images}
        if inside < self._clock.seconds:
            costs[IN_SESSION] = (self._clock.seconds - inside) / images
        return costs


if __name__ == "__main__":
    sys.exit(main())

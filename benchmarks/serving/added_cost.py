"""What the service adds to the model, by the operating system's accounts.

    python -m benchmarks.serving.added_cost

The server has one core and the load another. What a server uses a request is its processor time
over the requests that it answered; what it adds is that less what onnxruntime alone uses for the
same images on the server's core. All are measured in turn, two seconds each, many times over,
because a machine's speed changes within seconds; and the servers are started several times, because
where a process happens to lie in memory makes it a few hundredths faster or slower.
"""

import argparse
import json
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from benchmarks.serving.model_alone import model_alone
from benchmarks.serving.processes import (
    Neighbours,
    Server,
    free_port,
    in_words,
    processor_name,
    require_programs,
)
from benchmarks.serving.wrk import Body, burst
from vqtok.images import write_image
from vqtok.wire.npy_format import write_array

SERVER_CORE, LOAD_CORE = 0, 1
JSON, NPY, PNG = "application/json", "application/x-npy", "image/png"
BATCH = 64
RAW_SECONDS = 0.5
RESAMPLES = 2000


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
                        seen.setdefault(name, []).append(things[name]())
                    progress.advance(task)
    return {
        "hardware": processor_name(),
        "stolen_share": neighbours.share(),
        "seconds_an_image": seen,
        "starts": starts,
    }


def _started(bundle: Path, seconds: int, stack: ExitStack) -> dict[str, Callable[[], float]]:
    """What is compared, by name; each call gives processor seconds an image."""
    images = made_images()
    one = Body("/v1/encode", PNG, JSON, write_image(images[0]))
    many = Body("/v1/encode", NPY, NPY, write_array(images), BATCH)
    service = stack.enter_context(service_server(bundle)).wait_ready()
    plain = stack.enter_context(plain_server(bundle)).wait_ready()
    alone = stack.enter_context(model_alone(bundle, images, SERVER_CORE))
    without_model = _at(one, "/decode-only")
    return {
        "raw, 1 at a time": lambda: alone(1, RAW_SECONDS),
        "raw, 8 at a time": lambda: alone(8, RAW_SECONDS),
        "raw, 64 at a time": lambda: alone(BATCH, RAW_SECONDS),
        "service, PNG": lambda: _cost(service, one, 16, seconds),
        "service, npy of 64": lambda: _cost(service, many, 2, seconds),
        "plain, PNG": lambda: _cost(plain, _at(one, "/encode"), 16, seconds),
        "plain, npy of 64": lambda: _cost(plain, _at(many, "/encode"), 2, seconds),
        "plain, PNG without a model": lambda: _cost(plain, without_model, 16, seconds),
        "plain, nothing": lambda: _cost(plain, _at(one, "/noop"), 16, seconds),
    }


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
    return [*found, in_words(report["stolen_share"])]


def _ratio(above: np.ndarray, below: np.ndarray) -> str:
    """The ratio of the medians and its 95 % interval, by rounds that are drawn again."""
    drawn = np.random.default_rng(0).integers(0, len(above), (RESAMPLES, len(above)))
    ratios = np.median(above[drawn], axis=1) / np.median(below[drawn], axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return f"{np.median(above) / np.median(below):.2f} ({low:.2f} to {high:.2f})"


def _at(body: Body, path: str) -> Body:
    return Body(path, body.content_type, body.accept, body.data, body.num_images)


def service_server(bundle: Path) -> Server:
    """vqtok on the server's core."""
    port = free_port()
    command = [sys.executable, "-m", "service", "--bundle", str(bundle), "--device", "cpu"]
    return Server(
        "vqtok", [*command, "--port", str(port)], port, ready="/health/ready", cores=[SERVER_CORE]
    )


def plain_server(bundle: Path) -> Server:
    """What a user would write in an afternoon, on the server's core."""
    port = free_port()
    app = "benchmarks.serving.plain.app:app"
    return Server(
        "plain FastAPI",
        [sys.executable, "-m", "uvicorn", app, "--port", str(port), "--no-access-log"],
        port,
        ready="/ready",
        cores=[SERVER_CORE],
        environment={"BENCH_BUNDLE": str(bundle)},
    )


def made_images() -> np.ndarray:
    """64 images of the native size, of coarse noise: uint8 (64, 32, 32, 3)."""
    coarse = np.random.default_rng(0).integers(0, 256, (BATCH, 8, 8, 3)).astype(np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


def _cost(server: Server, body: Body, connections: int, seconds: int) -> float:
    before, requests = server.processor_seconds(), 0
    # A machine that others share may stand still for longer than a burst.
    while not requests:
        seen = burst(
            server.url,
            body,
            connections=connections,
            seconds=seconds,
            core=LOAD_CORE,
            drained=True,
        )
        if seen.broken or seen.refused:
            raise RuntimeError(f"{server.name} {body.path}: {seen}")
        requests += seen.requests
    return (server.processor_seconds() - before) / (requests * body.num_images)


if __name__ == "__main__":
    sys.exit(main())

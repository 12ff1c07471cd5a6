"""vqtok beside other servers of the same encoder: processor time, rate, latency and memory.

    python -m benchmarks.serving.against_peers --output docs/results/serving.json
    python -m benchmarks.serving.page docs/results/serving.json

Makes an environment for each peer first. Every server has one core and the load another; all get
the same JPEG of the model's native size, each in the fastest form that it takes. First the load
generator is shown to be fast enough, then each server is tuned over settings of its documentation,
and then all are measured in turn, round after round, while the others are stopped.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from rich.progress import track

from benchmarks.serving.contenders import CONTENDERS, Contender, Settings, interpreter
from benchmarks.serving.model_alone import model_alone
from benchmarks.serving.processes import (
    ROOT,
    Neighbours,
    Server,
    free_port,
    processor_name,
    require_programs,
)
from benchmarks.serving.servers import LOAD_CORE, SERVER_CORE, made_images
from benchmarks.serving.wrk import Body, Burst, burst
from vqtok.bench.connections import Connections, Request
from vqtok.bench.loops import open_loop
from vqtok.bench.summary import quantile

MANY, LONE = 16, 1
OFFERED_SHARE = 0.5
"""Of what the slowest server manages at most: what all of them can bear without a queue."""
TUNING_SECONDS = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the report as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path("bundles/cifar10-gmvq"))
    parser.add_argument("--environments", type=Path, default=Path(".venv/peers"))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--output", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    require_programs("wrk", "taskset")
    os.sched_setaffinity(0, {LOAD_CORE})
    contenders = [each for each in CONTENDERS if not chosen.only or each.name in chosen.only]
    for each in contenders:
        prepare(each, chosen.environments)
    report = compare(contenders, chosen)
    chosen.output.write_text(json.dumps(report, indent=1) + "\n")
    return 0


def prepare(contender: Contender, environments: Path) -> None:
    """Make the environment of a peer, if it is not there."""
    folder = environments / contender.name
    is_made = folder / "made"
    if contender.python is None or is_made.exists():
        return
    subprocess.run([contender.python, "-m", "venv", "--clear", str(folder)], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "-r"]
    subprocess.run([*pip, str(contender.requirements)], check=True)
    is_made.touch()


def compare(contenders: Sequence[Contender], chosen: argparse.Namespace) -> dict[str, Any]:
    """Tune each server, then measure all of them in turn."""
    jpeg = picture()
    tuned = {each.name: tune(each, jpeg, chosen) for each in contenders}
    slowest = min(max(t["rate"] for t in each["tried"]) for each in tuned.values())
    offered = OFFERED_SHARE * slowest
    seen: dict[str, list[Mapping[str, float]]] = {each.name: [] for each in contenders}
    raw: list[float] = []
    with ExitStack() as stack:
        alone = stack.enter_context(model_alone(chosen.bundle, made_images(), SERVER_CORE))
        servers: dict[str, Server] = {}
        for each in contenders:
            settings = tuned[each.name]["settings"]
            servers[each.name] = stack.enter_context(running(each, settings, chosen))
        generator = generator_rate(chosen)
        for server in servers.values():
            server.pause()
        neighbours = Neighbours()
        for number in track(range(chosen.rounds), "measuring"):
            raw.append(alone(8, 1.0))
            # Who comes first changes from round to round.
            for index in range(len(contenders)):
                each = contenders[(number + index) % len(contenders)]
                server = servers[each.name]
                server.resume()
                seen[each.name].append(measured(server, each.body(jpeg), chosen.seconds, offered))
                server.pause()
        stolen_share = neighbours.share()
        for server in servers.values():
            server.resume()
    return {
        "hardware": processor_name(),
        "stolen_share": stolen_share,
        "rounds": chosen.rounds,
        "seconds": chosen.seconds,
        "jpeg_bytes": len(jpeg),
        "generator_requests_per_second": generator,
        "offered_per_second": offered,
        "model_seconds": raw,
        "tuned": tuned,
        "seen": seen,
    }


def tune(contender: Contender, jpeg: bytes, chosen: argparse.Namespace) -> dict[str, Any]:
    """Images a second under each of its settings, and those with the most, of those that answer
    every request.
    """
    tried: list[dict[str, Any]] = []
    for settings in track(contender.candidates, f"tuning {contender.name}"):
        with running(contender, settings, chosen) as server:
            body = contender.body(jpeg)
            burst(server.url, body, connections=MANY, seconds=1, core=LOAD_CORE)
            found = burst(
                server.url, body, connections=MANY, seconds=TUNING_SECONDS, core=LOAD_CORE
            )
        tried.append(
            {
                "settings": dict(settings),
                "rate": found.requests / found.seconds,
                "unanswered": found.refused + found.broken,
            }
        )
    best = max(tried, key=lambda each: (not each["unanswered"], each["rate"]))
    return {"settings": best["settings"], "tried": tried}


@contextmanager
def running(
    contender: Contender, settings: Settings, chosen: argparse.Namespace
) -> Generator[Server]:
    """A server with these settings, ready for requests."""
    port = free_port()
    python = interpreter(contender, chosen.environments.absolute())
    start = contender.start(python, chosen.bundle.absolute(), port, settings)
    with Server(
        contender.name,
        start.command,
        port,
        ready=contender.ready,
        cores=[SERVER_CORE],
        environment={**start.environment, "PYTHONPATH": str(ROOT)},
        folder=start.folder,
    ) as server:
        yield server.wait_ready()


def picture() -> bytes:
    """A JPEG of the native size, of smooth noise."""
    coarse = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    pixels = np.ascontiguousarray(coarse.repeat(4, axis=0).repeat(4, axis=1))
    return simplejpeg.encode_jpeg(pixels, quality=90, colorspace="RGB")


def generator_rate(chosen: argparse.Namespace) -> float:
    """Requests a second of the load generator against a route that does nothing."""
    (plain,) = (each for each in CONTENDERS if each.name == "plain FastAPI")
    with running(plain, {}, chosen) as server:
        nothing = Body("/noop", "image/jpeg", "application/json", picture())
        found = burst(server.url, nothing, connections=MANY, seconds=3, core=LOAD_CORE)
    return found.requests / found.seconds


def measured(server: Server, body: Body, seconds: int, offered: float) -> Mapping[str, float]:
    """What one round shows of a server: with many callers, with one, with `offered` requests a
    second that wait for nobody, and its memory.
    """
    # It has been stopped, and wakes up.
    burst(server.url, body, connections=LONE, seconds=1, core=LOAD_CORE)
    before = server.processor_seconds()
    load = burst(server.url, body, connections=MANY, seconds=seconds, core=LOAD_CORE, drained=True)
    many = _whole(load)
    used = server.processor_seconds() - before
    lone = _whole(burst(server.url, body, connections=LONE, seconds=seconds, core=LOAD_CORE))
    waits = asyncio.run(_offer(server.url, body, offered, seconds))
    return {
        # The last of each caller was answered after the load.
        "rate": (many.requests - MANY) / seconds,
        "processor_seconds": used / many.requests,
        "p50": many.p50,
        "p99": many.p99,
        "lone_p50": lone.p50,
        "lone_p99": lone.p99,
        "offered_p50": _required(waits, 0.5),
        "offered_p99": _required(waits, 0.99),
        "memory_bytes": float(server.memory()),
    }


async def _offer(url: str, body: Body, rate: float, seconds: float) -> list[float]:
    """Latencies of Poisson arrivals, in order of length."""
    connections = Connections(url, {}, seconds=30.0)
    headers = {"Content-Type": body.content_type, "Accept": body.accept, **body.headers}
    request = Request(body.path, headers, body.data, body.num_images)
    shots = await open_loop(connections.send, [request], rate, seconds, seed=0)
    await connections.close()
    failed = [shot for shot in shots if shot.status != 200]
    if failed:
        raise RuntimeError(f"not every request was answered: {failed[0]}")
    return sorted(shot.latency for shot in shots)


def _required(ordered: Sequence[float], share: float) -> float:
    found = quantile(ordered, share)
    assert found is not None
    return found


def _whole(seen: Burst) -> Burst:
    if seen.broken or seen.refused or not seen.requests:
        raise RuntimeError(f"not every request was answered: {seen}")
    return seen


if __name__ == "__main__":
    sys.exit(main())

"""Ten times what the service can do: how much of that is done, and what a refusal costs.

    python -m benchmarks.serving.overload

The server has one core and the load another. For single images and for arrays of 64: its capacity,
with as many callers as keep it busy; ten times as much, asked for by callers who do not wait for
one another; and one caller again, afterwards. A refusal's cost, where there are thousands of them,
is what the server used beyond what as many answers cost before, over the refusals; it is held
against the cheapest answer of a plain FastAPI route.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.serving.processes import (
    Neighbours,
    Server,
    free_port,
    in_words,
    processor_name,
    require_programs,
)
from benchmarks.serving.servers import (
    BATCH,
    LOAD_CORE,
    SERVER_CORE,
    made_images,
    plain_server,
)
from benchmarks.serving.wrk import Body, burst
from vqtok.bench.connections import Connections, Request
from vqtok.bench.loops import Shot, open_loop
from vqtok.images import write_image
from vqtok.wire.npy_format import write_array

JSON, NPY, PNG = "application/json", "application/x-npy", "image/png"
CALLERS, LONE, CROWD = 16, 1, 1500
TIMES = 10
MANY_REFUSALS = 1000
"""Of fewer the cost is lost in that of the answers."""
OK, BUSY = 200, 429


@dataclass(frozen=True)
class Crowd:
    """What came of too many requests: images answered and requests refused, a second."""

    asked: float
    done: float
    refused: float
    others: Mapping[int, int]
    processor_seconds: float
    seconds: float
    memory_bytes: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; the report as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path("bundles/cifar10-gmvq"))
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args(arguments)
    require_programs("wrk", "taskset")
    os.sched_setaffinity(0, {LOAD_CORE})
    report = measure(chosen.bundle, chosen.seconds)
    if chosen.output is not None:
        chosen.output.write_text(json.dumps(report, indent=1) + "\n")
    for line in lines(report):
        sys.stdout.write(f"{line}\n")
    return 0


def measure(bundle: Path, seconds: int) -> dict[str, Any]:
    """Both kinds of request, each on a service of its own."""
    neighbours = Neighbours()
    images = made_images()
    singles = Body("/v1/encode", PNG, JSON, write_image(images[0]))
    arrays = Body("/v1/encode", NPY, NPY, write_array(images), BATCH)
    with plain_server(bundle) as plain:
        plain.wait_ready()
        nothing = Body("/noop", PNG, JSON, b"")
        before = plain.processor_seconds()
        seen = burst(plain.url, nothing, connections=CALLERS, seconds=seconds, core=LOAD_CORE)
        cheapest = (plain.processor_seconds() - before) / seen.requests
    kinds = {
        "single images": _kind(bundle, singles, seconds),
        "arrays of 64": _kind(bundle, arrays, seconds),
    }
    return {
        "hardware": processor_name(),
        "stolen_share": neighbours.share(),
        "cheapest_answer_seconds": cheapest,
        **kinds,
    }


def _kind(bundle: Path, body: Body, seconds: int) -> dict[str, Any]:
    port = free_port()
    command = [sys.executable, "-m", "service", "--bundle", str(bundle), "--device", "cpu"]
    with Server(
        "vqtok", [*command, "--port", str(port)], port, ready="/health/ready", cores=[SERVER_CORE]
    ) as server:
        server.wait_ready()
        lone_before = burst(server.url, body, connections=LONE, seconds=seconds, core=LOAD_CORE)
        before = server.processor_seconds()
        usual = burst(server.url, body, connections=CALLERS, seconds=seconds, core=LOAD_CORE)
        cost = (server.processor_seconds() - before) / usual.requests
        capacity = usual.requests / usual.seconds
        crowd = _crowd(server, body, capacity, seconds)
        time.sleep(1.0)
        lone_after = burst(server.url, body, connections=LONE, seconds=seconds, core=LOAD_CORE)
    refusals = crowd.refused * crowd.seconds
    beyond = crowd.processor_seconds - crowd.done * crowd.seconds * cost
    return {
        "capacity": capacity,
        "asked": crowd.asked,
        "done": crowd.done,
        "refused": crowd.refused,
        "others": {str(status): count for status, count in crowd.others.items()},
        "refusal_seconds": beyond / refusals if refusals > MANY_REFUSALS else None,
        "memory_bytes": crowd.memory_bytes,
        "lone_p50_before": lone_before.p50,
        "lone_p50_after": lone_after.p50,
    }


def _crowd(server: Server, body: Body, capacity: float, seconds: int) -> Crowd:
    """`TIMES` the capacity, if the load generator can ask for so much."""
    before = server.processor_seconds()
    if body.num_images == 1:
        seen = burst(server.url, body, connections=CROWD, seconds=seconds, core=LOAD_CORE)
        used = server.processor_seconds() - before
        rates = (seen.requests / seen.seconds, seen.refused / seen.seconds)
        others = {0: seen.broken} if seen.broken else {}
        return Crowd(sum(rates), *rates, others, used, seen.seconds, server.memory())
    shots = asyncio.run(_offer(server.url, body, TIMES * capacity, seconds))
    used = server.processor_seconds() - before
    statuses = Counter(shot.status for shot in shots)
    # All that was accepted is answered in the end: the time until then counts.
    length = max(shot.done for shot in shots)
    others = {status: n for status, n in statuses.items() if status not in (OK, BUSY)}
    return Crowd(
        len(shots) / seconds,
        statuses[OK] / length,
        statuses[BUSY] / length,
        others,
        used,
        length,
        server.memory(),
    )


async def _offer(url: str, body: Body, rate: float, seconds: float) -> list[Shot]:
    connections = Connections(url, {}, seconds=120.0)
    headers = {"Content-Type": body.content_type, "Accept": body.accept}
    request = Request(body.path, headers, body.data, body.num_images)
    shots = await open_loop(connections.send, [request], rate, seconds, seed=0)
    await connections.close()
    return shots


def lines(report: Mapping[str, Any]) -> list[str]:
    """What was found, in words."""
    found = [f"{report['hardware']}; {in_words(report['stolen_share'])}"]
    for name in ("single images", "arrays of 64"):
        found += _in_words(name, report[name], report["cheapest_answer_seconds"])
    return found


def _in_words(name: str, seen: Mapping[str, Any], cheapest: float) -> list[str]:
    share = seen["done"] / seen["capacity"]
    asked = seen["asked"] / seen["capacity"]
    others = seen["others"] or "nothing"
    slower = seen["lone_p50_after"] / seen["lone_p50_before"]
    found = [
        f"{name}: {seen['capacity']:.1f} requests/s at most; {asked:.1f} times as many asked for",
        (
            f"  done {100 * share:.1f} % of that; refused {seen['refused']:.0f} a second; "
            f"answered otherwise: {others}"
        ),
        (
            f"  memory {seen['memory_bytes'] / 2**20:.0f} MiB; "
            f"afterwards a lone request takes {slower:.2f} times as long as before"
        ),
    ]
    refusal = seen["refusal_seconds"]
    if refusal is not None:
        left = 1 - seen["refused"] * refusal
        found.append(
            f"  a refusal costs {1e6 * refusal:.0f} µs, {refusal / cheapest:.2f} cheapest answers; "
            f"done {100 * share / left:.1f} % of what they leave"
        )
    return found


if __name__ == "__main__":
    sys.exit(main())

"""What a lone caller waits for, beside the model in a process and a route that does nothing.

    python -m benchmarks.serving.lone_latency

One PNG of the native size at a time. The server has one core and the load another; decoding and
onnxruntime without any server run on the server's core. All are measured in turn, many times over.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from benchmarks.serving.processes import (
    ROOT,
    Neighbours,
    Server,
    in_words,
    processor_name,
    require_programs,
)
from benchmarks.serving.servers import (
    JSON,
    LOAD_CORE,
    PNG,
    SERVER_CORE,
    made_images,
    plain_server,
    service_server,
)
from benchmarks.serving.wrk import Body, burst
from vqtok.images import write_image

BARE = """\
import sys, time
from pathlib import Path
from vqtok.bundle import Bundle
from vqtok.images import read_image
from vqtok.runtime.onnx import open_engine
engine = open_engine(Bundle.open(sys.argv[1]), "cpu", num_threads=1)
data = Path(sys.argv[2]).read_bytes()
seconds = []
started = time.perf_counter()
while time.perf_counter() - started < float(sys.argv[3]):
    begun = time.perf_counter()
    engine.encode(read_image(data)[None])
    seconds.append(time.perf_counter() - begun)
seconds.sort()
print(seconds[len(seconds) // 2], seconds[int(0.99 * len(seconds))])
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; the report as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path("bundles/cifar10-gmvq"))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args(arguments)
    require_programs("wrk", "taskset")
    report = measure(chosen.bundle, chosen.rounds, chosen.seconds)
    if chosen.output is not None:
        chosen.output.write_text(json.dumps(report, indent=1) + "\n")
    for line in lines(report):
        sys.stdout.write(f"{line}\n")
    return 0


def measure(bundle: Path, rounds: int, seconds: int) -> dict[str, Any]:
    """(median, 99th percentile) in seconds of each thing that is compared, a list over rounds."""
    picture = write_image(made_images()[0])
    encode = Body("/v1/encode", PNG, JSON, picture)
    nothing = Body("/noop", PNG, JSON, picture)
    seen: dict[str, list[tuple[float, float]]] = {"bare": [], "service": [], "nothing": []}
    neighbours = Neighbours()
    with ExitStack() as stack:
        service = stack.enter_context(service_server(bundle)).wait_ready()
        plain = stack.enter_context(plain_server(bundle)).wait_ready()
        for _ in track(range(rounds), "measuring"):
            seen["bare"].append(_bare(bundle, picture, seconds))
            seen["service"].append(_waits(service, encode, seconds))
            seen["nothing"].append(_waits(plain, nothing, seconds))
    return {
        "hardware": processor_name(),
        "stolen_share": neighbours.share(),
        "seconds": seconds,
        "seen": seen,
    }


def lines(report: Mapping[str, Any]) -> list[str]:
    """What was found, in words: medians over the rounds, and of ratios within a round."""
    seen = {name: np.array(each) for name, each in report["seen"].items()}
    names = {
        "bare": "decoding and model in a process",
        "service": "the service",
        "nothing": "a route of FastAPI that does nothing",
    }
    found = [
        f"{names[name]}: median {1e6 * p50:.0f} µs, p99 {1e6 * p99:.0f} µs"
        for name, (p50, p99) in ((name, np.median(each, axis=0)) for name, each in seen.items())
    ]
    ratios = seen["service"][:, 0] / seen["bare"][:, 0]
    low, middle, high = np.quantile(ratios, [0.025, 0.5, 0.975])
    return [
        *found,
        f"the service's median is {middle:.2f} ({low:.2f} to {high:.2f}) of that in a process",
        in_words(report["stolen_share"]),
    ]


def _bare(bundle: Path, picture: bytes, seconds: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "picture.png")
        path.write_bytes(picture)
        command = ["taskset", "-c", str(SERVER_CORE), sys.executable, "-c", BARE]
        done = subprocess.run(
            [*command, str(bundle), str(path), str(seconds)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    median, p99 = map(float, done.stdout.split())
    return median, p99


def _waits(server: Server, body: Body, seconds: int) -> tuple[float, float]:
    burst(server.url, body, connections=1, seconds=1, core=LOAD_CORE)
    seen = burst(server.url, body, connections=1, seconds=seconds, core=LOAD_CORE)
    if seen.broken or seen.refused or not seen.requests:
        raise RuntimeError(f"{server.name} {body.path}: {seen}")
    return seen.p50, seen.p99


if __name__ == "__main__":
    sys.exit(main())

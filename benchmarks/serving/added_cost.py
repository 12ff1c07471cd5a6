"""What the service adds to the model, by the operating system's accounts.

    python -m benchmarks.serving.added_cost

The server has one core and the load another. What a server uses a request is its processor time
over the requests that it answered; what it adds is that less what onnxruntime alone uses for the
same images, measured in a process on the server's core. All are measured in turn, many times over.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from benchmarks.serving.processes import ROOT, Server, free_port, require_programs
from benchmarks.serving.wrk import Body, burst
from vqtok.images import write_image
from vqtok.wire.npy_format import write_array

SERVER_CORE, LOAD_CORE = 0, 1
JSON, NPY, PNG = "application/json", "application/x-npy", "image/png"
BATCH = 64

RAW = """\
import sys, time
import numpy as np
from vqtok.bundle import Bundle
from vqtok.runtime.onnx import open_engine
engine = open_engine(Bundle.open(sys.argv[1]), "cpu", num_threads=1)
images = np.load(sys.argv[2])
size = int(sys.argv[3])
engine.encode(images[:size])
started, done = time.process_time(), 0
while time.process_time() - started < 1.0:
    for first in range(0, len(images), size):
        engine.encode(images[first : first + size])
        done += len(images[first : first + size])
print((time.process_time() - started) / done)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; the report as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path("bundles/cifar10-gmvq"))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args(arguments)
    require_programs("wrk", "taskset")
    report = measure(chosen.bundle, chosen.rounds, chosen.seconds)
    if chosen.output is not None:
        chosen.output.write_text(json.dumps(report, indent=1) + "\n")
    for line in lines(report):
        sys.stdout.write(f"{line}\n")
    return 0


def measure(bundle: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """Processor seconds an image of each thing that is compared, a list over the rounds."""
    images = made_images()
    one = Body("/v1/encode", PNG, JSON, write_image(images[0]))
    many = Body("/v1/encode", NPY, NPY, write_array(images), BATCH)
    with ExitStack() as stack:
        service = stack.enter_context(service_server(bundle)).wait_ready()
        plain = stack.enter_context(plain_server(bundle)).wait_ready()
        pictures = stack.enter_context(_saved(images))
        things: dict[str, Callable[[], float]] = {
            "raw, 1 at a time": lambda: _raw(bundle, pictures, 1),
            "raw, 8 at a time": lambda: _raw(bundle, pictures, 8),
            "raw, 64 at a time": lambda: _raw(bundle, pictures, 64),
            "service, PNG": lambda: _cost(service, one, 16, seconds),
            "service, npy of 64": lambda: _cost(service, many, 2, seconds),
            "plain, PNG": lambda: _cost(plain, _at(one, "/encode"), 16, seconds),
            "plain, npy of 64": lambda: _cost(plain, _at(many, "/encode"), 2, seconds),
            "plain, PNG without a model": lambda: _cost(
                plain, _at(one, "/decode-only"), 16, seconds
            ),
            "plain, nothing": lambda: _cost(plain, _at(one, "/noop"), 16, seconds),
        }
        seen: dict[str, list[float]] = {name: [] for name in things}
        for _ in track(range(rounds), "measuring"):
            for name, thing in things.items():
                seen[name].append(thing())
    return {"seconds_an_image": seen, "rounds": rounds}


def lines(report: Mapping[str, Any]) -> list[str]:
    """What was found, in words: medians over the rounds of ratios within a round."""
    seen = {name: np.array(v) for name, v in report["seconds_an_image"].items()}
    raw = {number: seen[f"raw, {number} at a time"] for number in (1, 8, BATCH)}
    bare = seen["plain, PNG without a model"]
    found = [
        f"{name}: {1e6 * statistics.median(each):.0f} µs an image" for name, each in seen.items()
    ]
    for server in ("service", "plain"):
        added = (seen[f"{server}, PNG"] - raw[1]) / bare
        found.append(f"{server} adds to a PNG {_middle(added)} of a plain route without a model")
        for number in (BATCH, 8):
            share = 100 * (seen[f"{server}, npy of 64"] / raw[number] - 1)
            found.append(
                f"{server} adds to npy of 64 {_middle(share)} % of the model, {number} at a time"
            )
    return found


def _middle(values: np.ndarray) -> str:
    low, middle, high = np.quantile(values, [0.025, 0.5, 0.975])
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


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


@contextmanager
def _saved(images: np.ndarray) -> Generator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "images.npy"), images)
        yield Path(folder, "images.npy")


def model_seconds(bundle: Path, size: int = 8) -> float:
    """Processor seconds an image of onnxruntime alone, so many at a time."""
    with _saved(made_images()) as pictures:
        return _raw(bundle, pictures, size)


def made_images() -> np.ndarray:
    """64 images of the native size, of coarse noise: uint8 (64, 32, 32, 3)."""
    coarse = np.random.default_rng(0).integers(0, 256, (BATCH, 8, 8, 3)).astype(np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


def _raw(bundle: Path, pictures: Path, size: int) -> float:
    command = ["taskset", "-c", str(SERVER_CORE), sys.executable, "-c", RAW]
    done = subprocess.run(
        [*command, str(bundle), str(pictures), str(size)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def _cost(server: Server, body: Body, connections: int, seconds: float) -> float:
    before = server.processor_seconds()
    seen = burst(server.url, body, connections=connections, seconds=seconds, core=LOAD_CORE)
    time.sleep(0.2)
    if seen.broken or seen.refused or not seen.requests:
        raise RuntimeError(f"{server.name} {body.path}: {seen}")
    return (server.processor_seconds() - before) / (seen.requests * body.num_images)


if __name__ == "__main__":
    sys.exit(main())

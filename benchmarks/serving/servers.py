"""The two servers on a core of their own that several benchmarks compare, and images to send."""

import sys
from pathlib import Path

import numpy as np

from benchmarks.serving.processes import Server, free_port

SERVER_CORE, LOAD_CORE = 0, 1
JSON, NPY, PNG = "application/json", "application/x-npy", "image/png"
BATCH = 64


def service_server(bundle: Path, clock: Path | None = None) -> Server:
    """vqtok on the server's core; with the file of a `SessionClock` its model is counted."""
    port = free_port()
    module = ["service"]
    if clock is not None:
        module = ["benchmarks.serving.counted_service", str(clock)]
    flags = ["--bundle", str(bundle), "--device", "cpu", "--port", str(port)]
    return Server(
        "vqtok",
        [sys.executable, "-m", *module, *flags],
        port,
        ready="/health/ready",
        cores=[SERVER_CORE],
    )


def plain_server(bundle: Path, clock: Path | None = None) -> Server:
    """As `service_server`, what a user would write in an afternoon."""
    port = free_port()
    app, environment = "app", {"BENCH_BUNDLE": str(bundle)}
    if clock is not None:
        app, environment["BENCH_CLOCK"] = "counted", str(clock)
    return Server(
        "plain FastAPI",
        [
            sys.executable,
            "-m",
            "uvicorn",
            f"benchmarks.serving.plain.{app}:app",
            "--port",
            str(port),
            "--no-access-log",
        ],
        port,
        ready="/ready",
        cores=[SERVER_CORE],
        environment=environment,
    )


def made_images() -> np.ndarray:
    """64 images of the native size, of coarse noise: uint8 (64, 32, 32, 3)."""
    coarse = np.random.default_rng(0).integers(0, 256, (BATCH, 8, 8, 3)).astype(np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)

"""The servers that are compared, each with the settings of its documentation that are tried."""

import base64
import json
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.serving.processes import ROOT
from benchmarks.serving.wrk import Body

PEERS = ROOT / "benchmarks" / "peers"
JPEG, JSON = "image/jpeg", "application/json"
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Start:
    """How a server is started: a command, in a folder, with these variables."""

    command: Sequence[str]
    folder: Path = ROOT
    environment: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Contender:
    """A server of the same encoder. `start(python, bundle, port, settings)`, `body(jpeg)` is the
    request for one image, `ready` a path that answers 200. `python` is what its environment is made
    with, None for ours.
    """

    name: str
    start: Callable[[str, Path, int, Settings], Start]
    body: Callable[[bytes], Body]
    ready: str
    candidates: Sequence[Settings]
    python: str | None = "python3"

    @property
    def requirements(self) -> Path:
        """What its environment holds."""
        return PEERS / self.name / "requirements.txt"


def _vqtok(python: str, bundle: Path, port: int, settings: Settings) -> Start:
    flags = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    command = [python, "-m", "service", "--bundle", str(bundle), "--device", "cpu"]
    return Start([*command, "--port", str(port), *flags])


def _plain(python: str, bundle: Path, port: int, settings: Settings) -> Start:
    app = "benchmarks.serving.plain.app:app"
    command = [python, "-m", "uvicorn", app, "--port", str(port), "--no-access-log"]
    flags = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    return Start([*command, *flags], environment={"BENCH_BUNDLE": str(bundle)})


def _script(name: str) -> Callable[[str, Path, int, Settings], Start]:
    def start(python: str, bundle: Path, port: int, settings: Settings) -> Start:
        graph = str((bundle / "encoder.onnx").resolve())
        own = ["--port", str(port), "--graph", graph, "--settings", json.dumps(settings)]
        return Start([python, "serve.py", *own], PEERS / name)

    return start


def _bentoml(python: str, bundle: Path, port: int, settings: Settings) -> Start:
    program = str(Path(python).with_name("bentoml"))
    return Start(
        [program, "serve", "serve:Encoder", "--host", "127.0.0.1", "--port", str(port)],
        PEERS / "bentoml",
        {
            "PEER_GRAPH": str((bundle / "encoder.onnx").resolve()),
            "PEER_SETTINGS": json.dumps(settings),
            "BENTOML_DO_NOT_TRACK": "1",
            "DO_NOT_TRACK": "1",
        },
    )


def _in_json(path: str, wrap: Callable[[str], Any]) -> Callable[[bytes], Body]:
    def body(jpeg: bytes) -> Body:
        text = base64.b64encode(jpeg).decode()
        return Body(path, JSON, JSON, json.dumps(wrap(text)).encode())

    return body


def _oip_json(text: str) -> Any:
    return {"inputs": [{"name": "image", "shape": [1, 1], "datatype": "BYTES", "data": [text]}]}


def _oip_binary(jpeg: bytes) -> Body:
    data = struct.pack("<I", len(jpeg)) + jpeg
    head = {
        "inputs": [
            {
                "name": "image",
                "shape": [1, 1],
                "datatype": "BYTES",
                "parameters": {"binary_data_size": len(data)},
            }
        ],
        "outputs": [{"name": "tokens", "parameters": {"binary_data": True}}],
    }
    text = json.dumps(head).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    path, binary = "/v2/models/encoder/infer", "application/octet-stream"
    return Body(path, binary, "*/*", text + data, headers=headers)


def _batches(
    size: str, delay: str, sizes: Sequence[int], delays: Sequence[float]
) -> list[Settings]:
    return [{size: each, delay: wait} for each in sizes for wait in delays]


CONTENDERS: Sequence[Contender] = (
    Contender(
        "vqtok",
        _vqtok,
        lambda jpeg: Body("/v1/encode", JPEG, JSON, jpeg),
        "/health/ready",
        [{}],
        python=None,
    ),
    Contender(
        "plain FastAPI",
        _plain,
        lambda jpeg: Body("/encode", JPEG, JSON, jpeg),
        "/ready",
        [{}],
        python=None,
    ),
    Contender(
        "litserve",
        _script("litserve"),
        _in_json("/predict", lambda text: {"image": text}),
        "/health",
        [
            *_batches("max_batch_size", "batch_timeout", (1, 8), (0.0, 0.002)),
            {"max_batch_size": 8, "batch_timeout": 0.01},
            {"max_batch_size": 16, "batch_timeout": 0.002},
            {"max_batch_size": 8, "batch_timeout": 0.002, "fast_queue": True},
            {"max_batch_size": 8, "batch_timeout": 0.002, "workers_per_device": 2},
        ],
    ),
    Contender(
        "bentoml",
        _bentoml,
        _in_json("/encode", lambda text: {"images": [text]}),
        "/readyz",
        [
            *_batches("max_batch_size", "max_latency_ms", (8, 16), (100, 1000)),
            {"batchable": False},
            {"batchable": False, "threads": 2},
            {"max_batch_size": 8, "max_latency_ms": 1000, "metrics": False},
            {"batchable": False, "metrics": False},
        ],
    ),
    Contender(
        "mlserver",
        _script("mlserver"),
        _in_json("/v2/models/encoder/infer", _oip_json),
        "/v2/models/encoder/ready",
        [
            {},
            {"parallel_workers": 1},
            *_batches("max_batch_size", "max_batch_time", (8, 16), (0.002, 0.01)),
            {"max_batch_size": 8, "max_batch_time": 0.002, "parallel_workers": 1},
        ],
    ),
    Contender(
        "triton",
        _script("triton"),
        _oip_binary,
        "/v2/models/encoder/ready",
        [
            *(
                {"max_batch_size": 8, "max_queue_delay_microseconds": delay}
                for delay in (0, 500, 2000)
            ),
            {"max_batch_size": 16, "max_queue_delay_microseconds": 500},
            {"max_batch_size": 8, "preferred_batch_size": [8]},
            {"max_batch_size": 8, "http_thread_count": 2},
            {"max_batch_size": 8, "instances": 2},
        ],
        # Its stub loads the system's libpython.
        python="/usr/bin/python3",
    ),
)


def interpreter(contender: Contender, environments: Path) -> str:
    """The Python that runs it."""
    if contender.python is None:
        return sys.executable
    return str(environments / contender.name / "bin" / "python")

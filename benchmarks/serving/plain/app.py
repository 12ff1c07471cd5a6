"""What a user would write in an afternoon, to compare with.

    uvicorn benchmarks.serving.plain.app:app

Three routes: one that does nothing, one that decodes a picture and answers made-up tokens, and the
encoder behind FastAPI with a thread pool, without batching, limits, checks or metrics.
"""

import asyncio
import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import orjson
from fastapi import FastAPI, Request, Response
from PIL import Image

BUNDLE = Path(os.environ.get("BENCH_BUNDLE", "bundles/cifar10-gmvq"))
TOKENS = np.arange(64, dtype=np.uint16).reshape(1, 8, 8)
JSON = "application/json"
NPY = "application/x-npy"

app = FastAPI()


def _session() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        BUNDLE / "encoder.onnx", options, providers=["CPUExecutionProvider"]
    )


session = _session()
input_name = session.get_inputs()[0].name
output_name = session.get_outputs()[0].name
pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))


@app.get("/ready")
async def ready() -> Response:
    """200."""
    return Response(b"{}", media_type=JSON)


@app.post("/noop")
async def noop(request: Request) -> Response:
    """Reads the body and answers."""
    await request.body()
    return Response(b"{}", media_type=JSON)


@app.post("/decode-only")
async def decode_only(request: Request) -> Response:
    """Decodes a picture and answers tokens that have nothing to do with it."""
    pixels = _pixels(await request.body())
    assert pixels.ndim == 4
    return Response(_dump(TOKENS), media_type=JSON)


@app.post("/encode")
async def encode(request: Request) -> Response:
    """Tokens of a picture, or of pixels as npy."""
    body = await request.body()
    as_array = request.headers.get("content-type") == NPY
    tokens = await asyncio.get_running_loop().run_in_executor(pool, _encode, body, as_array)
    if request.headers.get("accept") == NPY:
        return Response(_npy(tokens), media_type=NPY)
    return Response(_dump(tokens), media_type=JSON)


def _encode(body: bytes, as_array: bool) -> np.ndarray:
    pixels = np.load(io.BytesIO(body)) if as_array else _pixels(body)
    (tokens,) = session.run([output_name], {input_name: pixels})
    return np.asarray(tokens).astype(np.uint16)


def _pixels(body: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(body)).convert("RGB"))[None]


def _dump(tokens: np.ndarray) -> bytes:
    return orjson.dumps({"tokens": tokens}, option=orjson.OPT_SERIALIZE_NUMPY)


def _npy(tokens: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, tokens)
    return buffer.getvalue()

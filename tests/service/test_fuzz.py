"""No input gives a 500: bodies that begin right and go wrong, sent to every working route."""

import random
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from service.openapi import examples
from tests.service.load import png, probed
from tests.service.process import ServiceProcess
from tests.service.streams import example_stream
from vqtok.images import write_image
from vqtok.wire.bitstream_format import MEDIA_TYPE as BITSTREAM
from vqtok.wire.json_writing import dump
from vqtok.wire.npy_format import write_array

MANY_CALLS = 100_000

Bodies = Sequence[tuple[dict[str, str], bytes]]
Capture = pytest.CaptureFixture[str]
PIXELS = examples.example_pixels()
FORM = {"Content-Type": "multipart/form-data; boundary=x"}
PART = b'--x\r\nContent-Disposition: form-data; name="images"\r\n\r\n'
IMAGES = [
    ({"Content-Type": "image/png"}, png(1)),
    ({"Content-Type": "image/jpeg"}, write_image(PIXELS, "jpeg")),
    ({"Content-Type": "image/webp"}, write_image(PIXELS, "webp")),
    ({"Content-Type": "application/x-npy"}, write_array(PIXELS[None])),
    ({"Content-Type": "application/json"}, dump(examples.IMAGES_SENT)),
    (FORM, PART + png(2) + b"\r\n--x--\r\n"),
]
TOKENS = [
    ({"Content-Type": "application/json"}, dump(examples.TOKENS_SENT)),
    ({"Content-Type": "application/x-npy"}, write_array(np.zeros((2, 3, 3), np.int32))),
    ({"Content-Type": BITSTREAM}, example_stream()),
]
SAMPLES = [
    ({"Content-Type": "application/json"}, dump(document))
    for document in (examples.SAMPLE_SENT, examples.PAINTED_IN_SENT)
]
QUERIES = [
    "",
    "?on_error=item",
    "?detail=bits",
    "?coder=static",
    "?preprocess=adm_center_crop",
    "?size=3x3",
    "?layout=flat",
]
ACCEPTS = ["application/json", "application/json", "application/x-npy", "*/*"]
ACCEPTS_OF_TOKENS = [*ACCEPTS, BITSTREAM]


def _mutated(rng: random.Random, body: bytes) -> bytes:
    data = bytearray(body)
    for _ in range(rng.choice([0, 0, 0, 1, 1, 8])):
        position = rng.randrange(len(data) + 1)
        kind = rng.randrange(4)
        if kind == 0 and position < len(data):
            data[position] = rng.randrange(256)
        elif kind == 1:
            data[position:position] = rng.randbytes(rng.randrange(1, 9))
        elif kind == 2:
            del data[position : position + rng.randrange(1, 9)]
        elif len(data) > 1:
            digits = [index for index, byte in enumerate(data) if 48 <= byte <= 57]
            if digits:
                data[rng.choice(digits)] = rng.choice(b"-0123456789.e[]")
    return bytes(data)


def _more_images(data_dir: Path) -> list[tuple[dict[str, str], bytes]]:
    """Real files, valid and hostile, of at most 20 kB: alone, in a form and in JSON."""
    files = [p for p in sorted((data_dir / "odd-images").rglob("*")) if p.is_file()]
    small = [data for data in (p.read_bytes() for p in files) if 0 < len(data) <= 20_000]
    alone = [({"Content-Type": "image/*"}, data) for data in small]
    forms = [(FORM, PART + data + b"\r\n--x--\r\n") for data in small[::4]]
    json = {"Content-Type": "application/json"}
    coded = [(json, dump({"images": [b64encode(data).decode()]})) for data in small[::4]]
    return [*alone, *forms, *coded]


def _bodies(images: Bodies) -> dict[str, Bodies]:
    return {
        "/v1/encode": images,
        "/v1/reconstruct": images,
        "/v1/decode": TOKENS,
        "/v1/sample": SAMPLES,
    }


def _call(client: httpx.Client, rng: random.Random, routes: Mapping[str, Bodies]) -> int:
    """The status of a hostile call, which is no failure of the service."""
    path, bodies = rng.choice(list(routes.items()))
    headers, body = rng.choice(bodies)
    query = rng.choice(QUERIES) if rng.random() < 0.2 else ""
    # Only tokens of images are sent as a bitstream; elsewhere such a call ends before it begins.
    accept = rng.choice(ACCEPTS_OF_TOKENS if path == "/v1/encode" else ACCEPTS)
    answer = client.post(
        path + query, content=_mutated(rng, body), headers={**headers, "Accept": accept}
    )
    assert answer.status_code < 500, (path, query, headers, body, answer.text)
    return answer.status_code


def _check(seen: Counter[int], service: ServiceProcess, capsys: Capture) -> None:
    calls = seen.total()
    with capsys.disabled():
        print(f"\nstatuses of {calls:,} mutated requests: {dict(sorted(seen.items()))}")  # noqa: T201
    assert not [line for line in service.log if "defect" in line]
    assert calls - seen[406] - seen[415] - seen[400] >= calls / 2


def test_no_mutated_body_gives_a_500(
    service: ServiceProcess, client: httpx.Client, capsys: Capture
) -> None:
    rng, routes = random.Random(1), _bodies(IMAGES)
    _check(Counter(_call(client, rng, routes) for _ in range(600)), service, capsys)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_hostile_calls_do_no_harm(
    service: ServiceProcess, data_dir: Path, capsys: Capture
) -> None:
    routes = _bodies([*IMAGES * 20, *_more_images(data_dir)])
    threads = 4

    def run(seed: int) -> Counter[int]:
        rng = random.Random(seed)
        with httpx.Client(base_url=service.url, timeout=60) as client:
            return Counter(_call(client, rng, routes) for _ in range(MANY_CALLS // threads))

    live = probed(service.url, lambda client: client.get("/health/live"), 0.05)
    with live as probes, ThreadPoolExecutor(threads) as pool:
        seen = sum(pool.map(run, range(threads)), Counter[int]())
    with capsys.disabled():
        print(f"\n{len(probes)} probes, the slowest took {max(probes):.3f} s")  # noqa: T201
    assert seen.total() >= MANY_CALLS
    _check(seen, service, capsys)

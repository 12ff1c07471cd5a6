"""No input gives a 500: bodies that begin right and go wrong, sent to every working route."""

import random
from collections import Counter

import httpx
import numpy as np
import pytest

from service.openapi import examples
from tests.service.load import png
from tests.service.process import ServiceProcess
from vqtok.images import write_image
from vqtok.wire.json_format import dump
from vqtok.wire.npy_format import write_array

NUM_CALLS = 600
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
]
SAMPLES = [({"Content-Type": "application/json"}, dump(examples.SAMPLE_SENT))]
ROUTES = {
    "/v1/encode": IMAGES,
    "/v1/reconstruct": IMAGES,
    "/v1/decode": TOKENS,
    "/v1/sample": SAMPLES,
}
QUERIES = ["", "?on_error=item", "?preprocess=adm_center_crop", "?size=3x3", "?layout=flat"]
ACCEPTS = ["application/json", "application/json", "application/x-npy", "*/*"]


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


@pytest.mark.parametrize("seed", [1])
def test_no_mutated_body_gives_a_500(
    service: ServiceProcess, client: httpx.Client, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(seed)
    seen: Counter[int] = Counter()
    for _ in range(NUM_CALLS):
        path, bodies = rng.choice(list(ROUTES.items()))
        headers, body = rng.choice(bodies)
        query = rng.choice(QUERIES) if rng.random() < 0.2 else ""
        accept = rng.choice(ACCEPTS)
        answer = client.post(
            path + query, content=_mutated(rng, body), headers={**headers, "Accept": accept}
        )
        seen[answer.status_code] += 1
        assert answer.status_code < 500, (path, query, headers, body, answer.text)
    assert not [line for line in service.log if "defect" in line]
    with capsys.disabled():
        print(f"\nstatuses of {NUM_CALLS} mutated requests: {dict(sorted(seen.items()))}")  # noqa: T201
    past_the_format = NUM_CALLS - seen[406] - seen[415] - seen[400]
    assert past_the_format >= NUM_CALLS / 2

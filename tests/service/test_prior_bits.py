"""`detail=bits` under a learned prior: exact, counted as work, and no stream of it."""

import asyncio
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.app import create_app
from service.batch import Observer
from service.costs import CostModel
from service.model import Model, Report, open_model
from service.settings import Settings
from tests.service.process import ServiceProcess
from tests.service.test_app import running_app
from tests.vqtok.tiny_bundle import smooth_images, write_tiny_bundle
from vqtok.bitstream import PRIOR, StreamHeader, stream_bytes
from vqtok.images import write_image
from vqtok.tokenizer import Tokenizer
from vqtok.wire.npy_format import write_array

STREAM, JSON, NPY = "application/vnd.vqtok.tokens", "application/json", "application/x-npy"
SIZES = [(32, 32), (40, 36), (32, 32), (31, 30)]
NATIVE = smooth_images(20, 32, 32)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles"), prior=True)


@pytest.fixture(scope="module")
def tokenizer(bundle: Path) -> Generator[Tokenizer]:
    with Tokenizer.open(bundle, "cpu") as opened:
        yield opened


@pytest.fixture(scope="module")
def client(bundle: Path) -> Generator[httpx.Client]:
    with ServiceProcess(["--bundle", str(bundle), "--device", "cpu"]) as running:
        running.wait_ready()
        with httpx.Client(base_url=running.url, timeout=60) as opened:
            yield opened


def encode(client: httpx.Client, pixels: Any, **params: str) -> httpx.Response:
    headers = {"Content-Type": NPY, "Accept": JSON}
    params = {"detail": "bits", **params}
    return client.post("/v1/encode", content=write_array(pixels), params=params, headers=headers)


def assert_bits(answer: httpx.Response, tokenizer: Tokenizer) -> None:
    """Those that the bundle in this process says of the tokens of the answer."""
    assert answer.status_code == 200, answer.text
    items = answer.json()["items"]
    expected = tokenizer.bits_per_image([np.array(item["tokens"]) for item in items])
    for item, rates in zip(items, expected, strict=True):
        bits = rates[PRIOR].bits
        if bits is None:
            assert item["rates"]["prior"] == {"bits": None, "reason": rates[PRIOR].reason}
        else:
            assert item["rates"]["prior"] == {"bits": pytest.approx(bits, rel=1e-12)}
        assert item["rates"]["fixed"] == {"bits": rates["fixed"].bits}


def test_the_bits_are_those_of_the_bundle_in_this_process(
    client: httpx.Client, tokenizer: Tokenizer
) -> None:
    answer = encode(client, NATIVE)
    assert_bits(answer, tokenizer)
    drawn = tokenizer.sample(3, seed=5)
    rates = tokenizer.bits_per_image(drawn.tokens)
    assert [each[PRIOR].bits for each in rates] == pytest.approx(drawn.bits.tolist())
    assert all(item["rates"]["prior"]["bits"] > 0 for item in answer.json()["items"])


def test_other_grids_have_none_and_say_why(client: httpx.Client, tokenizer: Tokenizer) -> None:
    pictures = [write_image(smooth_images(1, *size, i)[0]) for i, size in enumerate(SIZES)]
    files = [("images", (f"{i}", data)) for i, data in enumerate([*pictures, b"no image"])]
    answer = client.post(
        "/v1/encode", files=files, params={"detail": "bits", "on_error": "item"},
        headers={"Accept": JSON},
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    *items, failed = answer.json()["items"]
    assert "error" in failed
    reasons = [item["rates"]["prior"].get("reason") for item in items]
    assert reasons == [None, "the grid 10x9 is not the native one, 8x8", None, None]
    rates = tokenizer.bits_per_image([np.array(item["tokens"]) for item in items])
    found = [item["rates"]["prior"]["bits"] for item in items]
    assert found[1] is rates[1][PRIOR].bits is None
    expected = [each[PRIOR].bits for each in rates]
    del found[1], expected[1]
    assert found == pytest.approx(expected, rel=1e-12)


def test_many_requests_at_once_say_what_each_says_alone(
    client: httpx.Client, tokenizer: Tokenizer
) -> None:
    parts = [NATIVE[first : first + 1 + first % 5] for first in range(15)]
    with ThreadPoolExecutor(8) as pool:
        for answer in pool.map(lambda part: encode(client, part), parts):
            assert_bits(answer, tokenizer)


def test_arrays_that_arrive_in_parts_have_their_bits(
    client: httpx.Client, tokenizer: Tokenizer
) -> None:
    assert_bits(encode(client, smooth_images(400, 32, 32)), tokenizer)


def test_tokens_without_bits_and_other_formats_do_not_ask_the_prior(client: httpx.Client) -> None:
    headers = {"Content-Type": NPY, "Accept": NPY}
    answer = client.post("/v1/encode?detail=bits", content=write_array(NATIVE), headers=headers)
    assert answer.status_code == 200
    assert "rates" not in encode(client, NATIVE, detail="margin").json()["items"][0]


def test_the_coder_is_neither_sent_nor_read(client: httpx.Client, tokenizer: Tokenizer) -> None:
    answer = client.post(
        "/v1/encode?coder=prior", content=write_array(NATIVE),
        headers={"Content-Type": NPY, "Accept": STREAM},
    )  # fmt: skip
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter")
    assert "no service sends any" in answer.json()["detail"]
    header = StreamHeader(codebook_size=32)
    items = tokenizer.encode(list(NATIVE)).images
    pieces = stream_bytes(items, header, tokenizer.coding, PRIOR, machine_bound=True)
    headers = {"Content-Type": STREAM, "Accept": NPY}
    answer = client.post("/v1/decode", content=b"".join(pieces), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter")
    assert "Turn it into tokens where it was written" in answer.json()["detail"]


def test_bits_count_as_the_rows_of_the_prior_that_they_take(bundle: Path) -> None:
    """With a second a row and two groups, four native images fit into ten seconds."""

    def opened(settings: Settings, observer: Observer, report: Report) -> Model:
        model = open_model(settings, observer, report)
        return replace(model, costs=CostModel({"encode": 0.0, "decode": 0.0, "sample": 1.0}))

    app = create_app(
        Settings(bundle=bundle, device="cpu", max_queue_seconds=10.0, threads=1), opened
    )

    async def statuses(client: httpx.AsyncClient) -> list[int]:
        found: list[int] = []
        for pixels, detail in (
            (NATIVE[:4], "bits"), (NATIVE[:6], "bits"), (NATIVE[:6], "margin"),
            (smooth_images(6, 40, 32), "bits"),
        ):  # fmt: skip
            answer = await client.post(
                f"/v1/encode?detail={detail}", content=write_array(pixels),
                headers={"Content-Type": NPY, "Accept": JSON},
            )  # fmt: skip
            found.append(answer.status_code)
        return found

    async def run() -> list[int]:
        async with running_app(app) as client:
            return await statuses(client)

    assert asyncio.run(run()) == [200, 413, 200, 200]
